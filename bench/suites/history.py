"""What a long history costs a coordinator: memory while it serves, and time until it serves again after a kill.

The subject is `python -m strata_zmq.coordinator` with a journal on disk, after its workers have registered datasets and
passed commit points that carry a range of every shard. The limit is the bare echo with as many connections.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from strata_zmq.bench.floors import Absolute, Condition, Extra, Floor
from strata_zmq.bench.loads.coordinator import coordinator_of
from strata_zmq.bench.loads.history import Extent, check, grow
from strata_zmq.bench.loads.process import Child, child_process
from strata_zmq.bench.loads.session import asked, joined
from strata_zmq.bench.loads.wire import Wire, wired
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.protocol.messages import Heartbeat, HeartbeatAck, Hello, Welcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from strata_zmq.bench.model import Measure

__all__ = ["SUITE"]

FULL = Extent(workers=1000, datasets=10, shards=10_000, commit_points=10)
QUICK = Extent(workers=100, datasets=10, shards=1000, commit_points=10)
"""A tenth of the workers, the shards and the updates."""
MEMORY_MB = 300.0
RESTART_S = 2.0
_MEGABYTE = 1e6
_ECHO = "strata_zmq.bench.loads.echo"


def _cases(settings: Settings) -> Iterator[Case]:
    extent = QUICK if settings.quick else FULL
    yield Case(
        name="resident memory",
        size=str(extent),
        unit="MB",
        better="lower",
        rounds=5,
        floor=_floor(
            extent,
            "control.memory",
            Absolute(MEMORY_MB, f"<= {MEMORY_MB:.0f} MB"),
            Extra("peak_mb", MEMORY_MB, "lower", f"<= {MEMORY_MB:.0f} MB at its peak"),
        ),
        subject=Contender("strata coordinator", lambda: _memory(settings.scratch, extent)),
        limit=Contender("bare pyzmq echo, as many connections", lambda: _echo_memory(extent)),
        notes=("every worker is connected and has just been heard; peak: the most since the process began",),
    )
    yield Case(
        name="kill -9 to serving again",
        size=str(extent),
        unit="s",
        better="lower",
        rounds=settings.pick(5, 9),
        floor=_floor(extent, "control.restart", Absolute(RESTART_S, f"<= {RESTART_S:.0f} s")),
        subject=Contender("strata coordinator", lambda: _restarts(settings.scratch, extent)),
        limit=Contender("bare pyzmq echo", _echo_restarts),
        notes=(
            "until a new connection's hello is answered; every round checks that nothing of the history is missing",
            "binds: starting Python and its modules, then reading the snapshot and what came after it",
        ),
    )


SUITE = Suite("history", "What does a long history cost: memory, and time to serve again?", _cases)


def _floor(extent: Extent, floor_id: str, *conditions: Condition) -> Floor | None:
    return Floor(floor_id, conditions) if extent == FULL else None


@contextmanager
def _memory(scratch: Path, extent: Extent) -> Iterator[Measure]:
    with (
        tempfile.TemporaryDirectory(prefix="history-", dir=scratch) as folder,
        coordinator_of(Path(folder) / "journal.sqlite", extent.workers) as server,
        wired(server.ready["control"], extent.workers) as wires,
    ):
        workers = joined(wires)
        grow(workers, extent)
        beats = [
            Heartbeat(seq=1, session=worker.session, generation=worker.generation, state="TRAINING")
            for worker in workers
        ]

        def talk() -> None:
            asked(wires, beats, HeartbeatAck)
            check(wires[0], workers[0].session, extent)

        yield lambda: _memory_sample(server, talk)


@contextmanager
def _echo_memory(extent: Extent) -> Iterator[Measure]:
    with child_process(_ECHO) as server, wired(server.ready["control"], extent.workers) as wires:

        def talk() -> None:
            for wire in wires:
                wire.send(b".")
            for wire in wires:
                wire.recv()

        yield lambda: _memory_sample(server, talk)


def _memory_sample(server: Child, talk: Callable[[], None]) -> Sample:
    cpu, start = server.cpu_seconds(), perf_counter()
    talk()
    now, peak = server.memory_bytes()
    wall_s, cpu_s = perf_counter() - start, server.cpu_seconds() - cpu
    return Sample(now / _MEGABYTE, wall_s=wall_s, cpu_s=cpu_s, extras={"peak_mb": peak / _MEGABYTE})


@contextmanager
def _restarts(scratch: Path, extent: Extent) -> Iterator[Measure]:
    with tempfile.TemporaryDirectory(prefix="history-", dir=scratch) as folder:
        journal = Path(folder) / "journal.sqlite"

        def start() -> AbstractContextManager[Child]:
            return coordinator_of(journal, extent.workers)

        with _Killed(start) as killed:
            with wired(killed.server.ready["control"], extent.workers) as wires:
                grow(joined(wires), extent)

            def measure() -> Sample:
                sample, wire, session = killed.again(_hello)
                check(wire, session, extent)
                wire.close()
                kept = sum(path.stat().st_size for path in journal.parent.iterdir())
                return Sample(
                    sample.value, sample.wall_s, sample.cpu_s, extras={"journal_mb": kept / _MEGABYTE, **sample.extras}
                )

            yield measure


@contextmanager
def _echo_restarts() -> Iterator[Measure]:
    with _Killed(lambda: child_process(_ECHO)) as killed:

        def measure() -> Sample:
            sample, wire, _ = killed.again(_echoed)
            wire.close()
            return sample

        yield measure


class _Killed:
    """A server that is killed and started again, one process after another."""

    def __init__(self, start: Callable[[], AbstractContextManager[Child]]) -> None:
        self._start = start
        self._stack = ExitStack()

    def __enter__(self) -> _Killed:
        self.server = self._stack.enter_context(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def again(self, greet: Callable[[Wire], int]) -> tuple[Sample, Wire, int]:
        """Kill the server and start it; return the seconds until `greet` has had its answer on a new connection."""
        start = perf_counter()
        self.server.kill()
        self.server = self._stack.enter_context(self._start())
        ready_s = perf_counter() - start
        wire = Wire(self.server.ready["control"])
        found = greet(wire)
        seconds = perf_counter() - start
        extras = {"ready_s": ready_s}
        return Sample(seconds, wall_s=seconds, cpu_s=self.server.cpu_seconds(), extras=extras), wire, found


def _hello(wire: Wire) -> int:
    (welcome,) = asked([wire], [Hello(seq=1, role="client")], Welcome)
    return welcome.session


def _echoed(wire: Wire) -> int:
    wire.send(b".")
    return len(wire.recv())
