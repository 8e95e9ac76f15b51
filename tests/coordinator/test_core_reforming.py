"""Barriers that outlive a change of the membership: who waits goes on with those who are there then."""

from __future__ import annotations

import pytest

from strata_zmq.coordinator.core.barriers import OPEN_MAX
from strata_zmq.protocol import messages as wire


def reform(worker, name: str = "vote", step: int = 1, **fields):
    """Arrive at a barrier that re-forms."""
    return worker.arrive(name, step, on_change="reform", **fields)


def released(call) -> wire.Released:
    return call.got(wire.Released)


def test_a_loss_leaves_the_survivors_waiting_and_the_last_of_them_releases_all(make_job) -> None:
    job = make_job(initial_workers=4)
    w0, w1, w2, w3 = job.workers("w0", "w1", "w2", "w3")
    waiting = [reform(w1), reform(w3)]
    job.lose(w2)
    assert all(call.waits for call in waiting)
    w0.join().got(wire.Membership)
    for call in [*waiting, reform(w0)]:
        answer = released(call)
        assert (answer.participants, answer.generation) == (["w1", "w3", "w0"], 2)
        assert (answer.joined, answer.left) == ([], ["w2"])
    assert job.status().counters["barriers_reformed"] == 1


def test_it_is_released_at_once_when_the_one_that_is_missing_is_lost(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = [reform(w0, values=[wire.Value("n", "sum", 1.0)]), reform(w1, values=[wire.Value("n", "sum", 2.0)])]
    job.lose(w2)
    for call in waiting:
        assert (released(call).participants, released(call).reduced) == (["w0", "w1"], {"n": 3.0})


def test_the_value_of_a_rank_that_was_lost_counts_no_more(trio) -> None:
    job, w0, w1, w2 = trio
    for rank, worker in enumerate((w2, w0)):
        reform(worker, values=[wire.Value("n", "sum", 100.0 if rank == 0 else 1.0)])
    job.lose(w2)
    assert released(reform(w1, generation=2, values=[wire.Value("n", "sum", 2.0)])).reduced == {"n": 3.0}


def test_a_rank_that_leaves_while_it_waits_is_told_so(trio) -> None:
    _, w0, w1, w2 = trio
    waiting = reform(w0)
    w0.ask(wire.Deregister()).got(wire.Done)
    waiting.refused("barrier_broken", "left: w0")
    reform(w1)
    assert released(reform(w2)).participants == ["w1", "w2"]


def test_a_newcomer_arrives_under_the_same_name_and_is_waited_for(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = [reform(worker) for worker in (w0, w1)]
    newcomer = job.worker("w3")
    newcomer.join().got(wire.Membership)
    waiting.append(reform(w2))
    assert all(call.waits for call in waiting)
    waiting.append(reform(newcomer))
    for call in waiting:
        answer = released(call)
        assert answer.participants == ["w0", "w1", "w2", "w3"]
        assert (answer.generation, answer.joined, answer.left) == (2, ["w3"], [])


def test_another_life_of_the_same_worker_has_left_and_joined(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = [reform(w0), reform(w1)]
    job.lose(w2)
    again = job.worker("w2")
    again.join().got(wire.Membership)
    assert [released(call).left for call in waiting] == [["w2"], ["w2"]]
    later = [reform(w0, step=2, generation=2), reform(w1, step=2, generation=2)]
    job.lose(again)
    assert [released(call).left for call in later] == [["w2"], ["w2"]]


def test_a_worker_that_came_back_while_others_wait_is_named_in_both(make_job) -> None:
    job = make_job(initial_workers=3, min_workers=3)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    waiting = reform(w0)
    job.lose(w2)
    again = job.worker("w2")
    again.join().got(wire.Membership)
    reform(w1)
    reform(again)
    assert (released(waiting).joined, released(waiting).left) == (["w2"], ["w2"])


def test_a_fixed_number_stays_what_it_is(make_job) -> None:
    job = make_job(initial_workers=4)
    w0, w1, w2, w3 = job.workers("w0", "w1", "w2", "w3")
    waiting = [reform(w0, expected=3), reform(w1, expected=3)]
    job.lose(w3)
    assert all(call.waits for call in waiting)
    assert released(reform(w2, expected=3)).participants == ["w0", "w1", "w2"]


def test_a_fixed_number_that_is_more_than_who_is_left_breaks_it(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = reform(w0, expected=3)
    job.lose(w2)
    waiting.refused("barrier_broken", "it takes 3, the world size is 2", "left: w2")
    reform(w1, generation=2, expected=3).refused("invalid_argument", "expected is 3", "world size is 2")
    assert job.status().barriers == []


def test_all_of_them_is_not_the_same_as_as_many_as_there_are_now(trio) -> None:
    _, w0, w1, _ = trio
    reform(w0)
    reform(w1, expected=3).refused("invalid_argument", "expected=0", "expected=3")


def test_ranks_that_do_not_agree_on_the_policy_are_told(trio) -> None:
    _, w0, w1, _ = trio
    w0.arrive("vote", 1, expected=2)
    reform(w1, expected=2).refused("invalid_argument", "on_change=break", "on_change=reform")


def test_a_commit_point_cannot_re_form(trio) -> None:
    _, w0, *_ = trio
    w0.commit(on_change="reform").refused("invalid_argument", "cursors belong to one generation", "on_change='break'")


def test_while_a_broken_generation_waits_for_its_quorum_one_breaks_and_the_other_waits_on(make_job) -> None:
    job = make_job(initial_workers=3, min_workers=3)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    breaks, waits = w0.arrive("sync"), reform(w1)
    job.lose(w2)
    assert not job.history.formed
    breaks.refused("barrier_broken", "too few workers are left")
    late = reform(w0)
    assert waits.waits
    assert late.waits
    newcomer = job.worker("w3")
    newcomer.join().got(wire.Membership)
    assert waits.waits
    released(reform(newcomer))
    for call in (waits, late):
        answer = released(call)
        assert (answer.participants, answer.generation) == (["w1", "w0", "w3"], 2)
        assert (answer.joined, answer.left) == (["w3"], ["w2"])


def test_a_fixed_number_that_is_there_already_waits_for_the_quorum_too(make_job) -> None:
    job = make_job(initial_workers=3, min_workers=3)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    waiting = reform(w0, expected=2)
    job.lose(w2)
    other = reform(w1, expected=2)
    assert waiting.waits
    job.worker("w3")
    assert released(waiting).participants == released(other).participants == ["w0", "w1"]


def test_a_barrier_is_forgotten_when_all_who_waited_are_gone(trio) -> None:
    job, w0, *_ = trio
    reform(w0)
    job.lose(w0)
    assert job.status().barriers == []


def test_its_time_limit_goes_on_and_names_who_is_missing_of_the_new_generation(trio) -> None:
    job, w0, w1, _ = trio
    waiting = reform(w0, timeout_s=3.0)
    job.wait(1.0)
    job.lose(w1)
    job.wait(2.0)
    assert waiting.refused("deadline_exceeded", "1 of 2").missing == ["w2"]


def test_a_restore_breaks_it_like_any_other(trio) -> None:
    """History went back: what the barrier is of has not happened."""
    job, *workers = trio
    job.dataset(total=30, shard_size=10)
    ledger = job.history.ledger_state()
    for worker in workers:
        worker.commit(job.seen(worker.shards().shards[0], 0, 1))
    for worker in workers:
        job.lose(worker)
    w3, w4, w5 = job.workers("w3", "w4", "w5")
    waiting = reform(w3)
    w4.ask(wire.Restore(checkpoint_id="c", ledger=ledger)).got(wire.Restored)
    waiting.refused("barrier_broken")
    reform(w5).refused("generation_changed")


# ---- asking again


def test_who_asks_again_while_it_waits_keeps_its_place_though_the_generation_has_changed(make_job) -> None:
    job = make_job(initial_workers=4)
    w0, w1, w2, w3 = job.workers("w0", "w1", "w2", "w3")
    asked = w0.event(wire.Arrive(name="vote", step=1, on_change="reform"))
    job.step(asked)
    reform(w1)
    job.lose(w3)
    job.step(asked)
    call = w0.calls[asked.message.seq]
    assert call.waits
    reform(w2)
    assert released(call).participants == ["w0", "w1", "w2"]


@pytest.mark.parametrize("restart", [False, True], ids=["lost reply", "restart"])
def test_who_missed_the_release_finds_it_under_the_generation_that_it_named(trio, restart) -> None:
    job, w0, w1, w2 = trio
    first = reform(w0)
    reform(w1)
    job.lose(w2)
    before = released(first)
    if restart:
        job.restart()
        for worker in (w0, w1):
            worker.hello().got(wire.Welcome)
            worker.register().got(wire.Registered)
    for worker in (w0, w1):
        again = released(reform(worker, generation=1))
        assert (again.participants, again.joined, again.left) == (before.participants, [], ["w2"])
    assert job.history.releases == 1


def test_the_same_name_in_the_generation_that_was_adopted_since_is_another_barrier(trio) -> None:
    """After a change of membership the training code goes back and passes the same steps again."""
    job, w0, w1, w2 = trio
    reform(w0)
    reform(w1)
    job.lose(w2)
    for worker in (w0, w1):
        worker.join().got(wire.Membership)
    second = reform(w0)
    assert second.waits
    assert released(reform(w1, generation=1)).left == ["w2"]
    assert second.waits
    reform(w1)
    answer = released(second)
    assert (answer.participants, answer.generation, answer.left) == (["w0", "w1"], 2, [])
    assert released(reform(w0)).left == []


def test_a_member_that_has_not_heard_of_the_new_generation_arrives_in_it(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = reform(w1)
    job.lose(w2)
    assert released(reform(w0, generation=1)).participants == ["w1", "w0"]
    released(waiting)


def test_who_was_not_needed_any_more_learns_how_it_ended_though_it_names_the_generation_before(make_job) -> None:
    job = make_job(initial_workers=4)
    w0, w1, w2, w3 = job.workers("w0", "w1", "w2", "w3")
    waiting = reform(w0, expected=2)
    job.lose(w3)
    reform(w1, expected=2)
    released(waiting)
    assert released(reform(w2, generation=1, expected=2)).participants == ["w0", "w1"]


def test_a_barrier_that_was_open_at_a_restart_is_reached_from_the_generation_before(trio) -> None:
    job, w0, w1, w2 = trio
    newcomer = job.worker("w3")
    job.restart()
    for worker in (w0, w1, w2, newcomer):
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
    calls = [reform(worker, generation=1) for worker in (w0, w1, w2)]
    assert all(call.waits for call in calls)
    newcomer.join().got(wire.Membership)
    reform(newcomer)
    assert all(released(call).participants == ["w0", "w1", "w2", "w3"] for call in calls)


def test_nobody_arrives_from_a_generation_that_is_not_there_or_not_its_own(trio) -> None:
    job, w0, _, w2 = trio
    reform(w0, generation=5).refused("generation_changed", "is 1 now")
    stranger = job.client("worker")
    reform(stranger, generation=1).refused("stale_generation", "no registered worker")
    job.lose(w2)
    reform(w2).refused("fenced")


def test_a_worker_that_is_no_member_yet_does_not_arrive(make_job) -> None:
    job = make_job(initial_workers=3, min_workers=3)
    early = job.worker("w0")
    reform(early).refused("generation_changed", "too few")
    w1, w2 = job.worker("w1"), job.worker("w2")
    for gone in (w1, w2):
        job.lose(gone)
    reform(job.worker("w3"), generation=1).refused("generation_changed", "too few")


# ---- copies


@pytest.mark.parametrize("policy", ["break", "reform"])
def test_a_copy_of_an_arrival_whose_wait_ran_out_is_no_arrival(trio, policy) -> None:
    job, w0, w1, w2 = trio
    asked = w0.event(wire.Arrive(name="vote", step=1, on_change=policy, timeout_s=1.0))
    job.step(asked)
    job.wait(1.0)
    call = w0.calls[asked.message.seq]
    assert [reply.code for reply in call.replies] == ["deadline_exceeded"]
    others = [worker.arrive("vote", 1, on_change=policy) for worker in (w1, w2)]
    job.step(asked)
    assert [reply.code for reply in call.replies] == ["deadline_exceeded"] * 2
    assert all(other.waits for other in others)
    w0.arrive("vote", 1, on_change=policy).got(wire.Released)


def test_only_the_latest_ends_are_remembered(job) -> None:
    w0 = job.worker("w0")
    w1 = job.worker("w1")
    for worker in (w0, w1):
        worker.join().got(wire.Membership)
    asked = w0.event(wire.Arrive(name="first", step=0, timeout_s=0.0))
    job.step(asked)
    job.wait(0.25)
    for step in range(4):
        job.step(*(w0.event(wire.Arrive(name=f"b{n}", step=step, timeout_s=0.0)) for n in range(OPEN_MAX)))
        w1.heartbeat()
        job.wait(0.25)
    assert job.status().barriers == []
    job.step(asked)
    assert [row["name"] for row in job.status().barriers] == ["first"]
