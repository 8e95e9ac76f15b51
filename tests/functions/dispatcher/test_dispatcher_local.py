"""A dispatcher with children of its own (mode `local`): calls run without any worker."""

from __future__ import annotations

import operator
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from blake3 import blake3
from functionkit.packing import load, run, submit_calls
from functionkit.peers import BareClient, new_id
from functionkit.processes import DispatcherProcess
from processkit.patience import until

from strata_zmq.errors import WorkerFailure
from strata_zmq.protocol import functions as wire

Start = Callable[..., DispatcherProcess]


@pytest.fixture
def local(start: Start, ending: ExitStack) -> BareClient:
    """A client of a dispatcher with two children."""
    dispatcher = start("--store", "none", "-m", "local", "-w", "2", "--task-deadline", "5")
    client = BareClient(dispatcher.endpoint)
    ending.callback(client.close)
    client.attach()
    return client


def ends(client: BareClient, count: int) -> dict[bytes, wire.TaskRow]:
    found: dict[bytes, wire.TaskRow] = {}
    while len(found) < count:
        results = client.hear(wire.Results)
        client.say(wire.Seen(results.number))
        found.update((row.task_id, row) for row in results.rows)
    return found


def test_calls_run_in_children_of_the_dispatcher(local: BareClient) -> None:
    ids = submit_calls(local, [(operator.mul, (3, n)) for n in range(300)])
    rows = ends(local, 300)
    assert [load(rows[one]) for one in ids] == [3 * n for n in range(300)]
    counts = local.counts()
    assert (counts.workers, counts.slots) == (1, 2)


def test_a_child_that_is_killed_costs_its_own_call_alone(local: BareClient) -> None:
    kill = run(local, signal.raise_signal, signal.SIGKILL)
    others = submit_calls(local, [(operator.neg, (n,)) for n in range(10)])
    rows = ends(local, 11)
    with pytest.raises(WorkerFailure, match="killed"):
        load(rows[kill])
    assert [load(rows[one]) for one in others] == [-n for n in range(10)]


def test_a_running_call_is_cancelled_and_a_deadline_ends_another(local: BareClient) -> None:
    task_id = run(local, time.sleep, 60)
    until(lambda: local.fetch(task_id)[0].state == "RUNNING")
    local.ask(wire.Cancel, [task_id], True)
    assert local.result().state == "CANCELLED"
    run(local, time.sleep, 60, attempt_s=0.2)
    with pytest.raises(WorkerFailure, match="exceeded deadline"):
        load(local.result())


def test_a_registered_function_is_called_by_its_id(local: BareClient) -> None:
    from strata_zmq.functions.codec import Codec

    packed = Codec(by_value=True).pack_function(operator.neg)
    assert packed is not None
    function_id = new_id()
    local.ask(wire.RegisterFunction, function_id, "neg", packed.payload)
    local.hear(wire.Stored)
    arguments = Codec(by_value=True).pack_call(operator.neg, (4,), {})[2]
    local.submit(wire.NewTask(new_id(), function_id, arguments))
    assert load(local.result()) == -4


def test_bytes_that_are_no_call_fail_by_themselves(local: BareClient) -> None:
    """What a client puts is never looked into by the dispatcher; its child says what is wrong."""
    digest = blake3(b"no pickle").digest(16)
    local.ask(wire.PutBlobs, [wire.Blob(digest, b"no pickle")])
    local.hear(wire.Stored)
    local.submit(wire.NewTask(new_id(), digest, b"neither"))
    row = local.result()
    assert row.state == "FAILED"
    assert row.outcome is not None
    assert row.outcome.cause == "unloadable_call"
    run(local, operator.neg, 1)
    assert load(local.result()) == -1


def test_children_end_with_their_dispatcher(start: Start, ending: ExitStack) -> None:
    dispatcher = start("--store", "none", "-m", "local", "-w", "1")
    client = BareClient(dispatcher.endpoint)
    ending.callback(client.close)
    client.attach()
    run(client, os.getpid)
    child = load(client.result())
    dispatcher.kill()
    stat = Path(f"/proc/{child}/stat")
    until(lambda: not stat.exists() or stat.read_text().rpartition(") ")[2].startswith("Z"))


def test_a_commit_task_is_run_by_the_next_life_or_told_as_lost(start: Start, ending: ExitStack) -> None:
    dispatcher = start("-m", "local", "-w", "1", "--lease", "1")
    client = BareClient(dispatcher.endpoint)
    ending.callback(client.close)
    client.attach()
    running = run(client, time.sleep, 30, durability="commit", keep_s=60.0)
    until(lambda: client.fetch(running)[0].state == "RUNNING")
    waiting = run(client, operator.neg, 3, durability="commit", keep_s=60.0)
    dispatcher.restart()
    client.reconnect()
    client.attach()
    rows = ends(client, 2)
    assert load(rows[waiting]) == -3
    with pytest.raises(WorkerFailure, match="worker was lost"):
        load(rows[running])
