"""The store of a dispatcher that keeps nothing: functions live as long as the process, and no record is taken."""

from __future__ import annotations

from collections.abc import Sequence

from strata_zmq.errors import StorageError
from strata_zmq.functions.dispatch.records import FunctionRow, Record, Recovered

from .rows import Payload

__all__ = ["NoStore"]


class NoStore:
    """A RecordStore without a place; what it is given by `keep` is there until the process ends."""

    def __init__(self) -> None:
        self._payloads: dict[bytes, Payload] = {}

    def load(self) -> Recovered:
        """Nothing was kept."""
        return Recovered()

    def append(self, records: Sequence[Record]) -> None:
        """Take nothing; StorageError for a record, which would be a promise that cannot be kept."""
        if records:
            raise StorageError(
                "a task of durability 'commit' needs a store: start the dispatcher with --store sqlite:PATH or "
                "redis://HOST:PORT/DB, or submit with durability 'none'"
            )

    def keep(self, payloads: Sequence[tuple[bytes, Payload]]) -> None:
        """Keep payloads in memory."""
        self._payloads.update(payloads)

    def put_function(self, row: FunctionRow) -> None:
        """A function's row is the dispatcher's to remember."""

    def payload(self, digest: bytes) -> Payload | None:
        """Return the payload with this digest, None if it was not given."""
        return self._payloads.get(digest)

    def result(self, task_id: bytes) -> Payload | None:
        """No result is kept here."""
        return None

    def forget(self, task_ids: Sequence[bytes]) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        """There is nothing to let go."""
