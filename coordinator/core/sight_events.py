"""What happened, as a log for people: records and happenings of each step, in their order, as sentences.

It decides nothing. A flood of one kind is summed up, so that it does not push out everything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from strata_zmq.protocol.sight import EVENTS_MAX
from strata_zmq.protocol.sight_rows import EventSight
from strata_zmq.protocol.sight_tables import Log

from . import records
from .effects import Effects, Happening
from .world import World, shown

__all__ = ["Events"]

_TEXT_MAX = 1000
_ALIKE_MAX = 16
"""Events of one kind that a step adds; the others are counted in one more."""
_REFUSED_S = 1.0

_LEVELS = {
    **dict.fromkeys(("checkpoint_aborted", "hang", "leases_frozen", "coordinator_late"), "warning"),
    **dict.fromkeys(("worker_lost", "generation_broken", "barrier_broken", "refused", "note"), "warning"),
    **dict.fromkeys(("hang_evicted", "deadlock"), "error"),
}
"""By kind; all others are info."""


class Events:
    """The latest events of this life."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.log: Log[EventSight] = Log(EVENTS_MAX)
        self._refused_at = float("-inf")
        self._sentences: dict[type, Callable[[Any], Happening]] = {
            records.TermStarted: _term_started,
            records.GenerationChanged: _generation,
            records.GenerationBroken: _generation_broken,
            records.DatasetAdded: _dataset_added,
            records.EpochBegan: _epoch,
            records.CheckpointBegan: _checkpoint_began,
            records.CheckpointTaken: _checkpoint_durable,
            records.CheckpointAborted: _checkpoint_aborted,
            records.HistoryRestored: _restored,
            records.CommandIssued: _command,
        }

    def note(self, effects: Effects) -> None:
        """Add what a step has decided and what has happened in it."""
        counts: Counter[str] = Counter()
        for happening in self._in_order(effects):
            counts[happening.kind] += 1
            if counts[happening.kind] <= _ALIKE_MAX:
                self._add(happening)
        for kind, count in counts.items():
            if count > _ALIKE_MAX:
                self._add(Happening(0, kind, f"and {count - _ALIKE_MAX} more of these at the same time"))

    def note_refusals(self) -> None:
        """Tell of requests that were refused, at most once a second: the latest one, and how many they were."""
        world = self._world
        if world.now < self._refused_at + _REFUSED_S:
            return
        self._refused_at = world.now
        count, world.refused = world.refused, 0
        refusal = world.refusal
        others = f" (and {count - 1} more before it)" if count > 1 else ""
        self._add(Happening(0, "refused", f"{refusal.text}{others}", refusal.subject, refusal.worker_id))

    def _in_order(self, effects: Effects) -> Iterator[Happening]:
        """Yield what happened between the records that were decided before and after it."""
        happenings = iter(effects.happenings)
        happening = next(happenings, None)
        for place, record in enumerate(effects.records):
            while happening is not None and happening.place <= place:
                yield happening
                happening = next(happenings, None)
            sentence = self._sentences.get(type(record))
            if sentence is not None:
                yield sentence(record)
        while happening is not None:
            yield happening
            happening = next(happenings, None)

    def _add(self, happening: Happening) -> None:
        kind, text = happening.kind, happening.text
        self.log.add(
            EventSight(
                number=self.log.last + 1,
                at=self._world.wall_time,
                kind=kind,
                level=_LEVELS.get(kind, "info"),
                text=text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 4]} ...",
                subject=happening.subject,
                worker_id=happening.worker_id,
            )
        )


def _term_started(record: records.TermStarted) -> Happening:
    why = ": the store knows checkpoints of an earlier one" if record.adopted else ""
    return Happening(0, "term_started", f"the coordinator's term {record.term} began{why}")


def _generation(record: records.GenerationChanged) -> Happening:
    joined = shown([member.worker_id for member in record.joined])
    return Happening(
        0, "generation", f"generation {record.generation} began (joined: {joined}; left: {shown(record.left)})"
    )


def _generation_broken(record: records.GenerationBroken) -> Happening:
    return Happening(0, "generation_broken", f"the generation is broken: {shown(record.left)} left, too few remain")


def _dataset_added(record: records.DatasetAdded) -> Happening:
    return Happening(
        0,
        "dataset_added",
        f"dataset {record.dataset_id} was registered: {record.total_samples} samples in shards of {record.shard_size}",
        record.dataset_id,
    )


def _epoch(record: records.EpochBegan) -> Happening:
    return Happening(0, "epoch", f"epoch {record.epoch} began")


def _checkpoint_began(record: records.CheckpointBegan) -> Happening:
    return Happening(
        0,
        "checkpoint_began",
        f"checkpoint {record.checkpoint_id} of step {record.step} began, of {len(record.workers)} ranks",
        record.checkpoint_id,
    )


def _checkpoint_durable(record: records.CheckpointTaken) -> Happening:
    name = record.checkpoint.checkpoint_id
    return Happening(0, "checkpoint_durable", f"checkpoint {name} is durable", name)


def _checkpoint_aborted(record: records.CheckpointAborted) -> Happening:
    return Happening(
        0,
        "checkpoint_aborted",
        f"checkpoint {record.checkpoint_id} is given up: {record.reason}",
        record.checkpoint_id,
    )


def _restored(record: records.HistoryRestored) -> Happening:
    return Happening(
        0,
        "restored",
        f"history went back to checkpoint {record.checkpoint_id}: epoch {record.epoch}, commit point "
        f"{record.commit_index}",
        record.checkpoint_id,
    )


def _command(record: records.CommandIssued) -> Happening:
    names = [name for name, _, _ in record.workers]
    why = f": {record.reason}" if record.reason else ""
    return Happening(
        0,
        "command",
        f"{record.command} was asked of {shown(names)}{why}",
        worker_id=names[0] if len(names) == 1 else "",
    )
