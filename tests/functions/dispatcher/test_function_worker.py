"""A real worker at a real dispatcher, spoken to by a bare client: what is promised of calls from end to end."""

from __future__ import annotations

import operator
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from functionkit.errands import gate
from functionkit.packing import load, run, submit_calls
from functionkit.peers import BareClient, BareWorker, new_id
from functionkit.processes import DispatcherProcess, WorkerProcess
from processkit.patience import until

from strata_zmq.errors import WorkerFailure
from strata_zmq.protocol import functions as wire

Work = Callable[..., WorkerProcess]


@pytest.fixture
def work(dispatcher: DispatcherProcess, folder: Path, ending: ExitStack) -> Work:
    """Start a worker."""

    def starter(*options: str, name: str = "worker", env: dict[str, str] | None = None) -> WorkerProcess:
        made = WorkerProcess(folder, dispatcher.endpoint, *options, name=name)
        ending.callback(made.stop)
        return made.start(env)

    return starter


def ends(client: BareClient, count: int, timeout_s: float = 20.0) -> dict[bytes, wire.TaskRow]:
    """The next ends, confirmed."""
    found: dict[bytes, wire.TaskRow] = {}
    while len(found) < count:
        results = client.hear(wire.Results, timeout_s)
        client.say(wire.Seen(results.number))
        found.update((row.task_id, row) for row in results.rows)
    return found


@pytest.mark.parametrize("mode", ["push", "pull"])
def test_calls_run_and_their_results_come_back(client: BareClient, work: Work, mode: str) -> None:
    work("--children", "2", "--mode", mode)
    ids = submit_calls(client, [(operator.mul, (6, n)) for n in range(500)])
    rows = ends(client, 500)
    assert [load(rows[task_id]) for task_id in ids] == [6 * n for n in range(500)]


def test_an_exception_comes_back_as_itself(client: BareClient, work: Work) -> None:
    work("--children", "1")
    run(client, operator.truediv, 1, 0)
    row = client.result()
    assert row.state == "FAILED"
    with pytest.raises(ZeroDivisionError):
        load(row)


def test_a_large_argument_and_a_large_result_travel_whole(client: BareClient, work: Work) -> None:
    work("--children", "1")
    big = os.urandom(3_000_000)
    run(client, operator.add, big, b"end")
    row = client.result()
    assert load(row, client.frames) == big + b"end"


def test_a_child_that_is_killed_costs_its_own_call_alone(client: BareClient, work: Work) -> None:
    work("--children", "1")
    kill = run(client, signal.raise_signal, signal.SIGKILL)
    others = submit_calls(client, [(operator.neg, (n,)) for n in range(20)])
    rows = ends(client, 21)
    with pytest.raises(WorkerFailure, match="killed") as failure:
        load(rows[kill])
    assert failure.value.signal == signal.SIGKILL
    assert [load(rows[one]) for one in others] == [-n for n in range(20)]


def test_a_call_past_its_deadline_is_ended(client: BareClient, work: Work) -> None:
    work("--children", "1")
    run(client, time.sleep, 60, attempt_s=0.3)
    with pytest.raises(WorkerFailure, match="exceeded deadline"):
        load(client.result())
    run(client, operator.neg, 1)
    assert load(client.result()) == -1


def test_a_running_call_is_cancelled_when_asked(client: BareClient, work: Work) -> None:
    work("--children", "1")
    task_id = run(client, time.sleep, 60)
    until(lambda: client.fetch(task_id)[0].state == "RUNNING")
    client.ask(wire.Cancel, [task_id], True)
    assert client.hear(wire.Cancelling).states == ["RUNNING"]
    assert client.result().state == "CANCELLED"


def test_a_value_that_is_put_is_brought_to_the_call(client: BareClient, work: Work) -> None:
    """Values and large callables are asked for by the worker, once."""
    from strata_zmq.functions.codec import Codec
    from strata_zmq.functions.refs import Ref
    from strata_zmq.functions.wire import put_body

    work("--children", "1")
    codec = Codec(by_value=True)
    value = codec.pack_value(b"x" * 2_000_000)
    frames: list[bytes] = []
    client.ask(wire.PutBlobs, [wire.Blob(value.digest, put_body(value.payload, frames))], frames=frames)
    client.hear(wire.Stored)
    function, packed, body, refs = codec.pack_call(len, (Ref(value.digest, 2_000_000),), {})
    assert packed is not None
    client.ask(wire.PutBlobs, [wire.Blob(packed.digest, packed.payload)])
    client.hear(wire.Stored)
    for _ in range(2):
        client.submit(wire.NewTask(new_id(), function, body, list(refs)))
        assert load(client.result()) == 2_000_000


def test_a_worker_that_is_asked_to_end_finishes_what_runs_and_gives_the_rest_back(
    client: BareClient, dispatcher: DispatcherProcess, work: Work, ending: ExitStack
) -> None:
    worker = work("--children", "1")
    running = run(client, time.sleep, 0.8)
    until(lambda: client.fetch(running)[0].state == "RUNNING")
    rest = submit_calls(client, [(operator.neg, (n,)) for n in range(3)])
    worker.signal(signal.SIGTERM)
    assert load(client.result()) is None
    assert worker.wait() == 0
    work("--children", "1", name="next")
    rows = ends(client, 3)
    assert [load(rows[one]) for one in rest] == [0, -1, -2]
    assert {row.attempt for row in rows.values()} <= {1, 2}


