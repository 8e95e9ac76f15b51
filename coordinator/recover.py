"""Makes a new journal of the whole commits of a damaged one, which is kept beside it. It serves nobody.

Who relied on what was lost must notice. So a loss moves term and generation on by more than a journal can hold behind
its snapshots, ends the generation and gives up open checkpoints: every worker joins anew, as one that remembers nothing
of committed history, and nothing that was written before passes a fence again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from strata_zmq.errors import NotFoundError, StorageError

from .core.history import History
from .core.records import CheckpointAborted, GenerationBroken, GenerationFormed, Record, TermStarted
from .journal import Journal
from .journal_file import (
    BEGINNING,
    INSERT_BATCH,
    INSERT_SNAPSHOT,
    Batch,
    Damage,
    Snapshot,
    batches,
    check_pages,
    connect,
    snapshot_at,
)
from .migrate import migrate, records_of_schema_1, snapshot_of_schema_1
from .replay import history_at, replay_batch
from .sqlite_claim import BROKEN

__all__ = ["LEAP", "Recovery", "recover"]

LEAP = 100_000
"""How far term and generation move on after a loss: more than the records between two snapshots and the end."""


class Recovery(NamedTuple):
    """What became of a journal: `history` up to batch `position` was kept."""

    history: History
    """The state as the new journal holds it."""
    kept: History
    """The state at the last whole batch."""
    position: int
    reason: str
    """What is wrong with the old file; empty if nothing is, and nothing was done."""
    damaged: Path | None
    """Where the old file lies now."""
    lost: str
    """What could not be kept; empty if nothing was lost."""


class _Salvage(NamedTuple):
    snapshot: Snapshot | None
    batches: list[Batch]
    ended: str
    """Why it ends here; empty if nothing more is in the file."""

    @property
    def position(self) -> int:
        return self.batches[-1].position if self.batches else self.snapshot.position if self.snapshot else 0


_Follow = Callable[[sqlite3.Connection, int, bytes], Generator[Batch, None, None]]


def recover(path: Path) -> Recovery:
    """Replace the damaged journal at `path` by one with its whole commits up to the first damage.

    A whole journal is left alone. Raises NotFoundError without a file, AlreadyExistsError while a coordinator has it,
    StorageError if nothing in it can be read.
    """
    # The file, not a link to it, has a log beside it, and is on the disk that was chosen for it.
    if path.is_symlink():
        path = path.resolve()
    if not path.is_file():
        raise NotFoundError(f"journal {str(path)!r} does not exist: check --journal")
    try:
        journal = Journal(path)
        try:
            history = journal.replay()
            return Recovery(history, history, journal.position, "", None, "")
        finally:
            journal.close()
    except StorageError as error:
        if error.__cause__ is None:
            raise  # not damage: no journal at all, or a newer one
        reason = str(error.__cause__)
    db = connect(path)
    try:
        schema_1 = bool(db.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone())
        found = [_salvage(db, start, records_of_schema_1 if schema_1 else batches) for start in _starts(db, schema_1)]
        best = max(found, key=lambda one: one.position)
        if best.position == 0:
            raise StorageError(
                f"journal {str(path)!r}: neither a snapshot nor the first batch can be read ({best.ended or reason}): "
                "restore a copy, or move the file away and start empty; storage writers tell which checkpoints exist"
            )
        lost = _lost(db, best, "record" if schema_1 else "batch")
    finally:
        db.close()
    fresh = path.with_name(f"{path.name}.recovering")
    kept, history = _write(fresh, best, loss=bool(lost))
    return Recovery(history, kept, best.position, reason, _swap(path, fresh), lost)


def _starts(db: sqlite3.Connection, schema_1: bool) -> Iterator[Snapshot | None]:
    """Yield the snapshots that can be read, newest first, and the beginning."""
    for read in _snapshot_readers(db, schema_1):
        with suppress(*BROKEN, Damage):
            yield read()
    yield None


def _snapshot_readers(db: sqlite3.Connection, schema_1: bool) -> list[Callable[[], Snapshot | None]]:
    if schema_1:
        return [partial(snapshot_of_schema_1, db)]
    readers: dict[int, Callable[[], Snapshot | None]] = {}
    # There are two, and where one cannot even be found, the other can.
    for end in ("MAX", "MIN"):
        with suppress(*BROKEN):
            (position,) = db.execute(f"SELECT {end}(position) FROM snapshot").fetchone()  # noqa: S608
            if position is not None:
                readers[position] = partial(snapshot_at, db, position)
    return list(readers.values())


def _salvage(db: sqlite3.Connection, start: Snapshot | None, follow: _Follow) -> _Salvage:
    """Collect the whole batches behind `start`, in order, up to the first damage."""
    found: list[Batch] = []
    try:
        history = history_at(start)
        after, link = (start.position, start.link) if start else (0, BEGINNING)
        with closing(follow(db, after, link)) as rows:
            for batch in rows:
                replay_batch(history, batch)
                found.append(batch)
    except (*BROKEN, Damage) as error:
        return _Salvage(start, found, str(error))
    return _Salvage(start, found, "")


def _lost(db: sqlite3.Connection, best: _Salvage, table: str) -> str:
    """Say what is, or may be, missing behind `best`; empty only if nothing can be."""
    try:
        query = f"SELECT MAX(position) FROM (SELECT position FROM {table} UNION ALL SELECT position FROM snapshot)"  # noqa: S608
        (last,) = db.execute(query).fetchone()
    except BROKEN:
        last = None
    if isinstance(last, int) and last > best.position:
        return f"batches {best.position + 1} to {last}"
    try:
        check_pages(db)
    except (*BROKEN, Damage):
        return f"what may have followed batch {best.position}"
    return best.ended and f"what followed batch {best.position}"


def _write(fresh: Path, best: _Salvage, *, loss: bool) -> tuple[History, History]:
    """Write the new journal; returns the state at the last whole batch, and the state that it holds."""
    for leftover in (fresh, fresh.with_name(f"{fresh.name}-wal")):
        leftover.unlink(missing_ok=True)
    db = connect(fresh)
    try:
        migrate(db, fresh)
        db.execute("BEGIN IMMEDIATE")
        if best.snapshot:
            db.execute(INSERT_SNAPSHOT, best.snapshot)
        db.executemany(INSERT_BATCH, best.batches)
        db.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise StorageError(f"journal {str(fresh)!r} cannot be written: {error}; make room and try again") from None
    finally:
        db.close()
    journal = Journal(fresh)
    try:
        kept, history = journal.replay(), journal.replay()
        if loss:
            records = _breach(kept)
            for record in records:
                history.apply(record)
            journal.append(records, history)
    finally:
        journal.close()
    return kept, history


def _breach(kept: History) -> list[Record]:
    """Return what makes everybody notice that history after `kept` is lost."""
    return [
        TermStarted(term=kept.term + LEAP, adopted=True),
        *(
            CheckpointAborted(checkpoint_id=name, reason="the journal was damaged and recovered")
            for name in kept.open_checkpoints
        ),
        GenerationFormed(generation=kept.generation + LEAP, members=[], joined=[], left=list(kept.member_ids)),
        GenerationBroken(left=[]),
    ]


def _swap(path: Path, fresh: Path) -> Path:
    """Put the new journal in the old one's place; at no moment is there none. Returns where the old one lies."""
    number = 1
    while (damaged := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        os.link(path, damaged)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():  # it must not be taken for the new file's
            log.rename(damaged.with_name(f"{damaged.name}-wal"))
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(
            f"journal {str(path)!r} cannot be replaced ({error.strerror}): its recovered copy is {str(fresh)!r}"
        ) from None
    return damaged
