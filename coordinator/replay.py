"""Makes history of the journal's rows. What cannot be understood is named as such; it knows no file.

Rows come here with their checksums verified: what fails to be read is not damage but another release's, or schema 1's.
"""

from __future__ import annotations

import msgspec

from strata_zmq.errors import StrataError

from .core.history import History
from .core.records import Record
from .journal_file import Batch, Damage, Snapshot

__all__ = ["history_at", "read_batch", "read_snapshot", "replay_batch"]

# What reads as MessagePack may still say what cannot be.
_UNREADABLE = (msgspec.MsgspecError, StrataError, LookupError, TypeError, ValueError, AttributeError)

_decoder: msgspec.msgpack.Decoder[list[Record]] = msgspec.msgpack.Decoder(list[Record])


def history_at(snapshot: Snapshot | None) -> History:
    """Return the state that a snapshot holds; the empty one without."""
    if snapshot is None:
        return History()
    return read_snapshot(f"the snapshot behind batch {snapshot.position}", snapshot.body)


def replay_batch(history: History, batch: Batch) -> None:
    """Move `history` on by one batch; after Damage it is of no more use."""
    name = f"batch {batch.position}"
    records = read_batch(name, batch.body)
    if len(records) != batch.records:
        raise Damage(f"{name} says that it has {batch.records} records and has {len(records)}", intact=True)
    try:
        for record in records:
            history.apply(record)
    except _UNREADABLE as error:
        raise Damage(f"{name} does not follow from what was before ({error!r})", intact=True) from None


def read_batch(name: str, body: bytes) -> list[Record]:
    """Return the records in a batch's body; raises Damage, which calls it `name`."""
    try:
        return _decoder.decode(body)
    except _UNREADABLE as error:
        raise Damage(f"{name} cannot be read ({error})", intact=True) from None


def read_snapshot(name: str, body: bytes) -> History:
    """Return the state in a snapshot's body; raises Damage, which calls it `name`."""
    try:
        return History.from_snapshot(body)
    except _UNREADABLE as error:
        raise Damage(f"{name} cannot be read ({error!r})", intact=True) from None
