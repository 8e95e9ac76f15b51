"""What the coordinator shows to people: snapshots, and deltas while somebody follows. Nothing is ever decided from it.

Of a worker that said something a step keeps one entry in a dict; rows are made when a delta is due, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.sight import FLUSH_S, LEASE_S, QUIET_S, ROWS_MAX, Changes, SightDelta
from strata_zmq.protocol.sight_rows import HistogramSight, JobSight, SettingSight, StacksSight, WorkerSight
from strata_zmq.protocol.sight_tables import Table, fitting

from . import records, sight_rows
from .barriers import Barriers
from .effects import Effects
from .hangs import Hangs
from .rendezvous import Rendezvous
from .sight_checkpoints import CheckpointPhases
from .sight_events import Events
from .sight_releases import Releases, barrier_id
from .world import Session, World

if TYPE_CHECKING:
    from strata_zmq.protocol.sight_rows import OpenBarrierSight

__all__ = ["Sight"]

_WORKERS_MAX = 10_000
_WORKERS_BYTES_MAX = 4 * 1024 * 1024
_DATASETS_BYTES_MAX = 2 * 1024 * 1024
_BARRIERS_MAX = 100
_RUNS_MAX = 1000
_DATASETS_S = 1.0
"""Rows of datasets name many workers, and change with every commit point."""
_HANGS_MAX = 256
_DEALING = frozenset(
    {records.GenerationChanged, records.GenerationFormed, records.DatasetAdded, records.EpochBegan}
    | {records.HistoryRestored}
)
"""Records by which shards change hands."""


class Sight:
    """Keeps what only people ask for, and tells those who follow what has changed."""

    def __init__(
        self,
        world: World,
        rendezvous: Rendezvous,
        *,
        barriers: Barriers,
        hangs: Hangs,
        releases: Releases,
        stacks: Callable[[], Iterable[StacksSight]],
        settings: Sequence[SettingSight],
    ) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._barriers = barriers
        self._releases = releases
        self._settings = list(settings)
        self._events = Events(world)
        self._checkpoints = CheckpointPhases(world)
        self._datasets = sight_rows.Datasets(world)
        self._measured: list[HistogramSight] = []
        self._barrier_rows: dict[str, tuple[Any, OpenBarrierSight]] = {}
        self._began_at: dict[int, float] = {}
        """Unix time of the generations that began in this life."""
        self._shards: dict[str, int] = {}
        self._dealt = True
        """Whether `_shards` is out of date."""
        self._committed_samples = 0
        self._moved_shards = 0
        self._started_at = 0.0
        self._life = ""
        self._number = 0
        self._watched_until = self._due = self._told_at = float("-inf")
        self._job: JobSight | None = None
        self._latest = (-1, 0.0, 0.0, Changes())
        """The latest snapshot, with its number, when it was made, and when as a Unix time."""
        self._moves = 0
        tables = (
            Table("writers", partial(sight_rows.writers, world), always=True),
            Table("datasets", self._dataset_rows, every_s=_DATASETS_S),
            Table("certificates", partial(sight_rows.certificates, world)),
            Table("rebalances", partial(sight_rows.rebalances, world, self._began_at)),
            Table("checkpoints", self._checkpoints.rows_once, lasting=self._checkpoints.rows),
            Table("barriers", self._open_barriers, always=True),
            Table("hangs", lambda: hangs.sights(_HANGS_MAX), always=True),
            Table("stacks", stacks, always=True),
            Table("lost", partial(sight_rows.lost, world, rendezvous)),
            Table("histograms", self._histograms, always=True),
            Table("settings", lambda: self._settings),
        )
        self._tables = {table.name: table for table in tables}

    @property
    def watched(self) -> bool:
        """Whether somebody follows."""
        return self._world.now < self._watched_until

    # ---- what happens

    def start(self) -> None:
        """Begin a life, right after its first record."""
        world = self._world
        self._started_at = world.wall_time
        self._life = f"{world.history.term}-{world.config.life}"

    def note(self, effects: Effects) -> None:
        """Take what a step has decided and what happened in it. Every step: it costs nothing where nothing has."""
        if effects.records:
            for record in effects.records:
                self._note_record(record)
        if effects.records or effects.happenings:
            self._events.note(effects)
        if self._world.refused:
            self._events.note_refusals()

    def measured(self, rows: Sequence[HistogramSight]) -> None:
        """Take durations that the shell has measured; they replace those of the last time."""
        self._measured = list(rows)

    def renew(self, session: Session, request: wire.GetSight) -> None:
        """Let the deltas go on for somebody who has what went before."""
        self._watch()
        self._world.reply(session, request.seq, wire.Done)

    def ask(self, recipients: list[tuple[bytes, int, int]]) -> None:
        """Answer all GET_SIGHT of a step, each given as (connection, session, seq), with one snapshot.

        Who asks before the next delta gets the one that others have had: what is new since comes with that delta.
        """
        world = self._world
        self._watch()
        number, made_at, at, state = self._latest
        if number != self._number or world.now >= made_at + FLUSH_S:
            at, state = world.wall_time, self._snapshot()
            self._latest = (self._number, world.now, at, state)
        world.reply_all(recipients, wire.Sight, life=self._life, number=self._number, at=at, state=state)

    def flush(self) -> SightDelta | None:
        """Return the next delta, if somebody follows and it is due."""
        world = self._world
        if world.now < self._due:
            return None
        self._due = world.now + FLUSH_S
        if not self.watched:
            world.touched.clear()
            return None
        changes, missed = self._changes()
        if changes is None and world.now < self._told_at + QUIET_S:
            return None
        self._number += 1
        self._told_at = world.now
        return SightDelta(
            life=self._life, number=self._number, at=world.wall_time, changes=changes or Changes(), missed=missed
        )

    def _note_record(self, record: records.Record) -> None:
        history = self._world.history
        kind = type(record)
        if self._checkpoints.note(record):
            self._tables["checkpoints"].stale = True
        if kind in _DEALING:
            self._dealt = True
            self._tables["datasets"].stale = True
        match record:
            case records.BarrierReleased(commit=True):
                self._committed_samples += sum(
                    seen.stop - seen.start for ranges in record.ranges.values() for seen in ranges
                )
                self._tables["datasets"].stale = True
            case records.GenerationChanged():
                self._began_at[record.generation] = self._world.wall_time
                known = {change.generation: change.moved for change in history.rebalances}
                self._moved_shards += known.get(record.generation, 0)
                for generation in [one for one in self._began_at if one not in known]:
                    del self._began_at[generation]
                self._tables["rebalances"].stale = True
            case records.EpochBegan() | records.HistoryRestored():
                self._tables["certificates"].stale = True
            case records.GenerationBroken():
                self._dealt = True

    # ---- who follows

    def _watch(self) -> None:
        world = self._world
        if not self.watched:
            # Whoever has followed before has missed something: the numbers have to show it.
            self._number += 1
            self._deal()
            world.touched.clear()
            for table in self._tables.values():
                table.begin()
            self._events.log.begin()
            self._releases.log.begin()
            self._job = None
            self._told_at, self._due = world.now, world.now + FLUSH_S
        self._watched_until = world.now + LEASE_S

    # ---- snapshots and deltas

    def _snapshot(self) -> Changes:
        tables: dict[str, Any] = {name: table.snapshot() for name, table in self._tables.items()}
        return Changes(
            job=self._job_row(),
            workers=self._worker_rows(),
            events=self._events.log.told(),
            releases=[self._releases.row(one) for one in self._releases.log.told()],
            **tables,
        )

    def _worker_rows(self) -> list[WorkerSight]:
        """Return the rows of all live workers; those that have no room are told with the next deltas."""
        world = self._world
        shards = self._shards
        workers = list(islice(world.workers.values(), _WORKERS_MAX))
        rows = fitting((sight_rows.worker_row(world, worker, shards) for worker in workers), _WORKERS_BYTES_MAX)
        for worker in islice(world.workers.values(), len(rows), None):
            world.touched[worker.worker_id] = worker
        return rows

    def _changes(self) -> tuple[Changes | None, int]:
        """Return what has changed since the last time, None if nothing has, and how many rows of logs were lost."""
        if self._dealt:
            self._deal()
        if self._moves != self._rendezvous.moves:
            self._moves = self._rendezvous.moves
            self._tables["lost"].stale = True
        changed: dict[str, Any] = {}
        gone: dict[str, list[str]] = {}
        changed["workers"], gone["workers"] = self._touched_rows()
        aborted = self._checkpoints.has_aborted
        for name, table in self._tables.items():
            changed[name], gone[name] = table.changes(self._world.now, ROWS_MAX)
        if aborted:
            self._tables["checkpoints"].stale = True
        changed["events"], missed = self._events.log.changes(ROWS_MAX)
        ended, unseen = self._releases.log.changes(ROWS_MAX)
        changed["releases"] = [self._releases.row(one) for one in ended]
        job = self._job_row()
        if job != self._job:
            changed["job"] = self._job = job
        gone = {name: keys for name, keys in gone.items() if keys}
        told = {name: rows for name, rows in changed.items() if rows}
        missed += unseen
        if not told and not gone and not missed:
            return None, 0
        return Changes(**told, gone=gone), missed

    def _touched_rows(self) -> tuple[list[WorkerSight], list[str]]:
        """Return the rows of those touched first, as many as fit, and the names of those who are no more."""
        world = self._world
        touched = world.touched
        names = list(islice(touched, ROWS_MAX))
        gone = [name for name in names if name not in world.workers]
        live = [world.workers[name] for name in names if name in world.workers]
        rows = fitting((sight_rows.worker_row(world, worker, self._shards) for worker in live), _WORKERS_BYTES_MAX)
        for name in gone:
            del touched[name]
        for row in rows:
            del touched[row.worker_id]
        return rows, gone

    def _deal(self) -> None:
        """Count again who owns how much; every worker's row may be another."""
        world = self._world
        self._dealt = False
        self._shards = sight_rows.owned_shards(world)
        for name, worker in world.workers.items():
            world.touched.setdefault(name, worker)

    # ---- rows

    def _job_row(self) -> JobSight:
        world, history, config = self._world, self._world.history, self._world.config
        counters = {name: count for name, count in world.counters.items() if name != "requests"}
        return JobSight(
            job=config.job,
            term=history.term,
            generation=history.generation,
            formed=history.formed,
            epoch=history.epoch,
            commit_index=history.commit_index,
            started_at=self._started_at,
            version=config.server_version,
            lease_s=config.lease_s,
            heartbeat_s=config.heartbeat_s,
            hang_s=config.hang_s,
            world_size=len(history.members),
            need=self._rendezvous.need,
            have=len(world.workers),
            pending=str(self._rendezvous.pending or ""),
            frozen=world.frozen,
            stopped_runs=list(history.stopped_runs[:_RUNS_MAX]),
            requests=world.counters["requests"],
            releases=history.releases,
            committed_samples=self._committed_samples,
            checkpoint_bytes=self._checkpoints.written_bytes,
            moved_shards=self._moved_shards,
            counters=counters,
        )

    def _dataset_rows(self) -> list[Any]:
        return fitting(self._datasets.rows(), _DATASETS_BYTES_MAX)

    def _histograms(self) -> Iterator[HistogramSight]:
        yield from self._measured
        yield self._releases.histogram.row()
        for histogram in self._checkpoints.histograms:
            yield histogram.row()

    def _open_barriers(self) -> Iterable[OpenBarrierSight]:
        """Return the rows of the barriers that were opened first; one that nobody has come to since keeps its row."""
        rows: dict[str, tuple[Any, OpenBarrierSight]] = {}
        for key, barrier in islice(self._barriers.open.items(), _BARRIERS_MAX):
            mark = (barrier.opened_at, len(barrier.arrivals), next(reversed(barrier.arrivals), ""), barrier.expected)
            name = barrier_id(key)
            known = self._barrier_rows.get(name)
            same = known is not None and known[0] == mark
            rows[name] = (
                known if known is not None and same else (mark, sight_rows.open_barrier(self._world, barrier, key))
            )
        self._barrier_rows = rows
        return [row for _, row in rows.values()]
