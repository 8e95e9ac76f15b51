"""Who hangs: a worker that others wait for and whose training loop does not move, although its heartbeats come.

A worker that sends no heartbeats either (one stuck in the GIL) loses its lease instead, see `leases.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from strata_zmq.errors import ResourceExhaustedError
from strata_zmq.protocol.messages import HangRow
from strata_zmq.protocol.sight_rows import HangSight

from .barriers import Barriers
from .checkpoints import Checkpoints
from .commands import Commands
from .datasets import Datasets
from .effects import HangReport
from .rendezvous import Rendezvous
from .stacks import HangReports
from .world import Worker, World

__all__ = ["Hangs"]

_CHECKS = 20
"""How many times within `hang_s` it is looked for."""
_NAMES_MAX = 20
_WAITERS_ASKED_MAX = 16
"""Who waits for one that hangs, and is asked for its stacks as well: they tell what all are at."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """Somebody waits for somebody: where, since when, how many, and for whom."""

    where: str
    since: float
    waiters: int
    missing: Sequence[str]
    names: list[str]
    """Of some of those who wait."""


@dataclass(slots=True)
class _Verdict:
    worker: Worker
    wait: _Wait
    found_at: float


class Hangs:
    """The verdicts of the moment: at most one for each worker."""

    def __init__(
        self,
        world: World,
        rendezvous: Rendezvous,
        commands: Commands,
        *,
        barriers: Barriers,
        datasets: Datasets,
        checkpoints: Checkpoints,
        reports: HangReports,
    ) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._commands = commands
        self._barriers = barriers
        self._datasets = datasets
        self._checkpoints = checkpoints
        self._reports = reports
        self._verdicts: dict[str, _Verdict] = {}
        self._checked_at = float("-inf")

    def tick(self) -> None:
        """Look for workers that hang; ask each once for its stacks, and evict it if that is wanted."""
        self._reports.tick()
        world, hang_s = self._world, self._world.config.hang_s
        if not hang_s or world.now - self._checked_at < hang_s / _CHECKS:
            return
        self._checked_at = world.now
        found = self._find()
        for name, verdict in found.items():
            before = self._verdicts.get(name)
            if before is not None and before.worker is verdict.worker:
                verdict.found_at = before.found_at
            else:
                self._tell(verdict)
        self._verdicts = found
        if world.config.evict_hung:
            self._evict()

    def forgive(self, gap_s: float) -> None:
        """The coordinator itself did not run for so long: who was asked for its stacks has that much longer to move."""
        for verdict in self._verdicts.values():
            verdict.found_at += gap_s
        self._reports.forgive(gap_s)

    def rows(self) -> list[HangRow]:
        """Return the verdicts as STATUS shows them."""
        world = self._world
        return [
            HangRow(
                worker_id=name,
                rank=world.history.ranks.get(name, -1),
                since_s=world.now - verdict.worker.moved_at,
                waited_for_by=verdict.wait.waiters,
                where=verdict.wait.where,
            )
            for name, verdict in self._verdicts.items()
        ]

    def sights(self, most: int) -> Iterator[HangSight]:
        """Yield at most so many verdicts as they are shown to those who look on."""
        world = self._world
        offset_s = world.config.wall_offset_s
        for name, verdict in islice(self._verdicts.items(), most):
            yield HangSight(
                worker_id=name,
                rank=world.history.ranks.get(name, -1),
                where=verdict.wait.where,
                since=verdict.worker.moved_at + offset_s,
                found_at=verdict.found_at + offset_s,
                waiter_count=verdict.wait.waiters,
                waiters=verdict.wait.names,
            )

    def _find(self) -> dict[str, _Verdict]:
        world = self._world
        # Who waits elsewhere does not hang: somebody else is missing there.
        waits = {worker for barrier in self._barriers.open.values() for worker in barrier.arrivals}
        waits.update(self._datasets.finished, self._rendezvous.waiting)
        found: dict[str, _Verdict] = {}
        for wait in self._waits():
            for name in wait.missing:
                worker = world.workers.get(name)
                if worker is None or name in waits or name in found:
                    continue
                if world.now - max(worker.moved_at, wait.since) >= world.config.hang_s:
                    found[name] = _Verdict(worker, wait, world.now)
        return found

    def _waits(self) -> Iterator[_Wait]:
        members = self._world.history.member_ids
        for key, barrier in self._barriers.open.items():
            if barrier.expected >= len(members):  # of a smaller one it is not known who should come
                kind = "commit point" if barrier.terms.commit else f"barrier {key.name!r} step"
                yield _Wait(
                    f"{kind} {key.step}",
                    barrier.opened_at,
                    len(barrier.arrivals),
                    barrier.missing(members),
                    list(islice(barrier.arrivals, _NAMES_MAX)),
                )
        finished = self._datasets.finished
        if finished:
            missing = [name for name in members if name not in finished]
            yield _Wait(
                f"epoch {self._world.history.epoch}",
                self._datasets.finished_since,
                len(finished),
                missing,
                list(islice(finished, _NAMES_MAX)),
            )
        for name, opened in self._world.history.open_checkpoints.items():
            waiters, since = self._checkpoints.waiters(name)
            if waiters:
                there = [worker for rank, worker in enumerate(opened.began.workers) if rank in opened.arrivals]
                yield _Wait(f"checkpoint {name!r}", since, waiters, opened.missing, there[:_NAMES_MAX])

    def _tell(self, verdict: _Verdict) -> None:
        world, worker, wait = self._world, verdict.worker, verdict.wait
        who = self._rendezvous.describe_missing([worker.worker_id])
        told = f"{who} hangs: {wait.waiters} wait for it at {wait.where}"
        world.counters["hangs"] += 1
        world.note(told, "hang", worker_id=worker.worker_id)
        waiters = [world.workers[name] for name in wait.names if name in world.workers]
        asked = [one for one in (worker, *waiters[:_WAITERS_ASKED_MAX]) if self._ask(one, told)]
        report = HangReport(
            told=told,
            worker_id=worker.worker_id,
            where=wait.where,
            found_at=world.wall_time,
            still_s=world.now - worker.moved_at,
            waiter_count=wait.waiters,
            waiters=wait.names,
        )
        self._reports.open(report, asked)

    def _ask(self, worker: Worker, why: str) -> bool:
        try:
            self._commands.issue([worker], "dump_stacks", why)
        except ResourceExhaustedError as error:
            self._world.note(str(error))
            return False
        return True

    def _evict(self) -> None:
        """Take who hangs for lost, two heartbeats after it was asked for its stacks."""
        world = self._world
        for name, verdict in list(self._verdicts.items()):
            if world.now - verdict.found_at >= 2 * world.config.heartbeat_s:
                del self._verdicts[name]
                verdict.worker.evicted = True
                world.counters["hung_evicted"] += 1
                world.note(f"worker {name} hangs and is taken for lost", "hang_evicted", worker_id=name)
                self._rendezvous.remove(verdict.worker, "lost", "its training loop hangs")
