"""How a store's SQLite file is opened, claimed and read for damage; what its tables are. It knows no task."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from strata_zmq.coordinator.journal_file import BROKEN
from strata_zmq.errors import AlreadyExistsError, StorageError

__all__ = ["TABLES", "connect"]

APPLICATION_ID = 0x53545246
FORMAT = 1

TABLES = (
    "CREATE TABLE accepted (number INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB)",
    """CREATE TABLE assigned (
        number INTEGER NOT NULL, attempt INTEGER NOT NULL, worker TEXT NOT NULL, PRIMARY KEY (number, attempt)
    ) WITHOUT ROWID""",
    "CREATE TABLE ended (number INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB)",
    "CREATE TABLE payload (digest BLOB PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE function (id BLOB PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL)",
)
"""`number` counts accepted tasks; a task's three kinds of rows share it. Nothing is ever rewritten but a large payload
of a task that has ended, which is let go."""

_WAL_PAGES = 1000
_WAL_BYTES = 4 * 2**20
_CACHE_KIB = 16 * 1024


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for this process alone, durable at every commit, and make its tables if it is new.

    Raises AlreadyExistsError if another dispatcher has it, StorageError if it is no store or cannot be opened.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"store {str(path)!r} cannot be made: {error.strerror}; choose another --store") from None
    _refuse_orphaned_log(path)
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            _claim(db, path)
        except BaseException:
            db.close()
            raise
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise AlreadyExistsError(
                f"store {str(path)!r} is in use by another dispatcher: stop it, or choose another --store"
            ) from None
        raise StorageError(f"store {str(path)!r} cannot be opened: {error}; check --store") from None
    except BROKEN as error:
        raise StorageError(
            f"store {str(path)!r} is damaged or no store ({error}): restore a copy, move it away to start empty, or "
            "choose another --store"
        ) from None
    return db


def _refuse_orphaned_log(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size and not (path.exists() and path.stat().st_size):
        # SQLite would throw the log away and begin anew.
        raise StorageError(
            f"store {str(path)!r} is empty, but its log {str(log)!r} is not: restore the file that belongs to it, or "
            "move the log away to start empty"
        )


def _claim(db: sqlite3.Connection, path: Path) -> None:
    # EXCLUSIVE keeps a second dispatcher out for as long as this process lives, kill -9 included.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (format_,) = db.execute("PRAGMA user_version").fetchone()
    if tables and application != APPLICATION_ID:
        raise StorageError(f"store {str(path)!r} is a database of something else: choose another --store")
    if tables and format_ != FORMAT:
        raise StorageError(
            f"store {str(path)!r} has format {format_}, this release reads {FORMAT}: start the release that wrote it, "
            "or choose another --store"
        )
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {_WAL_PAGES}",
        f"journal_size_limit = {_WAL_BYTES}",
        f"cache_size = -{_CACHE_KIB}",
        "cell_size_check = ON",
    ):
        db.execute(f"PRAGMA {pragma}")
    db.execute("BEGIN IMMEDIATE")
    if not tables:
        for table in TABLES:
            db.execute(table)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")
