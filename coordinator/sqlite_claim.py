"""A SQLite file for one process alone, durable at every commit; it knows no table and nothing of what is kept there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from strata_zmq.errors import AlreadyExistsError, StorageError

__all__ = ["BROKEN", "WAL_BYTES", "Role", "claim"]

BROKEN = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What sqlite3 raises for pages that make no sense; the latter where its own message quotes the damage."""

WAL_BYTES = 4 * 2**20
"""The write-ahead log is written back every so many bytes, and cut to that size when it starts over."""
_WAL_PAGES = 1000

Look = Callable[[sqlite3.Connection, set[str]], None]
"""Given the connection and the names of the tables that are there; raises StorageError for a file of something else."""


@dataclass(frozen=True, slots=True)
class Role:
    """What messages call the file, who has it, and the option that chooses another one."""

    noun: str
    holder: str
    option: str


def claim(
    path: Path, role: Role, look: Look, prepare: Look | None = None, pragmas: Sequence[str] = ()
) -> sqlite3.Connection:
    """Open the file; a second process is kept out for as long as this one lives, kill -9 included.

    `look` sees it before anything is changed, `prepare` within one transaction. Raises AlreadyExistsError if somebody
    has the file, StorageError if it cannot be opened or is damaged, and what `look` and `prepare` raise.
    """
    name = f"{role.noun} {str(path)!r}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_orphaned_log(path, name)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{name} cannot be written: {error.strerror}; choose another {role.option}") from None
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            _claim(db, look, prepare, pragmas)
        except BaseException:
            db.close()
            raise
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise AlreadyExistsError(
                f"{name} is in use by another {role.holder}: stop it, or choose another {role.option}"
            ) from None
        raise StorageError(f"{name} cannot be opened: {error}; check {role.option}") from None
    except BROKEN as error:
        raise StorageError(
            f"{name} is damaged or no {role.noun} ({error}): restore a copy, move it away to start empty, or choose "
            f"another {role.option}"
        ) from None
    return db


def _refuse_orphaned_log(path: Path, name: str) -> None:
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size and not (path.exists() and path.stat().st_size):
        # SQLite would throw the log away and begin anew.
        raise StorageError(
            f"{name} is empty, but its log {str(log)!r} is not: restore the file that belongs to it, or move the log "
            "away to start empty"
        )


def _claim(db: sqlite3.Connection, look: Look, prepare: Look | None, pragmas: Sequence[str]) -> None:
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    look(db, tables)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {_WAL_PAGES}",
        f"journal_size_limit = {WAL_BYTES}",
        "cell_size_check = ON",
        *pragmas,
    ):
        db.execute(f"PRAGMA {pragma}")
    db.execute("BEGIN IMMEDIATE")
    if prepare is not None:
        prepare(db, tables)
    db.execute("COMMIT")
