"""The journal: records on disk before any reply leaves. It knows records as bytes in order, not what they decide.

SQLite in WAL mode with FULL synchronisation; one transaction per drained batch. A snapshot replaces the records before
it, so that the file's size and the time to replay stay bounded. (https://www.sqlite.org/wal.html)
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from strata_zmq.errors import AlreadyExistsError, StorageError, StrataError

from .core.history import History
from .core.records import Record

__all__ = ["Journal"]

SCHEMA_VERSION = 1
SNAPSHOT_EVERY = 20_000

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class Journal:
    """An append-only log of records with snapshots, owned by one process at a time."""

    def __init__(self, path: str | os.PathLike[str], *, snapshot_every: int = SNAPSHOT_EVERY) -> None:
        self.path = Path(path)
        self._snapshot_every = snapshot_every
        self._appended = 0
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"journal {str(self.path)!r} cannot be written: {error.strerror}; choose another --journal"
            ) from None
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=0.0)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise AlreadyExistsError(
                    f"journal {str(self.path)!r} is in use by another coordinator: stop it, or choose another --journal"
                ) from None
            raise StorageError(f"journal {str(self.path)!r} cannot be opened: {error}; check --journal") from None
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"journal {str(self.path)!r} is damaged or no journal ({error}): move it away to start empty, "
                "or choose another --journal"
            ) from None

    def replay(self) -> History:
        """Return the state that the journal holds; an empty journal gives an empty state."""
        try:
            row = self._db.execute("SELECT position, body FROM snapshot ORDER BY position DESC LIMIT 1").fetchone()
            position, history = (row[0], History.from_snapshot(row[1])) if row else (0, History())
            for (body,) in self._db.execute(
                "SELECT body FROM record WHERE position > ? ORDER BY position", (position,)
            ):
                history.apply(_decoder.decode(body))
                self._appended += 1
        except (sqlite3.DatabaseError, msgspec.MsgspecError, StrataError, LookupError, TypeError, ValueError) as error:
            # What reads as MessagePack may still say what cannot be.
            raise StorageError(
                f"journal {str(self.path)!r} cannot be replayed ({error!r}): it is damaged or from another release; "
                "restore a copy, or move it away to start empty"
            ) from None
        return history

    def append(self, records: Sequence[Record], history: History) -> None:
        """Make `records` durable in one transaction, or raise StorageError; `history` is the state after them."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO record (body) VALUES (?)", [(_encoder.encode(one),) for one in records])
            self._appended += len(records)
            if self._appended >= self._snapshot_every:
                self._snapshot(history)
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise StorageError(f"journal {str(self.path)!r} cannot be written: {error}") from error

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    def _snapshot(self, history: History) -> None:
        position = self._db.execute("SELECT MAX(position) FROM record").fetchone()[0]
        self._db.execute("INSERT INTO snapshot (position, body) VALUES (?, ?)", (position, history.to_snapshot()))
        self._db.execute("DELETE FROM snapshot WHERE position < ?", (position,))
        self._db.execute("DELETE FROM record WHERE position <= ?", (position,))
        self._appended = 0

    def _open(self) -> None:
        # EXCLUSIVE keeps a second coordinator out for as long as this process lives, kill -9 included.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, SCHEMA_VERSION}:
            raise StorageError(
                f"journal {str(self.path)!r} has schema {version}, this release reads {SCHEMA_VERSION}: "
                "use the release that wrote it, or another --journal"
            )
        # AUTOINCREMENT keeps positions rising after a snapshot has emptied the table.
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS record (position INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS snapshot (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._db.execute("COMMIT")
