"""Records in a Redis database: a hash per function and per task, and their order. It decides nothing about tasks.

    function:{uuid}   name, digest              payload:{digest}   head, body
    task:{uuid}       status, head, call; attempt, worker, budget; end, result
    tasks             sorted set: the ids of the tasks that are kept, by the number of their acceptance
    functions         set: the ids of the registered functions
    dispatcher        the owner's mark (`redis_link`)

A batch of records is one MULTI. It is as durable as the server was told to make it: with `appendonly yes` and
`appendfsync always` a confirmed record outlives the server's crash; anything less is told in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

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

from .redis_link import Command, RedisLink
from .rows import LOADED_BYTES_MAX, Damage, RowCodec, open_body, open_payload, seal_payload

__all__ = ["RedisStore"]

log = logging.getLogger("strata.dispatcher")

_FORGOTTEN_AT_ONCE = 1000
_READ_AT_ONCE = 500
_ORDER = b"tasks"
_FUNCTIONS = b"functions"
_FIELDS = (b"head", b"end", b"attempt", b"worker", b"budget", b"call")


class RedisStore:
    """A RecordStore in the database that `url` names. The newest owner has it; `load` comes before everything else.

    `away_s`: how long a server may be gone, as when it is restarted, before that is a StorageError.
    """

    def __init__(self, url: str, *, away_s: float = 10.0) -> None:
        self._link = RedisLink(url, away_s=away_s)
        self._rows = RowCodec()
        # Task -> whether it has ended.
        self._ended: dict[bytes, bool] = {}
        self._next = 1
        self._forgotten: list[bytes] = []
        self._broken: Exception | None = None

    def load(self) -> Recovered:
        """Take the database over and return all that it holds; raises StorageError at the first damage."""
        self._link.take_over()
        self._tell_durability()
        self._ended, self._next, self._forgotten = {}, 1, []
        try:
            functions = tuple(self._functions())
            tasks = tuple(self._tasks())
        except Damage as error:
            raise StorageError(
                f"store {self._link.name!r} is damaged: {error}; restore a copy, or choose another database to start "
                "empty (its tasks are lost then)"
            ) from error
        self._broken = None
        self._drop_unused_payloads(tasks, functions)
        return Recovered(tasks, functions)

    def append(self, records: Sequence[Record]) -> None:
        """Make `records` durable in one MULTI, or raise StorageError and take nothing more before the next `load`.

        Raises AlreadyExistsError for a task that is there or has ended already, and NotFoundError for one that is not
        there, before anything is written; StorageError also where another dispatcher has the database now.
        """
        ended, first = dict[bytes, bool](), self._next
        try:
            commands = [command for record in records for command in self._written(record, ended)]
        except BaseException:
            self._next = first
            raise
        # What is forgotten goes first: its id may be that of a task which is accepted now.
        self._commit([*_forgetting(self._forgotten), *commands])
        self._forgotten.clear()
        self._ended |= ended

    def keep(self, payloads: Sequence[tuple[bytes, Payload]]) -> None:
        """Keep payloads by their digests; those that no kept task or function needs are dropped by the next `load`."""
        commands = []
        for digest, payload in payloads:
            head, body = seal_payload(payload)
            commands.append((b"HSET", _payload_key(digest), b"head", head, b"body", body))
        self._commit(commands)

    def put_function(self, row: FunctionRow) -> None:
        """Keep a registered function; the same id again replaces it."""
        name = _uuid(row.function_id)
        self._commit(
            [
                (b"HSET", b"function:" + name, b"name", row.name.encode(), b"digest", row.digest),
                (b"SADD", _FUNCTIONS, name),
            ]
        )

    def payload(self, digest: bytes) -> Payload | None:
        """Return the payload with this digest, None if it is not kept; raises StorageError if it is damaged."""
        ((head, body),) = self._link.ask([(b"HMGET", _payload_key(digest), b"head", b"body")])
        if head is None:
            return None
        try:
            return open_payload(head, body or b"")
        except Damage as error:
            raise self._damaged(f"payload {digest.hex()}", error) from error

    def result(self, task_id: bytes) -> Payload | None:
        """Return the body of an ended task's outcome; None if it has none, is not kept, or has not ended."""
        if not self._ended.get(task_id):
            return None
        ((head, body),) = self._link.ask([(b"HMGET", _task_key(task_id), b"end", b"result")])
        try:
            return None if head is None else open_body(self._rows.read_ended(head).body, body)
        except Damage as error:
            raise self._damaged(f"the result of {task_id.hex()}", error) from error

    def forget(self, task_ids: Sequence[bytes]) -> None:
        """Drop what is kept of these tasks; in the database with a later commit."""
        self._forgotten += [task_id for task_id in task_ids if self._ended.pop(task_id, None) is not None]
        while len(self._forgotten) >= _FORGOTTEN_AT_ONCE:
            self._sweep()

    def close(self) -> None:
        """Write down what was forgotten, and let the connection go."""
        try:
            while self._forgotten and self._broken is None:
                self._sweep()
        finally:
            self._link.close()

    def _written(self, record: Record, ended: dict[bytes, bool]) -> list[Command]:
        """The commands of one record; `ended` is what this batch changes."""
        if isinstance(record, Accepted):
            task_id = record.task.task_id
            if task_id in ended or task_id in self._ended:
                raise AlreadyExistsError(f"task {task_id.hex()} is in the store already")
            ended[task_id] = False
            head, body = self._rows.accepted(record)
            number, self._next = self._next, self._next + 1
            key = _task_key(task_id)
            return [
                (b"HSET", key, b"status", b"QUEUED", b"head", head, b"call", body),
                (b"ZADD", _ORDER, b"%d" % number, key[5:]),
            ]
        task_id = record.task_id
        over = ended.get(task_id, self._ended.get(task_id))
        if over is None:
            raise NotFoundError(f"task {task_id.hex()} is not in the store: it was not accepted")
        key = _task_key(task_id)
        if isinstance(record, Begun):
            return [(b"HSET", key, b"attempt", b"%d" % record.attempt, b"worker", record.worker_id.encode())]
        if not isinstance(record, Ended):
            words: Command = (b"HSET", key, b"attempt", b"%d" % record.attempt, b"worker", b"")
            left = record.budget
            return [words if left is None else (*words, b"budget", b"%d %d %d" % (left.error, left.lost, left.memory))]
        if over:
            raise AlreadyExistsError(f"task {task_id.hex()} has an end in the store already")
        ended[task_id] = True
        end, result = self._rows.ended(record)
        words = (b"HSET", key, b"status", record.state.encode(), b"end", end)
        return [words if result is None else (*words, b"result", result), (b"HDEL", key, b"call")]

    def _commit(self, commands: Sequence[Command]) -> None:
        if self._broken is not None:
            raise self._broken
        if commands:
            try:
                self._link.commit(commands)
            except BaseException as error:
                # What the server holds is known again only after a load.
                self._broken = error if isinstance(error, Exception) else StorageError("a commit was interrupted")
                raise

    def _sweep(self) -> None:
        gone = self._forgotten[:_FORGOTTEN_AT_ONCE]
        self._commit(_forgetting(gone))
        del self._forgotten[: len(gone)]

    def _tell_durability(self) -> None:
        try:
            (told,) = self._link.ask([(b"CONFIG", b"GET", b"append*")])
        except StorageError as error:
            log.warning("%s; whether its records outlive its server's crash cannot be told", error)
            return
        config = dict(zip(told[::2], told[1::2], strict=True))
        only, fsync = config.get(b"appendonly", b"no").decode(), config.get(b"appendfsync", b"").decode()
        if (only, fsync) != ("yes", "always"):
            log.warning(
                "store %s: appendonly is %s and appendfsync %s: a crash of the Redis server may lose confirmed tasks; "
                "set appendonly yes and appendfsync always",
                *(self._link.name, only, fsync or "unknown"),
            )

    def _functions(self) -> Iterator[FunctionRow]:
        (names,) = self._link.ask([(b"SMEMBERS", _FUNCTIONS)])
        names = sorted(names)
        if not names:
            return
        rows = self._link.ask([(b"HMGET", b"function:" + name, b"name", b"digest") for name in names])
        for name, (title, digest) in zip(names, rows, strict=True):
            if title is None or digest is None:
                raise Damage(f"function {name.decode()} is named and not there")
            yield FunctionRow(bytes.fromhex(name.decode().replace("-", "")), title.decode(), digest)

    def _tasks(self) -> Iterator[RecoveredTask]:
        (listed,) = self._link.ask([(b"ZRANGE", _ORDER, b"0", b"-1", b"WITHSCORES")])
        if listed:
            self._next = int(listed[-1]) + 1
        names = iter(listed[::2])
        while some := list(islice(names, _READ_AT_ONCE)):
            keys = [b"task:" + name for name in some]
            heads = self._link.ask([(b"HMGET", key, *_FIELDS) for key in keys])
            small = [
                key
                for key, (_, end, *_) in zip(keys, heads, strict=True)
                if end is not None and self._rows.read_ended(end).body[0] <= LOADED_BYTES_MAX
            ]
            results = dict(zip(small, self._link.ask([(b"HGET", key, b"result") for key in small]), strict=True))
            for key, row in zip(keys, heads, strict=True):
                yield self._task(key, row, results.get(key))

    def _task(self, key: bytes, row: list[Any], result: bytes | None) -> RecoveredTask:
        head, end, attempt, worker, budget, call = row
        if head is None:
            raise Damage(f"{key.decode()} is listed and not there")
        accepted = self._rows.read_accepted(head)
        if _task_key(accepted.task_id) != key:
            raise Damage(f"{key.decode()} holds another task")
        number, worker_id = int(attempt or 0), (worker or b"").decode()
        self._ended[accepted.task_id] = end is not None
        if end is None:
            body = open_body(accepted.body, call)
            if body is None:
                raise Damage(f"{key.decode()} has no payload")
            left = None if budget is None else Budget(*map(int, budget.split()))
            return self._rows.waiting(accepted, body, number, worker_id, left)
        over = self._rows.read_ended(end)
        if over.task_id != accepted.task_id:
            raise Damage(f"{key.decode()} has the end of another task")
        stays = over.body[0] > LOADED_BYTES_MAX
        return self._rows.over(accepted, number, worker_id, over, None if stays else open_body(over.body, result))

    def _drop_unused_payloads(self, tasks: Sequence[RecoveredTask], functions: Sequence[FunctionRow]) -> None:
        needed = {row.digest for row in functions}
        for each in tasks:
            if each.task.state in {"QUEUED", "RUNNING"}:
                needed.update((each.task.function, *each.task.refs))
        needed.discard(CALL_IN_PAYLOAD)
        wanted = {_payload_key(digest) for digest in needed}
        cursor = b"0"
        while True:
            ((cursor, keys),) = self._link.ask([(b"SCAN", cursor, b"MATCH", b"payload:*", b"COUNT", b"1000")])
            self._commit([(b"DEL", key) for key in keys if key not in wanted])
            if cursor == b"0":
                return

    def _damaged(self, what: str, error: Exception) -> StorageError:
        return StorageError(
            f"store {self._link.name!r}: {what} cannot be read: {error}; restore a copy, or choose another database to "
            "start empty (its tasks are lost then)"
        )


def _forgetting(task_ids: Sequence[bytes]) -> list[Command]:
    if not task_ids:
        return []
    keys = [_task_key(task_id) for task_id in task_ids]
    return [(b"UNLINK", *keys), (b"ZREM", _ORDER, *(key[5:] for key in keys))]


def _uuid(name: bytes) -> bytes:
    h = name.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}".encode()


def _task_key(task_id: bytes) -> bytes:
    return b"task:" + _uuid(task_id)


def _payload_key(digest: bytes) -> bytes:
    return b"payload:" + digest.hex().encode()
