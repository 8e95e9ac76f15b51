"""Ranks that wait for each other in different places are told so, long before their time limits; nobody else is."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from strata_zmq.protocol import messages as wire

HANG_S = 20.0
LONG_S = 600.0


@pytest.fixture
def stuck(make_job):
    """Three members; `live(seconds, *who)` lets time pass in which everybody's heartbeats come, and these also move."""
    job = make_job(initial_workers=3, hang_s=HANG_S)
    members = job.workers("w0", "w1", "w2")
    beats = iter(range(1, 10_000))

    def live(seconds: float, *moving, silent=()) -> None:
        for _ in range(int(seconds)):
            job.wait(1.0)
            beat = next(beats)
            for member in members:
                if member not in silent:
                    member.heartbeat(progress=beat if member in moving else 0, state="TRAINING")

    return job, members, live


PLACES: dict[str, Callable] = {
    "at barrier 'one' step 1": lambda worker: worker.arrive("one", 1, timeout_s=LONG_S),
    "at barrier 'one' step 2": lambda worker: worker.arrive("one", 2, timeout_s=LONG_S),
    "at barrier 'all' step 3": lambda worker: worker.arrive("all", 3, timeout_s=LONG_S, on_change="reform"),
    "at barrier 'pair' step 4": lambda worker: worker.arrive("pair", 4, timeout_s=LONG_S, expected=2),
    "at commit point 1": lambda worker: worker.commit(timeout_s=LONG_S),
    "for the end of epoch 0": lambda worker: worker.advance(timeout_s=LONG_S),
}


# Two at a barrier of two would be released.
@pytest.mark.parametrize(
    ("here", "there"), [places for places in itertools.permutations(PLACES, 2) if "'pair'" not in places[0]]
)
def test_ranks_that_wait_in_different_places_are_told_who_waits_where(stuck, here: str, there: str) -> None:
    job, (w0, w1, w2), live = stuck
    calls = [PLACES[here](w0), PLACES[here](w2), PLACES[there](w1)]
    live(HANG_S - 2)
    assert all(call.waits for call in calls)
    live(5)
    for call in calls:
        call.refused(
            "invalid_argument",
            "deadlock: all 3 ranks wait",
            f"2 ranks wait {here}: rank 0 (w0), rank 2 (w2)",
            f"1 rank waits {there}: rank 1 (w1)",
            "in the same order",
        )
    assert job.status().counters["deadlocks"] == 1
    assert job.status().barriers == []
    assert job.history.generation == 1, "nobody is taken for lost"
    commits = [worker.commit() for worker in (w0, w1, w2)]
    assert all(call.got(wire.Released).commit_index == 1 for call in commits), "what follows is as if nothing had been"


def test_each_in_a_place_of_its_own_is_a_deadlock_too(stuck) -> None:
    _, (w0, w1, w2), live = stuck
    calls = [w0.arrive("pair", 1, expected=2, timeout_s=LONG_S), w1.commit(timeout_s=LONG_S), w2.advance(0, LONG_S)]
    live(HANG_S + 3)
    for call in calls:
        call.refused("invalid_argument", "rank 0 (w0)", "rank 1 (w1)", "rank 2 (w2)")


def test_a_copy_of_a_request_that_was_given_up_is_given_up_again(stuck) -> None:
    job, (w0, w1, w2), live = stuck
    finished, arrived = (
        w0.event(wire.AdvanceEpoch(epoch=0, timeout_s=LONG_S)),
        w1.event(wire.Arrive(name="a", step=1)),
    )
    job.step(finished, arrived)
    w2.commit(timeout_s=LONG_S)
    live(HANG_S + 3)
    job.step(finished, arrived)
    for client, event in ((w0, finished), (w1, arrived)):
        assert [reply.code for reply in client.calls[event.message.seq].replies] == ["invalid_argument"] * 2
    assert job.status().barriers == []


def test_while_one_member_waits_nowhere_the_others_wait_for_it(stuck) -> None:
    _, (w0, w1, w2), live = stuck
    calls = [w0.advance(timeout_s=LONG_S), w1.commit(timeout_s=LONG_S)]
    live(3 * HANG_S)
    assert all(call.waits for call in calls)
    w2.commit(timeout_s=LONG_S)
    live(HANG_S - 2)
    assert all(call.waits for call in calls), "the time counts from the last arrival"
    live(5)
    assert not any(call.waits for call in calls)


def test_a_worker_that_waits_in_two_places_may_still_bring_what_is_missing_in_a_third(stuck) -> None:
    """Tasks of one worker wait beside each other: as long as one of them moves, nothing is given up."""
    _, (w0, w1, w2), live = stuck
    first = [w0.arrive("one", 1, timeout_s=LONG_S), w1.arrive("two", 1, timeout_s=LONG_S)]
    second = [w2.arrive("one", 1, timeout_s=LONG_S), w2.arrive("two", 1, timeout_s=LONG_S)]
    live(2 * HANG_S, w0)
    assert all(call.waits for call in (*first, *second))
    w0.arrive("two", 1, timeout_s=LONG_S).got(wire.Released)
    live(HANG_S - 4)
    w1.arrive("one", 1, timeout_s=LONG_S).got(wire.Released)
    assert not any(call.waits for call in (*first, *second))


