"""kill -9 of a worker at each step of its protocol, and of the dispatcher under one: nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from functionkit.marks import mark_slowly
from functionkit.packing import load, submit_calls
from functionkit.peers import BareClient
from functionkit.processes import DispatcherProcess, WorkerProcess
from processkit.patience import until

from strata_zmq.domain.task import TaskLimits
from strata_zmq.errors import WorkerFailure
from strata_zmq.functions.executor import StrataExecutor
from strata_zmq.protocol import functions as wire

CALLS = 24
STEPS = ["worker.assign.taken", "worker.started.told", "worker.outcome.ready", "worker.outcome.told"]
"""Where a worker can die: with nothing begun, before the first call runs, and before or after it says how it went."""


def ends(client: BareClient, count: int) -> dict[bytes, wire.TaskRow]:
    found: dict[bytes, wire.TaskRow] = {}
    seen = 0
    while len(found) < count:
        results = client.hear(wire.Results)
        client.say(wire.Seen(results.number))
        if results.number <= seen:
            continue  # said again, because it was not confirmed for two seconds
        seen = results.number
        for row in results.rows:
            assert row.task_id not in found, "a task ends once"
            found[row.task_id] = row
    return found


@pytest.mark.parametrize(("mode", "hit"), [("push", 1), ("pull", 2)])
@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_at_any_step_costs_at_most_what_it_had_begun(
    client: BareClient,
    dispatcher: DispatcherProcess,
    folder: Path,
    ending: ExitStack,
    tmp_path: Path,
    mode: str,
    step: str,
    hit: int,
) -> None:
    """A mark cannot be left twice: every call has run once, or was lost with its worker, and is told so."""
    options = ("--children", "1", "--mode", mode)
    doomed = WorkerProcess(folder, dispatcher.endpoint, *options, name="doomed")
    doomed.start({"STRATA_FAILPOINTS": f"{step}=kill@{hit}"})
    ending.callback(doomed.kill)
    marks = [tmp_path / f"mark-{n}" for n in range(8)]
    ids = submit_calls(client, [(mark_slowly, (str(mark),)) for mark in marks])
    assert doomed.wait() == -signal.SIGKILL
    other = WorkerProcess(folder, dispatcher.endpoint, *options, name="other").start()
    ending.callback(other.stop)
    rows = ends(client, len(marks))
    lost = 0
    for task_id, mark in zip(ids, marks, strict=True):
        row = rows[task_id]
        if row.state == "COMPLETED":
            assert load(row) is None
            assert mark.is_dir()
        else:
            lost += 1
            with pytest.raises(WorkerFailure, match="worker was lost"):
                load(row)
    assert lost <= (0 if (step, hit) == ("worker.assign.taken", 1) else 1)


@pytest.mark.parametrize("step", STEPS)
def test_calls_that_may_run_again_all_complete(
    client: BareClient, dispatcher: DispatcherProcess, folder: Path, ending: ExitStack, step: str
) -> None:
    doomed = WorkerProcess(folder, dispatcher.endpoint, "--children", "2", name="doomed")
    doomed.start({"STRATA_FAILPOINTS": f"{step}=kill"})
    ending.callback(doomed.kill)
    ids = submit_calls(client, [(divmod, (n, 7)) for n in range(CALLS)], retries_lost=1)
    assert doomed.wait() == -signal.SIGKILL
    other = WorkerProcess(folder, dispatcher.endpoint, "--children", "2", name="other").start()
    ending.callback(other.stop)
    rows = ends(client, CALLS)
    assert [load(rows[task_id]) for task_id in ids] == [divmod(n, 7) for n in range(CALLS)]


@pytest.mark.parametrize(
    "step",
    [
        "dispatcher.submit.taken",
        "dispatcher.submit.durable",
        "dispatcher.assigned",
        "dispatcher.outcome.taken",
        "dispatcher.outcome.durable",
        "dispatcher.result.sent",
    ],
)
def test_a_dispatcher_that_dies_at_any_step_goes_on_where_it_was(
    start: Callable[..., DispatcherProcess], folder: Path, ending: ExitStack, tmp_path: Path, step: str
) -> None:
    """A client and a worker of the package bridge the gap: each durable call runs once, and its future has its end."""
    dispatcher = start("--lease", "3", env={"STRATA_FAILPOINTS": f"{step}=kill@2"})
    worker = WorkerProcess(folder, dispatcher.endpoint, "--children", "2").start()
    ending.callback(worker.stop)
    durable = TaskLimits(durability="commit", keep_s=60.0)
    executor = ending.enter_context(StrataExecutor(dispatcher.endpoint, limits=durable))
    marks = [tmp_path / f"mark-{n}" for n in range(CALLS)]
    futures = [executor.submit(os.mkdir, str(mark)) for mark in marks]
    until(lambda: not dispatcher.alive() or all(future.done() for future in futures), 30.0)
    if dispatcher.alive():
        # Everything fitted into one step: the second one is yet to come.
        futures.append(executor.submit(os.mkdir, str(tmp_path / "one-more")))
        until(lambda: not dispatcher.alive(), 30.0)
    dispatcher.start({"STRATA_FAILPOINTS": ""})
    assert [future.result(30.0) for future in futures] == [None] * len(futures)
    assert all(mark.is_dir() for mark in marks)
