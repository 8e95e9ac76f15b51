"""What a store's SQLite file is and what its tables are. It knows no task."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from strata_zmq.coordinator.sqlite_claim import Role, claim
from strata_zmq.errors import StorageError

__all__ = ["TABLES", "connect"]

APPLICATION_ID = 0x53545246
FORMAT = 2

TABLES = (
    "CREATE TABLE accepted (number INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB)",
    """CREATE TABLE begun (
        number INTEGER NOT NULL, attempt INTEGER NOT NULL, worker TEXT NOT NULL, PRIMARY KEY (number, attempt)
    ) WITHOUT ROWID""",
    """CREATE TABLE requeued (
        number INTEGER NOT NULL, attempt INTEGER NOT NULL, error INTEGER, lost INTEGER, memory INTEGER,
        PRIMARY KEY (number, attempt)
    ) WITHOUT ROWID""",
    "CREATE TABLE ended (number INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB)",
    "CREATE TABLE payload (digest BLOB PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE function (id BLOB PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL)",
)
"""`number` counts accepted tasks; a task's kinds of rows share it. What is left of budgets is NULL
where nothing was spent. Nothing is ever rewritten but a large payload
of a task that has ended, which is let go."""

_ROLE = Role("store", "dispatcher", "--store")
_CACHE_KIB = 16 * 1024


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for this process alone, durable at every commit, and make its tables if it is new.

    Raises AlreadyExistsError if another dispatcher has it, StorageError if it is no store or cannot be opened.
    """

    def look(db: sqlite3.Connection, tables: set[str]) -> None:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (format_,) = db.execute("PRAGMA user_version").fetchone()
        if tables and application != APPLICATION_ID:
            raise StorageError(f"store {str(path)!r} is a database of something else: choose another --store")
        if tables and format_ != FORMAT:
            raise StorageError(
                f"store {str(path)!r} has format {format_}, this release reads {FORMAT}: start the release that wrote "
                "it, or choose another --store"
            )

    return claim(path, _ROLE, look, _make_tables, (f"cache_size = -{_CACHE_KIB}",))


def _make_tables(db: sqlite3.Connection, tables: set[str]) -> None:
    if not tables:
        for table in TABLES:
            db.execute(table)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
