"""Taking history back to a checkpoint: the data position that its manifest embeds, for all ranks at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from strata_zmq.domain.ledger import EpochLedger
from strata_zmq.domain.lineage import UNKNOWN, lineage_after, same_lineage
from strata_zmq.errors import InvalidArgumentError, NotFoundError
from strata_zmq.protocol.fields import Count
from strata_zmq.protocol.messages import Restore, Restored

from .records import HistoryRestored
from .rendezvous import Rendezvous
from .world import Session, World

__all__ = ["Restores"]

_SHARDS_PER_UNIT = 2
"""Shards whose cursors are compared for a unit of the cost in `answers.py`."""


class _Position(msgspec.Struct, frozen=True):
    """What `History.ledger_state` wrote."""

    epoch: Count
    commit_index: Count
    datasets: dict[str, _DatasetPosition]
    lineage: Count = UNKNOWN


class _DatasetPosition(msgspec.Struct, frozen=True):
    total_samples: int
    shard_size: int
    shuffle: bool
    seed: int
    ledger: _LedgerState


class _LedgerState(msgspec.Struct, frozen=True):
    """What `EpochLedger.to_state` gave."""

    total_samples: int
    shard_size: int
    cursors: list[int]
    workers: dict[str, Annotated[list[int], Meta(min_length=2, max_length=2)]]

    def to_state(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)


class Restores:
    """Decides whether history goes back."""

    def __init__(self, world: World, rendezvous: Rendezvous, on_restore: Callable[[], None]) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._on_restore = on_restore

    def restore(self, session: Session, request: Restore) -> int:
        """Go back, unless a member remembers what came after the checkpoint: then the caller takes its state.

        Returns what that has cost.
        """
        world, history = self._world, self._world.history
        self._rendezvous.settle_leaves()
        worker = self._rendezvous.caller(session)
        if not history.formed or worker.worker_id not in history.ranks:
            raise world.membership_error(f"restore of {request.checkpoint_id!r}")
        position = _read(request.ledger)
        self._check_datasets(position)
        here = self._stands_at(position)
        carried = any(member.since_commit < history.commit_index for member in history.members)
        if not here and not carried:
            if request.generation not in {0, history.generation}:
                # A late copy: what it took back has gone on since.
                raise world.membership_error(f"restore of {request.checkpoint_id!r}")
            world.record(
                HistoryRestored(
                    checkpoint_id=request.checkpoint_id,
                    generation=history.generation + 1,
                    epoch=position.epoch,
                    commit_index=position.commit_index,
                    ledgers={name: one.ledger.to_state() for name, one in position.datasets.items()},
                    lineage=self._lineage(position),
                )
            )
            world.counters["restores"] += 1
            self._on_restore()
            self._rendezvous.announce()
        world.reply(session, request.seq, Restored, rewound=here or not carried)
        return sum(dataset.shards for dataset in history.datasets.values()) // _SHARDS_PER_UNIT

    def _lineage(self, position: _Position) -> int:
        """Return the lineage of the checkpoint's commit point; one of its own where the manifest is older than that."""
        if position.lineage != UNKNOWN or not position.commit_index:
            return position.lineage
        history = self._world.history
        return lineage_after(
            UNKNOWN,
            term=history.term,
            generation=history.generation + 1,
            commit_index=position.commit_index,
            checksum=0,
        )

    def _stands_at(self, position: _Position) -> bool:
        """Whether history is where the checkpoint was; what the checkpoint does not know has to be untouched."""
        history = self._world.history
        return (
            (history.epoch, history.commit_index) == (position.epoch, position.commit_index)
            and same_lineage(history.lineage, position.lineage)
            and all(
                dataset.ledger.to_state() == position.datasets[name].ledger.to_state()
                if name in position.datasets
                else not dataset.ledger.committed
                for name, dataset in history.datasets.items()
            )
        )

    def _check_datasets(self, position: _Position) -> None:
        for name, there in position.datasets.items():
            dataset = self._world.history.datasets.get(name)
            if dataset is None:
                raise NotFoundError(
                    f"the checkpoint's ledger knows dataset {name!r}, which is not registered: register it first"
                )
            for field in ("total_samples", "shard_size", "shuffle", "seed"):
                before, now = getattr(there, field), getattr(dataset.added, field)
                if before != now:
                    raise InvalidArgumentError(
                        f"dataset {name!r} had {field}={before!r} in the checkpoint and has {now!r} now: "
                        "its positions mean other samples; register it as it was"
                    )
        # Only now: a few bytes can claim many shards, but not more than are registered.
        for there in position.datasets.values():
            EpochLedger.from_state(there.ledger.to_state())


def _read(ledger: bytes) -> _Position:
    try:
        position = msgspec.json.decode(ledger, type=_Position)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidArgumentError(f"ledger is not what a manifest embeds: {error}") from None
    for one in position.datasets.values():
        if (one.ledger.total_samples, one.ledger.shard_size) != (one.total_samples, one.shard_size):
            raise InvalidArgumentError(
                "ledger: a dataset and its cursors are of different sizes, the manifest is damaged"
            )
    return position
