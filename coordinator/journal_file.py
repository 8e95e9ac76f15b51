"""How batches and snapshots lie in the journal's SQLite file, and how each proves that it is whole.

A batch is one commit: its records as one MessagePack array. Its checksum covers its position, its records and the
checksum of the batch before it, so that no batch can be changed, lost, swapped or brought in from another file without
the next one telling. A snapshot carries the checksum of the batch that it stands behind. Nothing here knows what a
record decides.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from strata_zmq.errors import StorageError

from .sqlite_claim import WAL_BYTES, Role, claim

__all__ = [
    "BEGINNING",
    "INSERT_BATCH",
    "INSERT_SNAPSHOT",
    "TABLES",
    "Batch",
    "Damage",
    "Snapshot",
    "batches",
    "check_pages",
    "connect",
    "newest_snapshot",
    "reserve_log",
    "seal",
    "snapshot_at",
]

BEGINNING = bytes(16)
"""What the first batch of all is chained to."""

TABLES = (
    """CREATE TABLE batch (
        position INTEGER PRIMARY KEY, records INTEGER NOT NULL, checksum BLOB NOT NULL, body BLOB NOT NULL)""",
    """CREATE TABLE snapshot (
        position INTEGER PRIMARY KEY, link BLOB NOT NULL, checksum BLOB NOT NULL, body BLOB NOT NULL)""",
)
INSERT_BATCH = "INSERT INTO batch (position, records, checksum, body) VALUES (?, ?, ?, ?)"
INSERT_SNAPSHOT = "INSERT INTO snapshot (position, link, checksum, body) VALUES (?, ?, ?, ?)"

_ROLE = Role("journal", "coordinator", "--journal")


class Damage(Exception):  # noqa: N818 - what a reader found; whoever tells a person makes a StorageError of it
    """What is wrong with the file. With `intact` the bytes are those that were written, by another release."""

    def __init__(self, what: str, *, intact: bool = False) -> None:
        super().__init__(what)
        self.intact = intact


class Batch(NamedTuple):
    """One commit, as it lies in the file; its checksum is right."""

    position: int
    records: int
    checksum: bytes
    body: bytes


class Snapshot(NamedTuple):
    """The state behind the batch at `position`, whose checksum is `link`; its own checksum is right."""

    position: int
    link: bytes
    checksum: bytes
    body: bytes


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for this process alone, durable at every commit.

    Raises AlreadyExistsError if a coordinator has the file, StorageError if it is no journal or cannot be opened.
    """

    def look(db: sqlite3.Connection, tables: set[str]) -> None:
        if tables and not tables & {"batch", "record"}:
            raise StorageError(f"journal {str(path)!r} is a database, but no journal: choose another --journal")

    return claim(path, _ROLE, look)


def reserve_log(path: Path) -> None:
    """Give the write-ahead log its full size now, so that a commit need not make its file longer.

    A file system journals a file's length, too: writing where something lies already takes a fifth to a third less.
    SQLite reads no further than the frames that carry its checksum. Where there is no room nothing is reserved.
    """
    log = path.with_name(f"{path.name}-wal")
    with suppress(OSError), log.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.write(bytes(max(WAL_BYTES - size, 0)))
        file.flush()
        os.fdatasync(file.fileno())


def check_pages(db: sqlite3.Connection) -> None:
    """Raise Damage if SQLite finds its pages inconsistent: a page that lost its last rows shows nowhere else."""
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Damage(f"SQLite reports {' '.join(str(found).replace('*', '').split())!r}")


def seal(link: bytes, position: int, records: int, body: bytes) -> bytes:
    """Return the checksum of a row that follows the one with checksum `link`: 16 bytes of BLAKE3."""
    return blake3(b"%b%d %d %b" % (link, position, records, body)).digest(16)


def batches(db: sqlite3.Connection, after: int, link: bytes) -> Generator[Batch, None, None]:
    """Yield the batches after position `after`, whose checksum is `link`; raises Damage at the first that is not whole.

    Raises what SQLite raises for pages that it cannot read.
    """
    query = "SELECT position, records, checksum, body FROM batch WHERE position > ? ORDER BY position"
    whole = after
    with closing(db.execute(query, (after,))) as rows:
        for row in rows:
            batch = Batch(*row)
            if batch.position != whole + 1:
                raise Damage(f"batch {whole + 1} is missing, batch {batch.position} comes next")
            if not _typed(batch) or batch.checksum != seal(link, batch.position, batch.records, batch.body):
                raise Damage(f"batch {batch.position} does not match its checksum")
            yield batch
            whole, link = batch.position, batch.checksum


def newest_snapshot(db: sqlite3.Connection) -> Snapshot | None:
    """Return the newest snapshot, None if there is none yet; raises Damage if it is not whole."""
    (position,) = db.execute("SELECT MAX(position) FROM snapshot").fetchone()
    return None if position is None else snapshot_at(db, position)


def snapshot_at(db: sqlite3.Connection, position: int) -> Snapshot:
    """Return the snapshot at `position`; raises Damage if it is not whole."""
    row = db.execute("SELECT position, link, checksum, body FROM snapshot WHERE position = ?", (position,)).fetchone()
    if row is None:
        raise Damage(f"the snapshot behind batch {position} is missing")
    snapshot = Snapshot(*row)
    if not _typed(snapshot) or snapshot.checksum != seal(snapshot.link, position, 0, snapshot.body):
        raise Damage(f"the snapshot behind batch {position} does not match its checksum")
    return snapshot


def _typed(row: Batch | Snapshot) -> bool:
    # SQLite keeps a type with each value: damage may make a text or a number of bytes.
    kinds = (int, int, bytes, bytes) if isinstance(row, Batch) else (int, bytes, bytes, bytes)
    return all(map(isinstance, row, kinds))
