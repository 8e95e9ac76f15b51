"""What a worker is promised by a dispatcher and owes it, said by hand: sessions, turns, recalls, leases, lateness."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from functionkit.peers import BareClient, BareWorker, new_id
from functionkit.processes import DispatcherProcess
from processkit.patience import until

from strata_zmq.protocol import functions as wire

Enlist = Callable[..., BareWorker]


def ref(task: wire.AssignedTask) -> wire.TaskRef:
    return wire.TaskRef(task.task_id, task.attempt)


def ok(task: wire.AssignedTask, body: bytes = b"result", attempt: int | None = None) -> wire.OutcomeRow:
    return wire.OutcomeRow(task.task_id, task.attempt if attempt is None else attempt, "ok", body, 0.001)


def test_a_turn_that_comes_twice_counts_once_and_is_confirmed_twice(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    client.call()
    (task,) = worker.assigned()
    turn = wire.Turn(worker.session, 1, [ok(task)], received=1)
    for _ in range(2):
        worker.say(turn)
        assert worker.hear(wire.Settled) == wire.Settled(worker.session, 1)
    client.result()
    assert client.hears_nothing(wire.Results)
    assert client.counts().ended_total == 1


def test_after_a_gap_nothing_is_confirmed_until_it_is_filled(client: BareClient, enlist: Enlist) -> None:
    worker = enlist(slots=2)
    client.call()
    client.call()
    tasks = worker.assigned()
    if len(tasks) < 2:
        tasks += worker.assigned()
    first, second = tasks
    worker.say(wire.Turn(worker.session, 2, [ok(second)], received=worker.received))
    assert worker.hear(wire.Settled).number == 0
    assert client.counts().ended_total == 0
    worker.say(wire.Turn(worker.session, 1, [ok(first)], received=worker.received))
    worker.say(wire.Turn(worker.session, 2, [ok(second)], received=worker.received))
    until(lambda: worker.hear(wire.Settled).number == 2)
    assert client.counts().ended_total == 2


def test_a_late_result_is_ignored_by_its_number(client: BareClient, enlist: Enlist) -> None:
    """Given back and assigned again, a task has another attempt: the first one's result is nobody's."""
    worker = enlist()
    client.call()
    (task,) = worker.assigned()
    worker.turn(returned=[ref(task)])
    (again,) = worker.assigned()
    assert (again.task_id, again.attempt) == (task.task_id, task.attempt + 1)
    worker.turn(outcomes=[ok(task, b"of the first attempt")])
    worker.turn(outcomes=[ok(again, b"of the second")])
    row = client.result()
    assert row.outcome is not None
    assert (row.attempt, row.outcome.body) == (2, b"of the second")


def test_a_result_from_another_connection_is_not_taken(
    client: BareClient, enlist: Enlist, dispatcher: DispatcherProcess, ending: ExitStack
) -> None:
    worker = enlist()
    client.call()
    (task,) = worker.assigned()
    thief = BareWorker(dispatcher.endpoint)
    ending.callback(thief.close)
    thief.say(wire.Turn(worker.session, 1, [ok(task, b"stolen")]))
    assert thief.hear(wire.Complaint).code == "unknown_session"
    worker.finish(task, body=b"honest")
    row = client.result()
    assert row.outcome is not None
    assert row.outcome.body == b"honest"


def test_who_says_nothing_is_lost_and_told_so(client: BareClient, enlist: Enlist) -> None:
    silent = enlist()
    started = client.call()
    waiting = client.call()
    (task,) = silent.assigned()
    silent.start(task)
    row = client.result()
    assert (row.task_id, row.state) == (started, "FAILED")
    assert row.outcome is not None
    assert row.outcome.cause == "worker_lost"
    assert silent.hear(wire.Complaint).code == "unknown_session"
    other = enlist()
    (task,) = other.assigned()
    assert task.task_id == waiting


def test_what_was_assigned_and_had_not_begun_costs_nothing_when_its_worker_is_lost(
    client: BareClient, enlist: Enlist
) -> None:
    silent = enlist()
    client.call()
    (first,) = silent.assigned()
    other = enlist()
    assert first.attempt == 1
    until(lambda: client.counts().workers == 1 or other.turn())
    (task,) = other.assigned()
    assert task.attempt == 2
    other.finish(task)
    assert client.result().state == "COMPLETED"


def test_any_word_renews_a_lease(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    client.call()
    (task,) = worker.assigned()
    worker.start(task)
    for _ in range(10):
        assert worker.hears_nothing(wire.Complaint, 0.25)
        worker.turn()
    worker.finish(task)
    assert client.result().state == "COMPLETED"


def test_who_comes_back_keeps_what_it_holds_and_is_told_what_nobody_wants(client: BareClient, enlist: Enlist) -> None:
    worker = enlist(slots=2)
    client.call()
    client.call()
    tasks = worker.assigned()
    if len(tasks) < 2:
        tasks += worker.assigned()
    kept, dropped = tasks
    worker.start(kept, dropped)
    worker.reconnect()
    old = wire.HeldTask(new_id(), 1, "running")
    told = worker.enlist(
        wire.HeldTask(kept.task_id, kept.attempt, "running"), old, wire.HeldTask(dropped.task_id, 7, "running")
    )
    assert told.drop == [wire.TaskRef(old.task_id, 1), wire.TaskRef(dropped.task_id, 7)]
    worker.finish(kept)
    rows = {client.result().task_id: 1 for _ in range(2)}
    assert set(rows) == {kept.task_id, dropped.task_id}


def test_an_outcome_from_before_is_taken_in_the_next_session(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    client.call()
    (task,) = worker.assigned()
    worker.reconnect()
    told = worker.enlist(wire.HeldTask(task.task_id, task.attempt, "done"))
    assert told.drop == []
    worker.finish(task)
    assert client.result().state == "COMPLETED"


def test_unstarted_tasks_are_recalled_for_an_idle_worker(client: BareClient, enlist: Enlist) -> None:
    busy = enlist()
    for _ in range(3):
        client.call()
        busy.finish(*busy.assigned(), service_s=0.0001)
        client.result()
    for _ in range(6):
        client.call()
    held = busy.assigned()
    while len(held) < 6:
        held += busy.assigned()
    busy.start(held[0])
    idle = enlist()
    recall = busy.hear(wire.Recall)
    assert recall.count == 5
    busy.turn(returned=[ref(task) for task in held[1:]])
    assert {task.attempt for task in idle.assigned()} == {2}


def test_a_pulling_worker_gets_what_it_asks_for(client: BareClient, enlist: Enlist) -> None:
    worker = enlist(mode="pull")
    for _ in range(5):
        client.call()
    assert worker.hears_nothing(wire.Assign)
    worker.turn(want=2)
    assert len(worker.assigned()) == 2
    assert worker.hears_nothing(wire.Assign)
    # A wish that was said before the last ASSIGN was received is counted less that.
    worker.received = 0
    worker.turn(want=2)
    assert worker.hears_nothing(wire.Assign)
    worker.received = 1
    worker.turn(want=3)
    assert len(worker.assigned()) == 3


def test_a_retiring_worker_gets_nothing_new(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    client.call()
    (task,) = worker.assigned()
    worker.say(wire.Retire(worker.session))
    waiting = client.call()
    worker.finish(task)
    client.result()
    assert worker.hears_nothing(wire.Assign)
    worker.say(wire.Retire(worker.session, now=True))
    other = enlist()
    assert other.assigned()[0].task_id == waiting


def test_an_assignment_that_does_not_arrive_is_noticed(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    client.call()
    worker.assigned()
    worker.received = 0
    for _ in range(20):
        worker.turn()
        if not worker.hears_nothing(wire.Complaint, 0.3):
            break
    else:
        pytest.fail("the worker was not asked to enlist again")
    told = worker.enlist()
    assert told.drop == []
    (task,) = worker.assigned()
    assert task.attempt == 2


def test_a_large_assignment_is_given_the_time_that_it_travels(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    client.submit(wire.NewTask(new_id(), bytes(16), [0]), frames=[bytes(30_000_000)])
    worker.assigned()
    worker.received = 0
    for _ in range(8):
        worker.turn()
        assert worker.hears_nothing(wire.Complaint, 0.25)


def test_what_a_worker_lacks_is_brought_or_told_missing(client: BareClient, enlist: Enlist) -> None:
    from blake3 import blake3

    worker = enlist()
    value = b"v" * 50_000
    digest = blake3(value).digest(16)
    client.ask(wire.PutBlobs, [wire.Blob(digest, [0])], frames=[value])
    client.hear(wire.Stored)
    worker.say(wire.WantBlobs(worker.session, [digest, b"\7" * 16]))
    brought = worker.hear(wire.Blobs)
    assert (brought.blobs, worker.frames) == ([wire.Blob(digest, [0])], [value])
    assert worker.hear(wire.Blobs).missing == [b"\7" * 16]


@pytest.mark.parametrize(
    "row",
    [
        wire.OutcomeRow(bytes(16), 1, "ok", [5]),
        wire.OutcomeRow(bytes(16), 1, "ok", None),
        wire.OutcomeRow(bytes(16), 1, "failure", None, cause="moonlight"),
        wire.OutcomeRow(bytes(16), 1, "ok", b"", float("nan")),
    ],
    ids=["no such frame", "no body", "no such cause", "no such time"],
)
def test_an_outcome_that_cannot_be_is_complained_of(client: BareClient, enlist: Enlist, row: wire.OutcomeRow) -> None:
    worker = enlist()
    worker.turn(outcomes=[row])
    assert worker.hear(wire.Complaint).code == "protocol"
    client.counts()


def test_a_worker_id_has_one_session(client: BareClient, enlist: Enlist) -> None:
    first = enlist("the-same")
    second = enlist("the-same")
    assert client.counts().workers == 1
    first.turn()
    assert first.hear(wire.Complaint).code == "unknown_session"
    client.call()
    assert len(second.assigned()) == 1
