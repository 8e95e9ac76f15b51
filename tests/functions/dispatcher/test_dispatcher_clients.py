"""What a client is promised by a dispatcher, said over bare sockets with a worker that runs nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blake3 import blake3
from functionkit.peers import BareClient, BareWorker, new_id
from functionkit.processes import DispatcherProcess
from processkit.patience import until

from strata_zmq.protocol import functions as wire

Enlist = Callable[..., BareWorker]


def test_a_call_is_accepted_assigned_and_its_result_delivered(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    task_id = client.call(b"arguments")
    (task,) = worker.assigned()
    assert (task.task_id, task.attempt, task.body) == (task_id, 1, b"arguments")
    worker.start(task)
    worker.finish(task, body=b"42")
    assert worker.hear(wire.Settled).session == worker.session
    row = client.result()
    assert (row.task_id, row.state, row.attempt) == (task_id, "COMPLETED", 1)
    assert row.outcome is not None
    assert (row.outcome.kind, row.outcome.body) == ("ok", b"42")
    assert 0 < row.submitted_at <= row.started_at <= row.ended_at


def test_a_task_goes_through_its_states(client: BareClient, enlist: Enlist) -> None:
    task_id = client.call(keep_s=60.0)
    assert client.fetch(task_id)[0].state == "QUEUED"
    worker = enlist()
    (task,) = worker.assigned()
    worker.start(task)
    worker.turn()
    worker.hear(wire.Settled)
    assert client.fetch(task_id)[0].state == "RUNNING"
    worker.finish(task)
    assert client.result().state == "COMPLETED"
    for _ in range(2):
        (row,) = client.fetch(task_id)
        assert row.state == "COMPLETED"
        assert row.outcome is not None
        assert row.outcome.body == b"result"
    (row,) = client.fetch(task_id, bodies=False)
    assert row.outcome is not None
    assert (row.outcome.kind, row.outcome.body) == ("ok", None)
    assert client.fetch(new_id())[0].state == "UNKNOWN"


def test_a_submission_that_comes_twice_is_one_task(client: BareClient, enlist: Enlist) -> None:
    worker = enlist(slots=4)
    task = wire.NewTask(new_id(), bytes(16), b"call")
    for _ in range(2):
        assert client.submit(task) == wire.SubmittedReply(client.seq)
    assert [one.task_id for one in worker.assigned()] == [task.task_id]
    assert worker.hears_nothing(wire.Assign)


def test_a_key_stands_for_one_call(client: BareClient) -> None:
    """The same key with the same call is the same task; with another call it is refused."""
    first, second, third = new_id(), new_id(), new_id()
    client.submit(wire.NewTask(first, bytes(16), b"call", [], "order-7"))
    again = client.submit(wire.NewTask(second, bytes(16), b"call", [], "order-7"))
    assert again.existing == [wire.Existing(0, first)]
    other = client.submit(wire.NewTask(third, bytes(16), b"another", [], "order-7"))
    assert [(one.index, one.code) for one in other.refused] == [(0, "already_exists")]


def test_a_large_payload_travels_in_frames_of_its_own(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    big = bytes(100_000)
    client.submit(wire.NewTask(new_id(), bytes(16), [0, 1]), frames=(big, b"buffer"))
    (task,) = worker.assigned()
    assert task.body == [0, 1]
    assert worker.frames == [big, b"buffer"]
    row = wire.OutcomeRow(task.task_id, task.attempt, "ok", [0])
    worker.turn(big, outcomes=[row])
    end = client.result()
    assert end.outcome is not None
    assert (end.outcome.body, client.frames) == ([0], [big])


def test_a_call_of_what_was_never_put_is_refused_and_accepted_once_it_is(client: BareClient, enlist: Enlist) -> None:
    worker = enlist(slots=3)
    packed = b"a packed callable"
    digest = blake3(packed).digest(16)
    known, unknown = new_id(), new_id()
    answer = client.submit(wire.NewTask(unknown, digest, b"x"), wire.NewTask(known, bytes(16), b"y"))
    assert [(one.index, one.code) for one in answer.refused] == [(0, "missing_payload")]
    assert [task.task_id for task in worker.assigned()] == [known]
    client.ask(wire.PutBlobs, [wire.Blob(digest, packed)])
    client.hear(wire.Stored)
    assert not client.submit(wire.NewTask(unknown, digest, b"x")).refused
    assign = worker.hear(wire.Assign)
    assert [task.function for task in assign.tasks] == [digest]
    assert assign.blobs == [wire.Blob(digest, packed)]
    worker.received = assign.number
    client.submit(wire.NewTask(new_id(), digest, b"z"))
    assert worker.hear(wire.Assign).blobs == [], "a callable is sent to a worker once"


def test_refusals_name_the_tasks_of_the_submission_as_they_were_given(client: BareClient) -> None:
    key = "the-key"
    client.submit(wire.NewTask(new_id(), bytes(16), b"first", [], key))
    answer = client.submit(
        wire.NewTask(new_id(), b"\1" * 16, b"its function is not there"),
        wire.NewTask(new_id(), bytes(16), b"fine"),
        wire.NewTask(new_id(), bytes(16), b"second", [], key),
        wire.NewTask(new_id(), bytes(16), b"fine too"),
        wire.NewTask(new_id(), bytes(16), b"a value is not there", [b"\2" * 16]),
    )
    refused = sorted((one.index, one.code) for one in answer.refused)
    assert refused == [(0, "missing_payload"), (2, "already_exists"), (4, "missing_payload")]
    assert client.counts().queued == 3


def test_a_wrong_digest_is_complained_of(client: BareClient) -> None:
    seq = client.ask(wire.PutBlobs, [wire.Blob(b"\1" * 16, b"something")])
    complaint = client.hear(wire.Complaint)
    assert (complaint.seq, complaint.code) == (seq, "invalid_argument")


def test_a_registered_function_is_called_by_its_id(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    function_id, packed = new_id(), b"packed" * 5000
    client.ask(wire.RegisterFunction, function_id, "double", [0], frames=(packed,))
    client.hear(wire.Stored)
    client.submit(wire.NewTask(new_id(), function_id, b"args"))
    assign = worker.hear(wire.Assign)
    assert assign.tasks[0].function == blake3(packed).digest(16)
    assert worker.frames == [packed]
    client.ask(wire.RegisterFunction, function_id, "double", b"another")
    assert client.hear(wire.Complaint).code == "already_exists"


def test_what_needs_a_store_is_refused_without_one(client: BareClient) -> None:
    answer = client.submit(wire.NewTask(new_id(), bytes(16), b"x"), durability="commit")
    assert [one.code for one in answer.refused] == ["invalid_argument"]
    assert "--store" in answer.refused[0].message


def test_ends_that_were_not_seen_come_again_on_a_new_connection(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    task_id = client.call()
    worker.finish(*worker.assigned())
    assert client.hear(wire.Results).rows[0].task_id == task_id
    client.reconnect()
    client.attach()
    again = client.hear(wire.Results)
    assert [row.task_id for row in again.rows] == [task_id]
    client.say(wire.Seen(again.number))
    client.reconnect()
    client.attach()
    assert client.hears_nothing(wire.Results)


def test_of_a_task_whose_result_was_seen_it_is_known_how_it_ended_and_why(client: BareClient, enlist: Enlist) -> None:
    """A list of failures has those that were fetched, too, without the result and without what was printed."""
    worker = enlist()
    good = client.call()
    (task,) = worker.assigned()
    worker.finish(task)
    client.result()
    bad = client.call()
    (task,) = worker.assigned()
    report = wire.ReportRow(text="no such column" + "." * 500, type_name="KeyError", traceback="long", worker="w0")
    worker.turn(outcomes=[wire.OutcomeRow(task.task_id, 1, "error", b"error", 0.01, report=report)])
    client.result()

    def listed(state: str) -> list[wire.TaskRow]:
        client.ask(wire.ListTasks, b"", 100, state)
        return client.hear(wire.Page).rows

    until(lambda: len(listed("EXPIRED")) == 2)
    assert [row.task_id for row in listed("COMPLETED")] == [good]
    (row,) = listed("FAILED")
    assert (row.task_id, row.state, row.ended_as) == (bad, "EXPIRED", "FAILED")
    assert row.outcome.report.text.startswith("no such column")
    assert len(row.outcome.report.text) == 300
    assert (row.outcome.report.type_name, row.outcome.report.worker) == ("KeyError", "w0")
    assert (row.outcome.body, row.outcome.report.traceback) == (None, "")
    (fetched,) = client.fetch(bad)
    assert (fetched.state, fetched.outcome) == ("EXPIRED", None)


def test_a_result_that_was_seen_is_expired_and_not_unknown(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    task_id = client.call()
    worker.finish(*worker.assigned())
    client.result()
    client.counts()
    (row,) = client.fetch(task_id)
    assert (row.state, row.outcome) == ("EXPIRED", None)


def test_a_client_watches_what_another_has_submitted(
    client: BareClient, dispatcher: DispatcherProcess, enlist: Enlist
) -> None:
    other = BareClient(dispatcher.endpoint)
    try:
        other.attach(deliver=False)
        first, second, third = client.call(keep_s=60.0), client.call(keep_s=60.0), client.call(keep_s=60.0)
        worker = enlist()
        worker.finish(*worker.assigned())
        client.result()
        unknown = new_id()
        other.ask(wire.Watch, [first, second, unknown], 30.0, True)
        answer = other.hear(wire.Answers)
        assert {(row.task_id, row.state) for row in answer.rows} == {(first, "COMPLETED"), (unknown, "UNKNOWN")}
        other.ask(wire.Watch, [third], 30.0, False)
        assert other.hear(wire.Answers).rows == []
        worker.finish(*worker.assigned())
        results = other.hear(wire.Results)
        assert [row.task_id for row in results.rows] == [second]
        assert results.rows[0].outcome is not None
        assert results.rows[0].outcome.body == b"result"
        worker.finish(*worker.assigned())
        results = other.hear(wire.Results)
        assert [(row.task_id, row.outcome and row.outcome.body) for row in results.rows] == [(third, None)]
    finally:
        other.close()


def test_a_queued_task_is_cancelled_and_a_running_one_only_when_asked(client: BareClient, enlist: Enlist) -> None:
    worker = enlist()
    running, queued = client.call(), client.call()
    (task,) = worker.assigned()
    worker.start(task)
    until(lambda: client.fetch(running)[0].state == "RUNNING")
    client.ask(wire.Cancel, [queued, running, new_id()], False)
    assert client.hear(wire.Cancelling).states == ["CANCELLED", "RUNNING", "UNKNOWN"]
    row = client.result()
    assert (row.task_id, row.state) == (queued, "CANCELLED")
    client.ask(wire.Cancel, [running], True)
    client.hear(wire.Cancelling)
    stop = worker.hear(wire.StopTasks)
    assert stop.tasks == [wire.TaskRef(task.task_id, task.attempt)]
    worker.turn(outcomes=[wire.OutcomeRow(task.task_id, task.attempt, "failure", None, cause="cancelled")])
    row = client.result()
    assert (row.task_id, row.state) == (running, "CANCELLED")


def test_tasks_are_listed_in_pages_and_counted(client: BareClient) -> None:
    ids = [client.call() for _ in range(5)]
    client.ask(wire.ListTasks, b"", 3, "QUEUED")
    first = client.hear(wire.Page)
    assert [row.task_id for row in first.rows] == ids[:3]
    client.ask(wire.ListTasks, ids[2], 3, "")
    assert [row.task_id for row in client.hear(wire.Page).rows] == ids[3:]
    counts = client.counts()
    assert (counts.queued, counts.running, counts.workers, counts.accepted_total) == (5, 0, 0, 5)


def test_a_full_queue_refuses_and_says_when_to_come_again(start: Callable[..., DispatcherProcess]) -> None:
    dispatcher = start("--store", "none", "--queue-tasks", "2")
    client = BareClient(dispatcher.endpoint)
    try:
        client.attach()
        answer = client.submit(*(wire.NewTask(new_id(), bytes(16), b"x") for _ in range(3)))
        assert [(one.index, one.code) for one in answer.refused] == [(2, "resource_exhausted")]
        assert answer.refused[0].retry_after_s > 0
    finally:
        client.close()


def test_who_has_not_attached_is_asked_to(dispatcher: DispatcherProcess) -> None:
    client = BareClient(dispatcher.endpoint)
    try:
        seq = client.ask(wire.Submit, wire.LimitsRow(), [])
        complaint = client.hear(wire.Complaint)
        assert (complaint.seq, complaint.code) == (seq, "unknown_session")
        client.say(wire.Beat(9))
        assert client.hear(wire.Complaint).seq == 9
        client.attach()
        client.say(wire.Beat(10))
        assert client.hear(wire.BeatAck).seq == 10
    finally:
        client.close()


@pytest.mark.parametrize(
    "frames",
    [
        (b"",),
        (b"\xc1",),
        (b"\x93\xa6submit",),
        (wire.encode_function(wire.Settled(1, 1)),),
        (b"\x91\xa4beat", b"x" * 9),
    ],
    ids=["empty", "no message", "half", "another's", "a frame too many"],
)
def test_what_cannot_be_read_ends_nothing(client: BareClient, frames: tuple[bytes, ...]) -> None:
    client.say_raw(*frames)
    if len(frames) == 1:
        assert client.hear(wire.Complaint).code == "protocol"
    assert client.counts().queued == 0


def test_a_body_that_names_a_frame_that_did_not_come_is_complained_of(client: BareClient) -> None:
    seq = client.ask(wire.Submit, wire.LimitsRow(), [wire.NewTask(new_id(), bytes(16), [3])])
    complaint = client.hear(wire.Complaint)
    assert (complaint.seq, complaint.code) == (seq, "protocol")


def test_more_frames_than_a_message_may_have_are_refused(client: BareClient) -> None:
    client.say_raw(wire.encode_function(wire.Beat(1)), *[b"x"] * (wire.FRAMES_MAX + 1))
    assert "payload frames" in client.hear(wire.Complaint).message
    assert client.counts().queued == 0


def test_a_client_that_goes_takes_along_what_nobody_else_reads(
    client: BareClient, dispatcher: DispatcherProcess
) -> None:
    for _ in range(3):
        client.call()
    client.say(wire.Detach(abandon=True))
    other = BareClient(dispatcher.endpoint)
    try:
        other.attach()
        counts = other.counts()
        assert counts.queued == 0
    finally:
        other.close()


def test_the_dispatchers_deadline_is_for_tasks_that_name_none(start: Callable[..., DispatcherProcess]) -> None:
    dispatcher = start("--store", "none", "--task-deadline", "3")
    client, worker = BareClient(dispatcher.endpoint), BareWorker(dispatcher.endpoint, slots=2)
    try:
        client.attach()
        worker.enlist()
        client.call()
        assert worker.hear(wire.Assign).limits[0].attempt_s == 3.0
        client.call(attempt_s=9.0)
        assert worker.hear(wire.Assign).limits[0].attempt_s == 9.0
    finally:
        client.close()
        worker.close()
