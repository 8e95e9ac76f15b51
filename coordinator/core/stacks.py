"""What workers' threads were doing when they were asked, and what is written down of a hang. It judges nobody.

A hang is written down once everybody who was asked has answered, or two heartbeats later: who is stopped, or holds the
interpreter's lock, never does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from strata_zmq.protocol.messages import Done, ReportStacks
from strata_zmq.protocol.requests import STACKS_BYTES_MAX
from strata_zmq.protocol.sight_rows import StacksSight

from .effects import HangReport, Stacks
from .rendezvous import Rendezvous
from .world import Session, Worker, World

__all__ = ["STACKS_MAX", "HangReports"]

STACKS_MAX = 64
"""Workers whose latest stacks are kept."""
_OPEN_MAX = 16
"""Hangs that are being asked about; of more at a time nothing is written down."""


@dataclass(slots=True)
class _Open:
    """One hang whose stacks are awaited; the first one asked is the one that hangs."""

    report: HangReport
    asked: list[Worker]
    since: float
    until: float


class HangReports:
    """The latest stacks, and the reports of hangs that wait for theirs."""

    def __init__(self, world: World, rendezvous: Rendezvous) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._latest: OrderedDict[str, StacksSight] = OrderedDict()
        self._told_at: dict[str, float] = {}
        """By worker when its latest stacks came, on the clock of the events."""
        self._open: list[_Open] = []

    def take(self, session: Session, request: ReportStacks) -> None:
        """Keep what a worker tells of itself; its connection says whose it is."""
        world = self._world
        worker = self._rendezvous.caller(session)
        name = worker.worker_id
        text = request.text.encode(errors="replace")[:STACKS_BYTES_MAX].decode(errors="ignore")
        self._latest.pop(name, None)
        self._latest[name] = StacksSight(worker_id=name, incarnation=worker.incarnation, at=world.wall_time, text=text)
        self._told_at[name] = world.now
        while len(self._latest) > STACKS_MAX:
            gone, _ = self._latest.popitem(last=False)
            del self._told_at[gone]
        world.reply(session, request.seq, Done)

    def rows(self) -> Iterator[StacksSight]:
        """Yield the latest stacks of each worker."""
        return iter(self._latest.values())

    def open(self, report: HangReport, asked: Sequence[Worker]) -> None:
        """Wait for the stacks of those who were asked, and write the hang down then."""
        if len(self._open) < _OPEN_MAX:
            now = self._world.now
            self._open.append(_Open(report, list(asked), now, now + 2 * self._world.config.heartbeat_s))

    def tick(self) -> None:
        """Write down what is complete, or has waited long enough."""
        waiting: list[_Open] = []
        for one in self._open:
            if self._world.now >= one.until or all(self._has_told(worker, one.since) for worker in one.asked):
                self._write(one)
            else:
                waiting.append(one)
        self._open = waiting

    def forgive(self, gap_s: float) -> None:
        """The coordinator itself did not run for so long: who was asked has that much longer."""
        for one in self._open:
            one.until += gap_s

    def _has_told(self, worker: Worker, since: float) -> bool:
        row = self._latest.get(worker.worker_id)
        return row is not None and row.incarnation == worker.incarnation and self._told_at[worker.worker_id] >= since

    def _write(self, one: _Open) -> None:
        for worker in one.asked:
            if self._has_told(worker, one.since):
                told = Stacks(worker.worker_id, self._latest[worker.worker_id].text)
            else:
                told = Stacks(worker.worker_id, "", self._silence(worker))
            one.report.stacks.append(told)
        self._world.effects.hangs.append(one.report)

    def _silence(self, worker: Worker) -> str:
        if worker.end:
            return f"it was given up before it told its stacks: {worker.end}"
        return (
            f"it has not told its stacks; it was last heard {self._world.now - worker.heard_at:.1f} s ago: its process "
            "is stopped, or some code of it holds the interpreter's lock"
        )
