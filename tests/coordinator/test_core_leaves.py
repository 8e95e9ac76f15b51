"""All who leave in one batch make one generation; what depends on who is still there knows of them at once."""

from __future__ import annotations

import pytest

from strata_zmq.coordinator.core.records import GenerationBroken, GenerationChanged
from strata_zmq.protocol import messages as wire

LEAVERS = 40


def changes(job) -> list[object]:
    """The generations and broken generations that the journal has."""
    return [record for record in job.records if isinstance(record, GenerationChanged | GenerationBroken)]


@pytest.mark.parametrize("reported", [False, True], ids=["deregister", "report-lost"])
def test_all_who_leave_in_one_batch_make_one_generation_and_one_rebalance(make_job, reported: bool) -> None:
    job = make_job(initial_workers=LEAVERS + 2)
    workers = job.workers(*(f"w{number}" for number in range(LEAVERS + 2)))
    supervisor = job.supervisor()
    before, announced = len(changes(job)), len(job.announced)
    events = [
        supervisor.event(wire.ReportLost(worker_id=worker.name, pid=1000))
        if reported
        else worker.event(wire.Deregister())
        for worker in workers[1:-1]
    ]
    job.step(*events)
    for worker, event in zip(workers[1:-1], events, strict=True):
        (supervisor if reported else worker).calls[event.message.seq].got(wire.Done)
    (change,) = changes(job)[before:]
    assert change.generation == 2
    assert change.left == [worker.name for worker in workers[1:-1]]
    (rebalance,) = job.announced[announced:]
    assert rebalance.members == ["w0", f"w{LEAVERS + 1}"]
    assert workers[-1].join().got(wire.Membership).rank == 1


def test_the_last_ones_of_a_job_leave_in_one_batch_too(make_job) -> None:
    job = make_job(initial_workers=LEAVERS)
    workers = job.workers(*(f"w{number}" for number in range(LEAVERS)))
    before = len(changes(job))
    job.step(*(worker.event(wire.Deregister()) for worker in workers))
    (broken,) = changes(job)[before:]
    assert len(broken.left) == LEAVERS
    assert job.history.member_ids == ()


def test_who_leaves_and_who_comes_in_one_batch_make_one_generation(trio) -> None:
    job, w0, w1, _ = trio
    newcomer = job.client("worker")
    newcomer.name, newcomer.incarnation = "w9", "new"
    job.step(
        w0.event(wire.Deregister()),
        newcomer.event(wire.RegisterWorker(worker_id="w9", incarnation="new")),
        w1.event(wire.Heartbeat()),
    )
    assert job.history.generation == 2
    assert job.history.member_ids == ("w1", "w2", "w9")


@pytest.mark.parametrize("life", ["another", "same"])
def test_nobody_inherits_the_rank_of_who_left_in_the_same_batch(trio, life: str) -> None:
    """A successor that registers under the name is a newcomer, with the last rank and no memory."""
    job, w0, _, _ = trio
    successor = job.client("worker")
    successor.name = "w0"
    incarnation = w0.incarnation if life == "same" else "another life"
    job.step(
        w0.event(wire.Deregister()),
        successor.event(wire.RegisterWorker(worker_id="w0", incarnation=incarnation)),
    )
    assert job.history.member_ids == ("w1", "w2", "w0")
    assert successor.join().got(wire.Membership).rank == 2


def test_a_restore_asks_only_those_who_are_still_there(make_job) -> None:
    """The last member that remembers leaves, and the other one restores, in one batch: it is not told to take a state
    that nobody has."""
    job = make_job(initial_workers=1)
    (w0,) = job.workers("w0")
    w0.commit().got(wire.Released)
    job.worker("w1").join().got(wire.Membership)
    (w1,) = [client for client in job.clients.values() if client.name == "w1"]
    restore = wire.Restore(checkpoint_id="none", ledger=b'{"epoch": 0, "commit_index": 0, "datasets": {}}')
    asked = w1.event(restore)
    job.step(w0.event(wire.Deregister()), asked)
    assert w1.calls[asked.message.seq].refused("generation_changed").left == ["w0"]
    w1.join().got(wire.Membership)
    assert w1.ask(restore).got(wire.Restored).rewound
    assert job.history.commit_index == 0


def test_where_all_leave_and_one_comes_in_one_batch_it_is_a_beginning_again(make_job) -> None:
    job = make_job(initial_workers=2)
    w0, w1 = job.workers("w0", "w1")
    newcomer = job.client("worker")
    newcomer.name, newcomer.incarnation = "w2", "new"
    job.step(
        w0.event(wire.Deregister()),
        w1.event(wire.Deregister()),
        newcomer.event(wire.RegisterWorker(worker_id="w2", incarnation="new")),
    )
    assert not job.history.formed
    assert job.status().need == 2


def test_a_wait_that_ends_in_the_step_of_a_leave_names_only_who_is_there(trio) -> None:
    job, w0, w1, w2 = trio
    call = w0.arrive(timeout_s=1.0)
    job.stall(2.0)
    job.step(w1.event(wire.Deregister()))
    assert call.refused("barrier_broken").left == ["w1"]
    call = w0.join()
    again = w2.join()
    call.got(wire.Membership)
    again.got(wire.Membership)
    waiting, supervisor = w0.advance(timeout_s=1.0), job.supervisor()
    job.stall(2.0)
    job.step(supervisor.event(wire.ReportLost(worker_id="w2", pid=1000)))
    waiting.got(wire.EpochAdvanced)