def test_a_worker_that_is_killed_loses_what_ran_and_nothing_else(client: BareClient, work: Work) -> None:
    worker = work("--children", "1")
    running = run(client, time.sleep, 60)
    until(lambda: client.fetch(running)[0].state == "RUNNING")
    waiting = run(client, operator.neg, 5)
    worker.kill()
    with pytest.raises(WorkerFailure, match="worker was lost"):
        load(client.result())
    work("--children", "1", name="next")
    row = client.result()
    assert (row.task_id, load(row)) == (waiting, -5)


def test_a_call_may_be_tried_again_when_its_worker_is_lost(client: BareClient, work: Work) -> None:
    worker = work("--children", "1")
    task_id = run(client, time.sleep, 0.5, retries_lost=1)
    until(lambda: client.fetch(task_id)[0].state == "RUNNING")
    worker.kill()
    work("--children", "1", name="next")
    row = client.result()
    assert (row.state, row.attempt) == ("COMPLETED", 2)


def test_a_worker_that_stood_still_longer_than_its_lease_is_late(client: BareClient, work: Work) -> None:
    """Its result is refused by the attempt's number, and it works on under a new session."""
    worker = work("--children", "1")
    task_id = run(client, time.sleep, 0.3, keep_s=60.0)
    until(lambda: client.fetch(task_id)[0].state == "RUNNING")
    worker.signal(signal.SIGSTOP)
    row = client.result()
    assert row.state == "FAILED"
    with pytest.raises(WorkerFailure, match="worker was lost"):
        load(row)
    worker.signal(signal.SIGCONT)
    run(client, operator.neg, 1)
    assert load(client.result()) == -1
    assert client.fetch(task_id)[0].state == "FAILED", "a terminal state stays"


def test_what_waits_at_a_worker_that_stands_still_runs_once_and_elsewhere(
    client: BareClient, work: Work, tmp_path: Path
) -> None:
    slow = work("--children", "1")
    # Known to be short, so that some are prefetched.
    for n in range(20):
        run(client, operator.neg, n)
        client.result()
    slow.signal(signal.SIGSTOP)
    marks = [str(tmp_path / f"mark-{n}") for n in range(5)]
    submit_calls(client, [(os.mkdir, (mark,)) for mark in marks])
    work("--children", "1", name="other")
    rows = ends(client, 5)
    slow.signal(signal.SIGCONT)
    run(client, operator.neg, 1)
    client.result()
    assert [row.state for row in rows.values()] == ["COMPLETED"] * 5, "mkdir fails where it runs twice"


def test_a_worker_outlives_its_dispatcher(
    start: Callable[..., DispatcherProcess], folder: Path, ending: ExitStack
) -> None:
    """A commit task that runs while the dispatcher is restarted delivers its result, under the same attempt."""
    dispatcher = start("--lease", "5")
    worker = WorkerProcess(folder, dispatcher.endpoint, "--children", "1").start()
    ending.callback(worker.stop)
    client = BareClient(dispatcher.endpoint)
    ending.callback(client.close)
    before = client.attach()
    task_id = run(client, time.sleep, 1.5, durability="commit", keep_s=60.0)
    until(lambda: client.fetch(task_id)[0].state == "RUNNING")
    dispatcher.restart()
    client.reconnect()
    after = client.attach(incarnation=before.incarnation)
    assert after.incarnation != before.incarnation
    row = client.result()
    assert (row.task_id, row.state, row.attempt) == (task_id, "COMPLETED", 1)


def test_a_child_ends_with_its_worker(client: BareClient, work: Work) -> None:
    worker = work("--children", "1")
    run(client, os.getpid)
    child = load(client.result())
    assert isinstance(child, int)
    worker.kill()
    until(
        lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split(") ")[1][:1]
    )


def test_two_workers_share_what_waits(client: BareClient, work: Work, tmp_path: Path) -> None:
    """Two calls of four run at the same time, in two processes, before any has ended."""
    for name in ("one", "two"):
        work("--children", "1", name=name)
    until(lambda: client.counts().workers == 2)
    ids = submit_calls(client, [(gate, (str(tmp_path), f"call-{number}")) for number in range(4)])
    until(lambda: len(list(tmp_path.glob("call-*"))) == 2)
    (tmp_path / "open").touch()
    rows = ends(client, 4)
    assert set(rows) == set(ids)
    assert len({load(row) for row in rows.values()}) == 2


def test_a_label_is_held_while_a_call_runs(client: BareClient, work: Work) -> None:
    work("--children", "2", "--label", "gpu=1", "--gpus", "7")
    run(client, os.getenv, "CUDA_VISIBLE_DEVICES", labels={"gpu": 1})
    assert load(client.result()) == "7"
    run(client, os.getenv, "CUDA_VISIBLE_DEVICES")
    assert load(client.result()) == ""


def test_a_worker_of_another_version_is_refused(dispatcher: DispatcherProcess, ending: ExitStack) -> None:
    worker = BareWorker(dispatcher.endpoint)
    ending.callback(worker.close)
    worker.say(wire.Enlist("w", 1, "push", "3.11", proto=99))
    complaint = worker.hear(wire.Complaint)
    assert complaint.code == "protocol"
    assert "proto is 99" in complaint.message
