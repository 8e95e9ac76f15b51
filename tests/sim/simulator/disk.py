"""The coordinator's simulated disk: records as bytes, whole batches or nothing. It survives every kill."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.records import Record

__all__ = ["Disk"]

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class Disk:
    """A journal with snapshots, as the real one: a snapshot takes the place of the records before it."""

    def __init__(self, snapshot_every: int) -> None:
        self._snapshot_every = snapshot_every
        self._snapshot = b""
        self._records: list[bytes] = []

    @staticmethod
    def encode(records: Sequence[Record]) -> list[bytes]:
        """Return the bytes that `append` takes."""
        return [_encoder.encode(record) for record in records]

    @staticmethod
    def decode(body: bytes) -> Record:
        """Return the record that was written."""
        return _decoder.decode(body)

    def append(self, bodies: Sequence[bytes], history: History) -> None:
        """Make one batch durable; `history` is the state after it."""
        self._records.extend(bodies)
        if len(self._records) >= self._snapshot_every:
            self._snapshot = history.to_snapshot()
            self._records.clear()

    def replay(self) -> History:
        """Return the state that the disk holds."""
        history = History.from_snapshot(self._snapshot) if self._snapshot else History()
        for body in self._records:
            history.apply(_decoder.decode(body))
        return history
