"""Checkpoints as people follow them: when each of their phases ended, and how long they took. It decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from strata_zmq.protocol.messages import CheckpointSummary
from strata_zmq.protocol.sight_rows import CHECKPOINT_BOUNDS_S, CheckpointSight
from strata_zmq.protocol.sight_tables import Histogram

from . import records
from .entries import OpenCheckpoint
from .records import Record
from .world import World

__all__ = ["CheckpointPhases"]

_DURABLE_MAX = 1000
_BYTES_MAX = 2 * 1024 * 1024
_NAMES_MAX = 20


@dataclass(slots=True)
class _Times:
    """What this life has seen of one checkpoint; times are Unix seconds."""

    began: records.CheckpointBegan
    began_at: float | None = None
    staged_at: float | None = None
    arrived_at: float | None = None
    durable_at: float | None = None
    staged: set[int] = field(default_factory=set)
    arrived: set[int] = field(default_factory=set)
    written_bytes: int | None = 0
    """None once a rank has not told its own."""


class CheckpointPhases:
    """The open checkpoints, the durable ones that HEAD reaches, and those that were given up and not told yet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._times: dict[str, _Times] = {}
        self._aborted: dict[str, CheckpointSight] = {}
        self._durable: dict[str, tuple[CheckpointSummary, CheckpointSight, int]] = {}
        """Rows of durable ones with their sizes: they do not change any more."""
        self.written_bytes = 0
        """Of all that became durable in this life."""
        self._phases = {
            label: Histogram("checkpoint", label, CHECKPOINT_BOUNDS_S)
            for label in ("stage", "drain", "commit", "total")
        }
        for name, opened in world.history.open_checkpoints.items():
            times = self._times[name] = _Times(opened.began)
            times.staged.update(opened.staged)
            for rank, arrival in opened.arrivals.items():
                times.arrived.add(rank)
                _add_written(times, arrival.written_bytes)

    @property
    def histograms(self) -> Iterator[Histogram]:
        """How long the phases took."""
        return iter(self._phases.values())

    def note(self, record: Record) -> bool:
        """Take one record; returns whether it is of a checkpoint."""
        now = self._world.wall_time
        match record:
            case records.CheckpointBegan():
                self._times[record.checkpoint_id] = _Times(record, began_at=now)
            case records.RankStaged():
                self._stage(record, now)
            case records.RankArrived():
                self._arrive(record, now)
            case records.CheckpointTaken():
                self._take(record, now)
            case records.CheckpointAborted():
                self._abort(record)
            case records.CheckpointsReconciled():
                self._forget()
            case _:
                return False
        return True

    def rows(self) -> Iterator[CheckpointSight]:
        """Yield the rows of this moment."""
        history = self._world.history
        left = _BYTES_MAX
        for name, opened in history.open_checkpoints.items():
            yield self._open_row(name, opened)
        for summary in islice(reversed(history.checkpoints.values()), _DURABLE_MAX):
            row, size = self._durable_row(summary)
            left -= size
            if left < 0:
                return
            yield row

    def rows_once(self) -> Iterator[CheckpointSight]:
        """Yield the rows of this moment, those of aborted ones among them for the last time."""
        aborted, self._aborted = self._aborted, {}
        yield from aborted.values()
        yield from self.rows()

    @property
    def has_aborted(self) -> bool:
        """Whether some were given up since `rows_once`."""
        return bool(self._aborted)

    # ---- records

    def _stage(self, record: records.RankStaged, now: float) -> None:
        times = self._times.get(record.checkpoint_id)
        if times is not None:
            times.staged.add(record.rank)
            if times.staged_at is None and len(times.staged) == len(times.began.workers):
                times.staged_at = now

    def _arrive(self, record: records.RankArrived, now: float) -> None:
        times = self._times.get(record.checkpoint_id)
        if times is None or record.arrival.rank in times.arrived:
            return
        times.arrived.add(record.arrival.rank)
        _add_written(times, record.arrival.written_bytes)
        if len(times.arrived) == len(times.began.workers):
            times.arrived_at = now

    def _take(self, record: records.CheckpointTaken, now: float) -> None:
        summary = record.checkpoint
        times = self._times.get(summary.checkpoint_id)
        if times is None or times.written_bytes is None:
            self.written_bytes += summary.size_bytes
        else:
            self.written_bytes += times.written_bytes
        if times is not None:
            times.durable_at = now
            self._measure(times)
        self._forget()

    def _measure(self, times: _Times) -> None:
        began_at, staged_at, arrived_at, durable_at = (
            times.began_at,
            times.staged_at,
            times.arrived_at,
            times.durable_at,
        )
        for label, start, end in (
            ("stage", began_at, staged_at),
            ("drain", staged_at, arrived_at),
            ("commit", arrived_at, durable_at),
            ("total", began_at, durable_at),
        ):
            if start is not None and end is not None:
                self._phases[label].add(max(end - start, 0.0))

    def _abort(self, record: records.CheckpointAborted) -> None:
        times = self._times.pop(record.checkpoint_id, None)
        if times is not None:
            row = self._row(times, "aborted")
            self._aborted[record.checkpoint_id] = msgspec.structs.replace(row, reason=record.reason[:1000])

    def _forget(self) -> None:
        """Let go of what HEAD reaches no more."""
        history = self._world.history
        for known in (self._times, self._durable):
            for name in [name for name in known if name not in history.checkpoints]:
                if name not in history.open_checkpoints:
                    del known[name]

    # ---- rows

    def _open_row(self, name: str, opened: OpenCheckpoint) -> CheckpointSight:
        times = self._times.get(name) or _Times(opened.began)
        return msgspec.structs.replace(
            self._row(times, "writing"),
            arrived=len(opened.arrivals),
            staged=len(opened.staged),
            size_bytes=sum(arrival.size_bytes for arrival in opened.arrivals.values()),
            missing=list(opened.missing[:_NAMES_MAX]),
        )

    def _row(self, times: _Times, status: str) -> CheckpointSight:
        began = times.began
        return CheckpointSight(
            checkpoint_id=began.checkpoint_id,
            step=began.step,
            epoch=began.epoch,
            kind=began.kind,
            status=status,
            world_size=len(began.workers),
            arrived=len(times.arrived),
            staged=len(times.staged),
            size_bytes=0,
            written_bytes=times.written_bytes,
            created_at=began.created_at,
            began_at=times.began_at,
            staged_at=times.staged_at,
            arrived_at=times.arrived_at,
            durable_at=times.durable_at,
            metrics=began.metrics,
            worker_id=began.workers[0] if began.workers else "",
        )

    def _durable_row(self, summary: CheckpointSummary) -> tuple[CheckpointSight, int]:
        name = summary.checkpoint_id
        known = self._durable.get(name)
        if known is not None and known[0] is summary:
            return known[1], known[2]
        times = self._times.get(name)
        if times is not None:
            row = msgspec.structs.replace(self._row(times, "durable"), size_bytes=summary.size_bytes)
        else:
            row = CheckpointSight(
                checkpoint_id=name,
                step=summary.step,
                epoch=summary.epoch,
                kind="",
                status="durable",
                world_size=summary.world_size,
                arrived=summary.world_size,
                staged=0,
                size_bytes=summary.size_bytes,
                written_bytes=None,
                created_at=summary.created_at,
            )
        size = len(msgspec.msgpack.encode(row))
        self._durable[name] = (summary, row, size)
        return row, size


def _add_written(times: _Times, written_bytes: int) -> None:
    times.written_bytes = (
        None if written_bytes < 0 or times.written_bytes is None else times.written_bytes + written_bytes
    )
