"""A checkpoint's commit as values: the manifest that was decided, what is told of it, and what goes when HEAD advances.

It knows the store and the messages, no connection, so that a simulated writer does the same as a real one.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from strata_zmq.checkpoint.garbage import is_past
from strata_zmq.checkpoint.store import CheckpointStore, Commit
from strata_zmq.domain.lineage import UNKNOWN
from strata_zmq.domain.manifest import HeadEntry, Kind, Manifest, RankEntry, save_order
from strata_zmq.domain.retention import Retention
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol import messages as wire

__all__ = ["manifest_of", "retention_of", "summary_of", "tidy"]


def manifest_of(message: wire.CommitCheckpoint) -> Manifest:
    """Return the manifest that the coordinator has decided to commit; InvalidArgumentError if it makes none."""
    kind = message.kind
    if kind not in get_args(Kind):
        raise InvalidArgumentError(f"kind is {kind!r}: give one of {', '.join(get_args(Kind))}")
    order = save_order(message.checkpoint_id)
    try:
        ledger = json.loads(message.ledger) if message.ledger else None
    except ValueError:
        raise InvalidArgumentError("ledger is no JSON: it is embedded in the manifest as such") from None
    return Manifest(
        checkpoint_id=message.checkpoint_id,
        step=message.step,
        epoch=message.epoch,
        term=message.term,
        # The membership may have changed since the save; the manifest carries the save's.
        generation=order[0] if order is not None else message.generation,
        created_at=message.created_at,
        ranks=tuple(
            RankEntry(
                entry.rank,
                entry.worker_id,
                entry.index_key,
                entry.digest,
                entry.size_bytes,
                refs=tuple(sorted(set(entry.refs))),
                written_bytes=entry.written_bytes,
                drained=entry.drained,
            )
            for entry in message.ranks
        ),
        kind=kind,  # type: ignore[arg-type]
        metadata=message.metadata,
        ledger=ledger,
        lineage=_lineage_in(ledger),
        metrics=message.metrics,
        parent=message.parent,
    )


def _lineage_in(ledger: Any) -> int:
    lineage = ledger.get("lineage", UNKNOWN) if isinstance(ledger, dict) else UNKNOWN
    return lineage if type(lineage) is int and lineage >= 0 else UNKNOWN


def retention_of(message: wire.CommitCheckpoint) -> Retention:
    """Return the rule by which the commit retires others; InvalidArgumentError if it makes none."""
    rule = message.retention
    return Retention(rule.keep_count, rule.keep_every, rule.best_metric, rule.best_mode, rule.best_count)


def summary_of(entry: HeadEntry) -> wire.CheckpointSummary:
    """Return what the coordinator is told of a checkpoint that HEAD reaches."""
    return wire.CheckpointSummary(
        checkpoint_id=entry.checkpoint_id,
        step=entry.step,
        epoch=entry.epoch,
        size_bytes=entry.size_bytes,
        created_at=entry.created_at,
        world_size=entry.world_size,
    )


async def tidy(store: CheckpointStore, commit: Commit) -> None:
    """Delete what the commit retired, and saves that were given up: HEAD keeps them from ever being committed."""
    for checkpoint_id in commit.dropped:
        await store.discard(checkpoint_id)
    for checkpoint_id in await store.unreachable():
        if is_past(commit.head, checkpoint_id) or checkpoint_id in commit.head.retired:
            await store.discard(checkpoint_id)
    await store.sweep()
