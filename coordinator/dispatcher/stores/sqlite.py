"""Records in one SQLite file: a transaction a batch, rows that are only added. It decides nothing about tasks.

WAL mode with FULL synchronisation (https://www.sqlite.org/wal.html): what `append` was given is on the disk when it
returns. In memory there is one number per task that is kept, no payload. What is forgotten goes with a later
transaction, or when the store is closed, at most 1,000 tasks at a time; its space is used again, the file does not
shrink.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from strata_zmq.coordinator.journal_file import Damage as PageDamage
from strata_zmq.coordinator.journal_file import check_pages, reserve_log
from strata_zmq.coordinator.sqlite_claim import BROKEN
from strata_zmq.domain.task import CALL_IN_PAYLOAD, Budget, Payload
from strata_zmq.errors import AlreadyExistsError, NotFoundError, StorageError
from strata_zmq.functions.dispatch.records import (
    Accepted,
    Begun,
    Ended,
    FunctionRow,
    Record,
    Recovered,
    RecoveredTask,
)

from .rows import LOADED_BYTES_MAX, Damage, EndedRow, RowCodec, open_body, open_payload, seal_payload
from .sqlite_file import connect

__all__ = ["SqliteStore"]

T = TypeVar("T")

_FORGOTTEN_AT_ONCE = 1000
_ACCEPT = "INSERT INTO accepted (number, head, body) VALUES (?, ?, ?)"
_BEGIN = "INSERT INTO begun (number, attempt, worker) VALUES (?, ?, ?)"
_REQUEUE = "INSERT INTO requeued (number, attempt, error, lost, memory) VALUES (?, ?, ?, ?, ?)"
_END = "INSERT INTO ended (number, head, body) VALUES (?, ?, ?)"
_LET_GO = "UPDATE accepted SET body = NULL WHERE number = ?"
_FORGET = tuple(f"DELETE FROM {table} WHERE number = ?" for table in ("accepted", "begun", "requeued", "ended"))  # noqa: S608
# The length of a column is in its row's beginning: a long body is not read for it.
_ENDS = f"SELECT number, head, CASE WHEN length(body) <= {LOADED_BYTES_MAX} THEN body END FROM ended"  # noqa: S608
# The last of a task comes last.
_BEGUN = "SELECT number, attempt, worker FROM begun ORDER BY number, attempt"
_REQUEUED = "SELECT number, attempt, error, lost, memory FROM requeued ORDER BY number, attempt"
_TASKS = """SELECT a.number, a.head, CASE WHEN e.number IS NULL THEN a.body END
    FROM accepted a LEFT JOIN ended e ON e.number = a.number ORDER BY a.number"""


class _Lines:
    """A batch of records as rows of each table."""

    __slots__ = ("accepted", "begun", "ended", "requeued")

    def __init__(self) -> None:
        self.accepted: list[tuple[int, bytes, bytes]] = []
        self.begun: list[tuple[int, int, str]] = []
        self.requeued: list[tuple[int, int, int | None, int | None, int | None]] = []
        self.ended: list[tuple[int, bytes, bytes | None]] = []


class SqliteStore:
    """A RecordStore in the file `path`, owned by one process at a time; `load` comes before everything else."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._rows = RowCodec()
        self._numbers: dict[bytes, int] = {}
        self._next = 1
        self._large: set[int] = set()
        self._forgotten: list[int] = []
        self._broken: StorageError | None = None
        self._db = connect(self.path)

    def load(self) -> Recovered:
        """Return all that the file holds; raises StorageError at the first damage.

        Every checksum is verified but those of results above 64 KiB, which stay in the file and have the body None;
        `result` reads them.
        """
        self._numbers, self._next, self._forgotten = {}, 1, []
        self._large.clear()
        try:
            check_pages(self._db)
            ends = self._ends()
            tasks = tuple(self._tasks(ends))
            functions = tuple(
                FunctionRow(*row) for row in self._db.execute("SELECT id, name, digest FROM function ORDER BY rowid")
            )
            self._drop_unused_payloads(tasks, functions)
        except (*BROKEN, Damage, PageDamage) as error:
            raise StorageError(
                f"store {str(self.path)!r} is damaged: {error}; restore a copy, or move it away to start empty (its "
                "tasks are lost then)"
            ) from error
        reserve_log(self.path)
        self._broken = None
        return Recovered(tasks, functions)

    def append(self, records: Sequence[Record]) -> None:
        """Make `records` durable in one commit, or raise StorageError and take nothing more before the next `load`.

        Raises AlreadyExistsError for a task that is there already and NotFoundError for one that is not, both before
        anything is written.
        """
        first = self._next
        try:
            lines = self._lines(records)
            with self._commit() as db:
                db.executemany(_ACCEPT, lines.accepted)
                db.executemany(_BEGIN, lines.begun)
                db.executemany(_REQUEUE, lines.requeued)
                db.executemany(_END, lines.ended)
                self._let_calls_go(db, lines.ended)
                self._sweep(db)
        except BaseException:
            for record in records:
                if type(record) is Accepted and self._numbers.get(record.task.task_id, 0) >= first:
                    del self._numbers[record.task.task_id]
            self._next = first
            raise
        self._large.update(number for number, _, body in lines.accepted if len(body) > LOADED_BYTES_MAX)

    def keep(self, payloads: Sequence[tuple[bytes, Payload]]) -> None:
        """Keep payloads by their digests; those that no kept task or function needs are dropped by the next `load`."""
        rows = [(digest, *seal_payload(payload)) for digest, payload in payloads]
        with self._commit() as db:
            db.executemany("INSERT OR IGNORE INTO payload (digest, head, body) VALUES (?, ?, ?)", rows)

    def put_function(self, row: FunctionRow) -> None:
        """Keep a registered function; the same id again replaces it."""
        with self._commit() as db:
            db.execute("INSERT OR REPLACE INTO function VALUES (?, ?, ?)", (row.function_id, row.name, row.digest))

    def payload(self, digest: bytes) -> Payload | None:
        """Return the payload with this digest, None if it is not kept; raises StorageError if it is damaged."""
        found = self._one("SELECT head, body FROM payload WHERE digest = ?", digest)
        return None if found is None else self._read(lambda: open_payload(*found), f"payload {digest.hex()}")

    def result(self, task_id: bytes) -> Payload | None:
        """Return the body of an ended task's outcome; None if it has none, is not kept, or has not ended."""
        number = self._numbers.get(task_id)
        found = None if number is None else self._one("SELECT head, body FROM ended WHERE number = ?", number)
        if found is None:
            return None
        head, body = found
        return self._read(lambda: open_body(self._rows.read_ended(head).body, body), f"the result of {task_id.hex()}")

    def forget(self, task_ids: Sequence[bytes]) -> None:
        """Drop what is kept of these tasks; on the disk with a later commit."""
        for task_id in task_ids:
            number = self._numbers.pop(task_id, None)
            if number is not None:
                self._forgotten.append(number)
        while len(self._forgotten) >= _FORGOTTEN_AT_ONCE:
            with self._commit() as db:
                self._sweep(db)

    def close(self) -> None:
        """Write down what was forgotten, and let the file go."""
        try:
            while self._forgotten and self._broken is None:
                with self._commit() as db:
                    self._sweep(db)
        finally:
            self._db.close()

    def _lines(self, records: Sequence[Record]) -> _Lines:
        lines = _Lines()
        numbers, rows = self._numbers, self._rows
        try:
            for record in records:
                if isinstance(record, Accepted):
                    task_id = record.task.task_id
                    if task_id in numbers:
                        raise AlreadyExistsError(f"task {task_id.hex()} is in the store already")
                    numbers[task_id] = self._next
                    lines.accepted.append((self._next, *rows.accepted(record)))
                    self._next += 1
                elif isinstance(record, Begun):
                    lines.begun.append((numbers[record.task_id], record.attempt, record.worker_id))
                elif isinstance(record, Ended):
                    lines.ended.append((numbers[record.task_id], *rows.ended(record)))
                else:
                    left = record.budget
                    budget = (None, None, None) if left is None else (left.error, left.lost, left.memory)
                    lines.requeued.append((numbers[record.task_id], record.attempt, *budget))
        except KeyError as missing:
            raise NotFoundError(f"task {missing.args[0].hex()} is not in the store: it was not accepted") from None
        return lines

    def _ends(self) -> dict[int, tuple[EndedRow, Payload | None]]:
        ends = {}
        for number, head, body in self._db.execute(_ENDS):
            row = self._rows.read_ended(head)
            in_file = body is None and row.body[0] > LOADED_BYTES_MAX
            ends[number] = row, None if in_file else open_body(row.body, body)
        return ends

    def _tasks(self, ends: dict[int, tuple[EndedRow, Payload | None]]) -> Iterator[RecoveredTask]:
        attempts = {number: (attempt, worker) for number, attempt, worker in self._db.execute(_BEGUN)}
        budgets: dict[int, Budget] = {}
        for number, attempt, *left in self._db.execute(_REQUEUED):
            if attempt >= attempts.get(number, (0, ""))[0]:
                attempts[number] = (attempt, "")
            if left[0] is not None:
                budgets[number] = Budget(*left)
        rows = self._rows
        for number, head, body in self._db.execute(_TASKS):
            row = rows.read_accepted(head)
            attempt, worker = attempts.get(number, (0, ""))
            self._numbers[row.task_id], self._next = number, number + 1
            if number in ends:
                end, result = ends[number]
                if end.task_id != row.task_id:
                    raise Damage(f"task {row.task_id.hex()} has the end of another")
                yield rows.over(row, attempt, worker, end, result)
                continue
            call = open_body(row.body, body)
            if call is None:
                raise Damage(f"task {row.task_id.hex()} has no payload")
            if row.body[0] > LOADED_BYTES_MAX:
                self._large.add(number)
            yield rows.waiting(row, call, attempt, worker, budgets.get(number))

    def _drop_unused_payloads(self, tasks: Sequence[RecoveredTask], functions: Sequence[FunctionRow]) -> None:
        needed = {row.digest for row in functions}
        for each in tasks:
            if each.task.state in {"QUEUED", "RUNNING"}:
                needed.update((each.task.function, *each.task.refs))
        needed.discard(CALL_IN_PAYLOAD)
        kept = [digest for (digest,) in self._db.execute("SELECT digest FROM payload")]
        unused = [(digest,) for digest in kept if digest not in needed]
        if unused:
            with self._commit() as db:
                db.executemany("DELETE FROM payload WHERE digest = ?", unused)

    def _let_calls_go(self, db: sqlite3.Connection, ended: Sequence[tuple[int, bytes, bytes | None]]) -> None:
        if self._large and (done := self._large.intersection(row[0] for row in ended)):
            db.executemany(_LET_GO, [(number,) for number in done])
            self._large -= done

    def _sweep(self, db: sqlite3.Connection) -> None:
        if self._forgotten:
            slice_ = [(number,) for number in self._forgotten[:_FORGOTTEN_AT_ONCE]]
            for statement in _FORGET:
                db.executemany(statement, slice_)
            self._large.difference_update(number for (number,) in slice_)
            del self._forgotten[:_FORGOTTEN_AT_ONCE]

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Connection]:
        if self._broken is not None:
            raise self._broken
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.IntegrityError as error:
            self._db.rollback()
            raise AlreadyExistsError(
                f"a record for the same task and attempt is in the store already: {error}"
            ) from None
        except BaseException as error:
            # What the disk holds is known again only after a load.
            if self._db.in_transaction:
                self._db.rollback()
            self._broken = StorageError(
                f"store {str(self.path)!r} cannot be written: {error}; make room or repair the disk, then start the "
                "dispatcher again"
            )
            if isinstance(error, sqlite3.DatabaseError):
                raise self._broken from error
            raise

    def _one(self, query: str, key: bytes | int) -> tuple[bytes, bytes] | None:
        def found() -> tuple[bytes, bytes] | None:
            row: tuple[bytes, bytes] | None = self._db.execute(query, (key,)).fetchone()
            return row

        return self._read(found, "a row")

    def _read(self, read: Callable[[], T], what: str) -> T:
        try:
            return read()
        except (*BROKEN, Damage) as error:
            raise StorageError(
                f"store {str(self.path)!r}: {what} cannot be read: {error}; restore a copy, or move the file away to "
                "start empty (its tasks are lost then)"
            ) from error