def test_every_arrival_begins_the_time_anew(stuck) -> None:
    _, (w0, w1, w2), live = stuck
    calls = [w0.arrive("one", 1, timeout_s=LONG_S), w1.commit(timeout_s=LONG_S), w2.commit(timeout_s=LONG_S)]
    for step in range(2, 6):
        live(HANG_S - 2)
        calls.append(w0.arrive("one", step, timeout_s=LONG_S))
    assert all(call.waits for call in calls)


def test_who_has_the_shorter_time_limit_may_mean_to_go_on_after_it(stuck) -> None:
    _, (w0, w1, w2), live = stuck
    early = w0.arrive("perhaps", 1, timeout_s=LONG_S / 3)
    calls = [w1.commit(timeout_s=LONG_S), w2.commit(timeout_s=LONG_S)]
    live(LONG_S / 3 + 2)
    early.refused("deadline_exceeded", "w1", "w2")
    w0.commit(timeout_s=LONG_S).got(wire.Released)
    assert not any(call.waits for call in calls)


def test_who_has_fallen_silent_breaks_the_waits_by_its_loss(stuck) -> None:
    """The others' error says that it has left, and that they go on: nobody is told that its code is wrong."""
    job, (w0, w1, w2), live = stuck
    call = w0.commit(timeout_s=LONG_S)
    w1.commit(timeout_s=LONG_S)
    w2.arrive("one", 1, timeout_s=LONG_S)
    live(HANG_S - job.config.lease_s / 2)
    live(job.config.lease_s + 2, silent=(w2,))
    assert call.refused("barrier_broken").left == ["w2"]


def test_who_waits_for_another_generation_knows_of_one(stuck) -> None:
    job, (w0, w1, w2), live = stuck
    leader = w0.join(timeout_s=LONG_S)
    calls = [w1.commit(timeout_s=LONG_S), w0.advance(timeout_s=LONG_S), w2.advance(timeout_s=LONG_S)]
    live(2 * HANG_S)
    assert all(call.waits for call in calls)
    job.worker("w3")
    assert leader.got(wire.Membership).members == ["w0", "w1", "w2", "w3"]


def test_a_newcomer_that_is_on_its_way_ends_the_waits_by_itself(make_job) -> None:
    job = make_job(initial_workers=2, hang_s=4.0, lease_s=60.0, join_window_s=30.0)
    w0, w1 = job.workers("w0", "w1")
    calls = [w0.commit(timeout_s=LONG_S), w1.advance(timeout_s=LONG_S)]
    job.worker("w2")
    job.wait(20.0)
    assert all(call.waits for call in calls)
    job.wait(11.0)
    calls[0].refused("barrier_broken")


def test_a_coordinator_that_did_not_run_gives_nothing_up_for_that(stuck) -> None:
    job, (w0, w1, w2), live = stuck
    calls = [w0.commit(timeout_s=LONG_S), w1.advance(timeout_s=LONG_S), w2.advance(timeout_s=LONG_S)]
    live(HANG_S - 4)
    job.stall(HANG_S)
    live(2)
    assert all(call.waits for call in calls)
    live(5)
    assert not any(call.waits for call in calls)


def test_without_hang_s_only_time_limits_end_a_wait(make_job) -> None:
    job = make_job(initial_workers=2, hang_s=0.0, lease_s=1000.0)
    w0, w1 = job.workers("w0", "w1")
    calls = [w0.commit(timeout_s=100.0), w1.advance(timeout_s=100.0)]
    job.wait(99.0)
    assert all(call.waits for call in calls)
    job.wait(2.0)
    for call in calls:
        call.refused("deadline_exceeded")


def test_a_large_deadlock_names_the_first_and_says_that_there_are_more(make_job) -> None:
    job = make_job(initial_workers=30, hang_s=4.0, lease_s=1000.0)
    workers = job.workers(*(f"w{number}" for number in range(30)))
    calls = [worker.arrive(f"b{number % 15}", 1, timeout_s=LONG_S) for number, worker in enumerate(workers)]
    job.wait(6.0)
    error = calls[0].refused("invalid_argument", "2 ranks wait at barrier 'b0' step 1: rank 0 (w0), rank 15 (w15)")
    assert "and 7 more waits" in error.message
    many = [worker.arrive("all", 2, timeout_s=LONG_S) for worker in workers[1:]]
    workers[0].advance(timeout_s=LONG_S)
    job.wait(6.0)
    many[0].refused("invalid_argument", "29 ranks wait at barrier 'all' step 2: rank 1 (w1)", "rank 8 (w8), ...")
