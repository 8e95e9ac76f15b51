"""Barriers: all arrive before any is released, nobody is released twice, and who waits in vain learns why."""

from __future__ import annotations

from strata_zmq.coordinator.core.barriers import OPEN_MAX
from strata_zmq.coordinator.core.history import OUTCOMES_MAX
from strata_zmq.protocol import messages as wire


def test_nobody_is_released_before_the_last_has_arrived_and_then_everybody_is(trio) -> None:
    _, w0, w1, w2 = trio
    first, second = w1.arrive(), w2.arrive()
    assert first.waits
    assert second.waits
    last = w0.arrive()
    for call in (first, second, last):
        assert call.got(wire.Released).participants == ["w1", "w2", "w0"]


def test_a_second_arrival_of_one_worker_counts_once_and_keeps_its_place(trio) -> None:
    _, w0, w1, w2 = trio
    calls = [w1.arrive(), w0.arrive(), w1.arrive(), w1.arrive()]
    assert all(call.waits for call in calls)
    w2.arrive()
    assert calls[1].got(wire.Released).participants == ["w1", "w0", "w2"]
    assert calls[3].got(wire.Released).participants == ["w1", "w0", "w2"]


def test_a_barrier_that_was_asked_for_again_answers_the_last_question_only(trio) -> None:
    job, w0, w1, w2 = trio
    first = w0.arrive(timeout_s=1.0)
    again = w0.arrive(timeout_s=100.0)
    w1.arrive(timeout_s=100.0)
    job.wait(2.0)
    assert first.waits
    assert again.waits
    w2.arrive()
    again.got(wire.Released)
    assert first.waits


def test_barriers_of_other_names_and_steps_do_not_meet(trio) -> None:
    _, w0, w1, w2 = trio
    calls = [w0.arrive("a", 1), w1.arrive("b", 1), w2.arrive("a", 2)]
    assert all(call.waits for call in calls)


def test_a_barrier_of_fewer_than_all_is_released_by_as_many_as_it_expects(trio) -> None:
    _, w0, w1, w2 = trio
    first = w0.arrive("pair", expected=2)
    second = w1.arrive("pair", expected=2)
    assert first.got(wire.Released).participants == second.got(wire.Released).participants == ["w0", "w1"]
    assert w2.arrive("pair", expected=2).got(wire.Released).participants == ["w0", "w1"]


def test_a_barrier_that_could_never_be_released_is_refused_at_once(trio) -> None:
    _, w0, _, _ = trio
    w0.arrive(expected=4).refused("invalid_argument", "'step'", "expected is 4", "world size is 3")


def test_all_ranks_have_to_say_the_same_of_one_barrier(trio) -> None:
    _, w0, w1, _ = trio
    w0.arrive("mixed", expected=2)
    w1.arrive("mixed", expected=3).refused("invalid_argument", "expected=2", "expected=3")
    w1.arrive("mixed", expected=0, commit=True).refused("invalid_argument", "commit=True")


def test_one_worker_alone_passes_its_barriers_at_once(job) -> None:
    (alone,) = job.workers("alone")
    for step in range(3):
        assert alone.arrive(step=step).got(wire.Released).participants == ["alone"]


def test_a_wait_ends_in_time_and_names_who_is_missing(trio) -> None:
    job, w0, w1, w2 = trio
    short, long = w0.arrive("slow", 7, timeout_s=2.0), w1.arrive("slow", 7, timeout_s=5.0)
    job.wait(1.75)
    assert short.waits
    job.wait(0.25)
    error = short.refused("deadline_exceeded", "'slow'", "step 7", "2 of 3", "w2")
    assert error.missing == ["w2"]
    assert long.waits
    for worker in (w0, w1, w2):
        worker.heartbeat()
    job.wait(3.0)
    assert long.refused("deadline_exceeded", "w0", "w2").missing == ["w0", "w2"]


def test_who_gave_up_waiting_may_come_back_to_the_same_barrier(trio) -> None:
    job, w0, w1, w2 = trio
    w0.arrive(timeout_s=0.0)
    job.wait(0.25)
    waiting = w1.arrive()
    w2.arrive()
    assert waiting.waits
    assert w0.arrive().got(wire.Released).participants == ["w1", "w2", "w0"]


