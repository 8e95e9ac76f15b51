"""A whole machine that is lost, dispatcher and workers at once, and one that is asked to end: what becomes of calls."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from functionkit.marks import tally, tally_and_wait
from functionkit.packing import load, run, submit_calls
from functionkit.peers import BareClient
from functionkit.processes import DispatcherProcess, WorkerProcess
from processkit.patience import until
from recordkit.places import Place

from strata_zmq.errors import WorkerFailure
from strata_zmq.protocol import functions as wire

CHILDREN = 2
WAITING = 40
DURABLE = {"durability": "commit", "keep_s": 600.0}
Start = Callable[..., DispatcherProcess]


class Host:
    """A dispatcher and whoever runs its calls, which are killed and started together."""

    def __init__(self, mode: str, url: str, start: Start, folder: Path, ending: ExitStack) -> None:
        self.dispatcher = start(url, "-m", mode, "-w", str(CHILDREN), "--grace", "1")
        self.worker: WorkerProcess | None = None
        if mode != "local":
            options = ("--children", str(CHILDREN), "--mode", mode, "--grace", "1")
            self.worker = WorkerProcess(folder, self.dispatcher.endpoint, *options)
            ending.callback(self.worker.stop)
            self.worker.start()
        self.client = BareClient(self.dispatcher.endpoint)
        ending.callback(self.client.close)
        self.client.attach()

    def is_lost(self) -> None:
        """The dispatcher first: it must not see what becomes of its worker."""
        self.dispatcher.kill()
        if self.worker is not None:
            self.worker.kill()

    def comes_back(self) -> None:
        self.dispatcher.start()
        if self.worker is not None:
            self.worker.start()
        self.client.reconnect()
        self.client.attach()

    def states(self, ids: list[bytes]) -> list[str]:
        return [row.state for row in self.client.fetch(*ids, bodies=False)]

    def ends(self, ids: list[bytes]) -> list[wire.TaskRow]:
        until(lambda: not {"QUEUED", "RUNNING"}.intersection(self.states(ids)), 30.0)
        return self.client.fetch(*ids)


@pytest.fixture(params=["local", "push", "pull"])
def host(request: pytest.FixtureRequest, place: Place, start: Start, folder: Path, ending: ExitStack) -> Host:
    return Host(request.param, place.url, start, folder, ending)


def test_what_had_not_begun_runs_once_elsewhere_and_what_ran_is_lost(host: Host, tmp_path: Path) -> None:
    """The waiting calls are known to be short, so that they lie ahead at the worker, behind what is known as long."""
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    known = submit_calls(host.client, [(tally_and_wait, (str(ran), "known", str(ran)))], **DURABLE)
    known += submit_calls(host.client, [(tally, (str(ran), "known")) for _ in range(30)], **DURABLE)
    assert {row.state for row in host.ends(known)} == {"COMPLETED"}
    long = [(tally_and_wait, (str(ran), f"held {n}", str(gate))) for n in range(CHILDREN)]
    short = [(tally, (str(ran), f"waiting {n}")) for n in range(WAITING)]
    ids = submit_calls(host.client, [*long, *short], **DURABLE)
    held, waiting = ids[:CHILDREN], ids[CHILDREN:]
    until(lambda: ran.read_text().count("held") == CHILDREN)
    assert set(host.states(held)) == {"RUNNING"}
    assert any(row.attempt for row in host.client.fetch(*waiting)), "none of them lies ahead at the worker"
    assert set(host.states(waiting)) == {"QUEUED"}
    host.is_lost()
    gate.touch()
    host.comes_back()
    assert [load(row) for row in host.ends(waiting)] == [f"waiting {n}" for n in range(WAITING)]
    for row in host.ends(held):
        with pytest.raises(WorkerFailure, match="worker was lost"):
            load(row)
    times = Counter(ran.read_text().splitlines())
    assert times.pop("known") == 31
    assert times == dict.fromkeys([f"held {n}" for n in range(CHILDREN)] + [f"waiting {n}" for n in range(WAITING)], 1)


def test_in_a_stream_of_short_calls_none_runs_twice_and_each_ends(host: Host, tmp_path: Path) -> None:
    """What is lost has run, or was at a child or about to be; there are few of the latter."""
    ran = tmp_path / "ran"
    ids = submit_calls(host.client, [(tally, (str(ran), str(n))) for n in range(2000)], **DURABLE)
    until(lambda: ran.exists() and len(ran.read_text()) > 2000)
    host.is_lost()
    host.comes_back()
    rows = host.ends(ids)
    times = Counter(ran.read_text().splitlines())
    assert max(times.values()) == 1
    unrun = [n for n, row in enumerate(rows) if not times[str(n)]]
    assert {rows[n].state for n in unrun} <= {"FAILED"}
    assert len(unrun) <= 2 * CHILDREN * 64


def test_a_retry_that_was_used_is_used_in_the_next_life(host: Host, tmp_path: Path) -> None:
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    task_id = run(host.client, tally, str(ran), "run", str(gate), retries_lost=1, **DURABLE)
    for runs in (1, 2):
        until(lambda runs=runs: ran.exists() and len(ran.read_text().split()) == runs, 30.0)
        host.is_lost()
        host.comes_back()
    (row,) = host.ends([task_id])
    with pytest.raises(WorkerFailure, match="worker was lost"):
        load(row)
    assert ran.read_text().split() == ["run"] * 2


@pytest.fixture
def local(place: Place, start: Start, folder: Path, ending: ExitStack) -> Host:
    return Host("local", place.url, start, folder, ending)


def test_a_dispatcher_with_children_that_is_asked_to_end_lets_them_finish(local: Host, tmp_path: Path) -> None:
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    held = submit_calls(local.client, [(tally, (str(ran), "held", str(gate))) for _ in range(CHILDREN)], **DURABLE)
    until(lambda: set(local.states(held)) == {"RUNNING"})
    waiting = run(local.client, tally, str(ran), "waiting", **DURABLE)
    local.dispatcher.signal(signal.SIGTERM)
    # It serves on meanwhile.
    assert local.states([waiting]) == ["QUEUED"]
    gate.touch()
    assert local.dispatcher.wait() == 0
    assert ran.read_text().split() == ["held"] * CHILDREN
    local.comes_back()
    assert [load(row) for row in local.ends([*held, waiting])] == ["held"] * CHILDREN + ["waiting"]
    assert ran.read_text().split() == ["held"] * CHILDREN + ["waiting"]


def test_what_does_not_finish_in_time_is_lost_and_told_so_at_once(local: Host, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    once = run(local.client, tally, str(ran), "once", str(tmp_path / "never"), **DURABLE)
    until(lambda: local.states([once]) == ["RUNNING"])
    local.dispatcher.signal(signal.SIGTERM)
    with pytest.raises(WorkerFailure, match="its dispatcher was asked to end"):
        load(local.client.result())
    assert local.dispatcher.wait() == 0
    local.comes_back()
    assert local.states([once]) == ["FAILED"]
