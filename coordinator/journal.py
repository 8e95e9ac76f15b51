"""The journal: batches of records on disk before any reply leaves. It knows their order, not what they decide.

SQLite in WAL mode with FULL synchronisation (https://www.sqlite.org/wal.html); one row and one commit per drained
batch. When `snapshot_every` records or `snapshot_bytes` bytes have come since the last snapshot, or as many bytes as
that snapshot has if those are more, the state is written as a new snapshot. The last two snapshots are kept, with the
batches behind the older one: if the newer is damaged, its state can be made again.

So the file never holds more than three snapshots (two, and one that is being written) and the batches of two intervals:
with the defaults 16 MB of them, or twice a snapshot larger than 8 MB, beside one batch each that crossed the line, and
SQLite's pages of 4 KiB around each. The write-ahead log beside it is cut to 4 MB whenever it starts over; until then it
grows by at most one batch or snapshot.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from strata_zmq.errors import StorageError

from .core.history import History
from .core.records import Record
from .journal_file import (
    BEGINNING,
    INSERT_BATCH,
    INSERT_SNAPSHOT,
    Damage,
    batches,
    check_pages,
    connect,
    newest_snapshot,
    reserve_log,
    seal,
)
from .migrate import migrate
from .replay import history_at, replay_batch
from .sqlite_claim import BROKEN

__all__ = ["Journal"]

SNAPSHOT_EVERY = 20_000
SNAPSHOT_BYTES = 8 * 2**20
_NOT_WRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}


class Journal:
    """An append-only log of batches with snapshots, owned by one process at a time; `replay` comes before `append`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        snapshot_every: int = SNAPSHOT_EVERY,
        snapshot_bytes: int = SNAPSHOT_BYTES,
    ) -> None:
        self.path = Path(path)
        self.story = "not replayed yet"
        self._snapshot_every, self._snapshot_bytes = snapshot_every, snapshot_bytes
        self._encode = msgspec.msgpack.Encoder().encode
        self._position, self._link = 0, BEGINNING
        self._records = self._bytes = 0
        self._snapshot_position = self._snapshot_size = 0
        self._broken: StorageError | None = None
        self._db = connect(self.path)
        try:
            migrate(self._db, self.path)
        except (*BROKEN, Damage) as error:
            self._db.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_WRITABLE:
                raise StorageError(
                    f"journal {str(self.path)!r} cannot be written: {error}; make room or choose another --journal"
                ) from None
            raise self._damaged(error) from error
        except BaseException:
            self._db.close()
            raise

    @property
    def position(self) -> int:
        """The number of the last batch; the first is 1."""
        return self._position

    def replay(self) -> History:
        """Return the state that the journal holds, empty for an empty one; raises StorageError at the first damage.

        The checksums of what is replayed are verified, and all pages by SQLite's own check. `story` then tells what was
        read, and how long that took.
        """
        began = time.perf_counter()
        self._position, self._link = 0, BEGINNING
        self._snapshot_position = self._snapshot_size = self._records = self._bytes = 0
        try:
            snapshot = newest_snapshot(self._db)
            if snapshot is not None:
                self._position, self._link = snapshot.position, snapshot.link
                self._snapshot_position, self._snapshot_size = snapshot.position, len(snapshot.body)
            history = history_at(snapshot)
            # An open cursor would keep the file, also when `close` has been called.
            with closing(batches(self._db, self._position, self._link)) as rows:
                for batch in rows:
                    replay_batch(history, batch)
                    self._position, self._link = batch.position, batch.checksum
                    self._records += batch.records
                    self._bytes += len(batch.body)
            check_pages(self._db)
        except (*BROKEN, Damage) as error:
            raise self._damaged(error) from error
        self.story = (
            f"{f'snapshot of batch {self._snapshot_position}' if self._snapshot_position else 'no snapshot'} and "
            f"{self._records} records in {self._position - self._snapshot_position} batches behind it, read in "
            f"{1e3 * (time.perf_counter() - began):.0f} ms"
        )
        return history

    def reserve(self) -> None:
        """Make the disk space of the write-ahead log ready, so that commits are faster; 4 MB at most."""
        reserve_log(self.path)

    def append(self, records: Sequence[Record], history: History) -> None:
        """Make `records` durable in one commit, or raise StorageError; `history` is the state after them.

        After an error the journal takes nothing more: what the disk holds is known again only after a replay.
        """
        if self._broken is not None:
            raise self._broken
        body = self._encode(records)
        position = self._position + 1
        link = seal(self._link, position, len(records), body)
        try:
            # Outside a transaction a statement is one of its own: on disk when this returns.
            self._db.execute(INSERT_BATCH, (position, len(records), link, body))
            self._position, self._link = position, link
            self._records += len(records)
            self._bytes += len(body)
            if self._records >= self._snapshot_every or self._bytes >= max(self._snapshot_bytes, self._snapshot_size):
                self._snapshot(history)
        except sqlite3.DatabaseError as error:
            self._broken = StorageError(
                f"journal {str(self.path)!r} cannot be written: {error}; make room or repair the disk, then start "
                "the coordinator again"
            )
            raise self._broken from error

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    def _damaged(self, error: Exception) -> StorageError:
        whole = f", behind batch {self._position}" if self._position else ""
        if isinstance(error, Damage) and error.intact:
            way = "its bytes are as they were written: start the release that wrote it. Otherwise"
        else:
            way = "restore a copy, or"
        return StorageError(
            f"journal {str(self.path)!r} is damaged{whole}: {error}; {way} go on from the last whole commit: "
            f"strata coordinator --recover --journal {shlex.quote(str(self.path))}"
        )

    def _snapshot(self, history: History) -> None:
        """Write the state down, and forget what the snapshot before the last one was needed for."""
        body = history.to_snapshot()
        execute, before = self._db.execute, self._snapshot_position
        execute("BEGIN IMMEDIATE")
        execute(INSERT_SNAPSHOT, (self._position, self._link, seal(self._link, self._position, 0, body), body))
        execute("DELETE FROM snapshot WHERE position < ?", (before,))
        execute("DELETE FROM batch WHERE position <= ?", (before,))
        execute("COMMIT")
        self._snapshot_position, self._snapshot_size = self._position, len(body)
        self._records = self._bytes = 0
