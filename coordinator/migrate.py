"""Which layouts a journal's file has had, and the step from each to the next, in one commit. Nothing else."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from strata_zmq.errors import StorageError

from .journal_file import BEGINNING, INSERT_BATCH, INSERT_SNAPSHOT, TABLES, Batch, Damage, Snapshot, seal
from .replay import read_batch, read_snapshot

__all__ = ["SCHEMA_VERSION", "STEPS", "migrate", "records_of_schema_1", "snapshot_of_schema_1"]

log = logging.getLogger("strata.coordinator")

SCHEMA_VERSION = 2


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Give a new file its tables, or an older one today's layout, or leave it exactly as it was and say why."""
    db.execute("BEGIN IMMEDIATE")
    try:
        before = db.execute("PRAGMA user_version").fetchone()[0]
        for step in _steps(before, path):
            step(db)
        if before not in {0, SCHEMA_VERSION}:
            log.info("journal %s: migrated from schema %d to %d", path, before, SCHEMA_VERSION)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite may have rolled back already
            db.execute("ROLLBACK")
        raise


def _steps(version: int, path: Path) -> list[Callable[[sqlite3.Connection], None]]:
    if version == 0:
        return [_create]
    if version != SCHEMA_VERSION and version not in STEPS:
        raise StorageError(
            f"journal {str(path)!r} has schema {version}, this release reads {min(STEPS)} to {SCHEMA_VERSION}: "
            "use the release that wrote it, or another --journal"
        )
    return [STEPS[number] for number in range(version, SCHEMA_VERSION)]


def _create(db: sqlite3.Connection) -> None:
    for table in TABLES:
        db.execute(table)


def snapshot_of_schema_1(db: sqlite3.Connection) -> Snapshot | None:
    """Return schema 1's snapshot under a checksum of today; raises Damage if it cannot be read."""
    row = db.execute("SELECT position, body FROM snapshot ORDER BY position DESC LIMIT 1").fetchone()
    if row is None:
        return None
    position, body = row
    read_snapshot(f"the snapshot at position {position} of schema 1", body)
    return Snapshot(position, BEGINNING, seal(BEGINNING, position, 0, body), body)


def records_of_schema_1(db: sqlite3.Connection, after: int, link: bytes) -> Generator[Batch, None, None]:
    """Yield schema 1's records after position `after` as batches of one; raises Damage at the first unreadable one."""
    query = "SELECT position, body FROM record WHERE position > ? ORDER BY position"
    for expected, (position, one) in enumerate(db.execute(query, (after,)).fetchall(), after + 1):
        if position != expected:
            raise Damage(f"record {expected} of schema 1 is missing, record {position} comes next")
        body = b"\x91%b" % one if isinstance(one, bytes) else b""  # MessagePack's array of one
        read_batch(f"record {position} of schema 1", body)
        link = seal(link, position, 1, body)
        yield Batch(position, 1, link, body)


def _checksums(db: sqlite3.Connection) -> None:
    """Schema 1 had one row a record and no checksums."""
    snapshot = snapshot_of_schema_1(db)
    after, link = (snapshot.position, snapshot.link) if snapshot else (0, BEGINNING)
    found = list(records_of_schema_1(db, after, link))
    db.execute("DROP TABLE record")
    db.execute("DROP TABLE snapshot")
    _create(db)
    if snapshot:
        db.execute(INSERT_SNAPSHOT, snapshot)
    db.executemany(INSERT_BATCH, found)


STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _checksums}
"""From each older schema to the next."""