def test_a_change_of_membership_breaks_the_barrier_and_names_who_left(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = [w0.arrive("sync", 3), w1.arrive("sync", 3)]
    job.lose(w2)
    for call in waiting:
        error = call.refused("barrier_broken", "'sync'", "step 3", "left: w2", "commit point")
        assert (error.left, error.joined, error.generation) == (["w2"], [], 2)
    w0.arrive("sync", 3).refused("generation_changed", "left: w2")
    assert job.status().counters["barriers_broken"] == 1


def test_a_newcomer_breaks_the_barrier_and_is_named(trio) -> None:
    job, w0, _, _ = trio
    waiting = w0.arrive()
    newcomer = job.worker("w3")
    assert waiting.refused("barrier_broken", "joined: w3").joined == ["w3"]
    newcomer.arrive(generation=1).refused("generation_changed")


def test_a_worker_that_is_registered_but_not_yet_a_member_has_no_barriers(make_job) -> None:
    job = make_job(initial_workers=2)
    worker = job.worker("early")
    worker.arrive().refused("generation_changed", "broken")


def test_asking_a_released_barrier_again_gives_what_was_decided(trio) -> None:
    _, w0, w1, w2 = trio
    for worker in (w2, w0, w1):
        worker.arrive("sync", 4)
    before = w2.job.history.to_snapshot()
    for worker in (w0, w1, w2):
        assert worker.arrive("sync", 4).got(wire.Released).participants == ["w2", "w0", "w1"]
    assert w2.job.history.to_snapshot() == before


def test_asking_a_released_barrier_again_gives_what_was_decided_also_after_a_restart(trio) -> None:
    job, w0, w1, w2 = trio
    for worker in (w2, w0, w1):
        worker.commit()
    job.restart()
    w0.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    released = w0.commit(step=1).got(wire.Released)
    assert (released.participants, released.commit_index) == (["w2", "w0", "w1"], 1)
    assert job.history.commit_index == 1


def test_a_barrier_that_was_open_at_a_restart_is_reached_by_asking_again(trio) -> None:
    job, *workers = trio
    workers[0].arrive()
    workers[1].arrive()
    job.restart()
    calls = []
    for worker in workers:
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
        calls.append(worker.arrive())
    assert all(call.got(wire.Released).participants == ["w0", "w1", "w2"] for call in calls)


def test_an_arrival_that_was_refused_leaves_no_barrier_behind(trio) -> None:
    job, w0, w1, w2 = trio
    job.dataset()
    w0.arrive("plain", expected=1, ranges=[job.seen(0, 0, 1)]).refused("invalid_argument", "ranges need commit=true")
    assert job.status().barriers == []
    for worker in (w0, w1, w2):
        call = worker.arrive("plain")
    assert call.got(wire.Released).participants == ["w0", "w1", "w2"]


def test_open_barriers_are_limited_in_number(trio) -> None:
    _, w0, _, _ = trio
    for number in range(OPEN_MAX):
        assert w0.arrive(f"b{number}").waits
    w0.arrive("one-more").refused("resource_exhausted", str(OPEN_MAX))
    assert w0.arrive("b0").waits


def test_barriers_that_nobody_comes_to_do_not_hold_up_commit_points(trio) -> None:
    job, *workers = trio
    for number in range(OPEN_MAX):
        workers[0].arrive(f"given-up-{number}")
    for call in [worker.commit() for worker in workers]:
        call.got(wire.Released)
    assert len(job.status().barriers) == OPEN_MAX


def test_an_abandoned_barrier_is_forgotten(trio) -> None:
    job, w0, _, _ = trio
    w0.arrive(timeout_s=1.0)
    assert [(row["name"], row["arrived"], row["total"], row["missing"]) for row in job.status().barriers] == [
        ("step", 1, 3, ["w1", "w2"])
    ]
    job.wait(1.0)
    assert job.status().barriers == []


def test_how_long_barriers_are_open_is_measured_from_the_first_arrival_to_the_release(trio) -> None:
    job, w0, w1, w2 = trio
    assert job.status().barrier_wait_ms == {}
    w0.arrive()
    job.wait(1.5)
    w1.arrive()
    w2.arrive()
    assert job.status().barrier_wait_ms == {"p50": 1500.0, "p99": 1500.0}
    assert job.status().counters["barriers_released"] == 1


def test_only_the_latest_outcomes_are_kept(job) -> None:
    (alone,) = job.workers("alone")
    for step in range(OUTCOMES_MAX + 10):
        alone.arrive(step=step).got(wire.Released)
    assert len(job.history.outcomes) == OUTCOMES_MAX
    assert alone.arrive(step=OUTCOMES_MAX).got(wire.Released).step == OUTCOMES_MAX
    assert job.history.releases == OUTCOMES_MAX + 10
