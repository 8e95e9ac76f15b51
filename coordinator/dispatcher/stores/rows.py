"""How records and payloads become bytes with checksums, and objects again; it knows no store.

A record is a head and, perhaps, a body. The head is one MessagePack array followed by its CRC-32; it carries the body's
length and checksum, so that neither can be changed, cut or swapped unseen. Limits and reports are written as maps of
what differs from the default: a field that a later release adds does not make older rows unreadable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from strata_zmq.domain.task import Budget, Cause, Kind, Outcome, OutcomeReport, Payload, State, Task, TaskLimits
from strata_zmq.functions.dispatch.records import Accepted, Ended, RecoveredTask

__all__ = [
    "LOADED_BYTES_MAX",
    "AcceptedRow",
    "BodyRow",
    "Damage",
    "EndedRow",
    "Payload",
    "RowCodec",
    "open_body",
    "open_payload",
    "seal_payload",
]

LOADED_BYTES_MAX = 64 * 1024
"""A result that is longer stays in the store when a dispatcher starts, and is read when it is asked for."""

_CRC_BYTES = 4
_LIMITS_CACHED_MAX = 1024

BodyRow = tuple[int, list[int] | None, int]
"""A body's bytes in all (-1: there is none), the lengths of its parts (None: it is one piece), and its CRC-32."""

_NO_BODY: BodyRow = (-1, None, 0)
T = TypeVar("T")


class Damage(Exception):  # noqa: N818 - what a reader found; whoever tells a person makes a StorageError of it
    """A row is not what was written."""


class AcceptedRow(msgspec.Struct, array_like=True, frozen=True):
    """The head of an accepted task."""

    task_id: bytes
    client: str
    function: bytes
    refs: tuple[bytes, ...]
    key: str
    key_digest: bytes
    limits: msgspec.Raw
    nbytes: int
    at: float
    body: BodyRow


class EndedRow(msgspec.Struct, array_like=True, frozen=True):
    """The head of a task's end."""

    task_id: bytes
    state: State
    attempt: int
    kind: Kind
    service_s: float
    cause: Cause
    report: OutcomeReport | None
    started: bool
    at: float
    body: BodyRow


class RowCodec:
    """Heads and bodies of records. One object per store: it remembers the limits that many tasks share."""

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._accepted = msgspec.msgpack.Decoder(AcceptedRow).decode
        self._ended = msgspec.msgpack.Decoder(EndedRow).decode
        self._limits = msgspec.msgpack.Decoder(TaskLimits).decode
        # By identity: a submission's tasks share one object, and the entry keeps it alive.
        self._written: dict[int, tuple[TaskLimits, msgspec.Raw]] = {}
        self._read: dict[bytes, TaskLimits] = {}

    def accepted(self, record: Accepted) -> tuple[bytes, bytes]:
        """Return the head and the body of an accepted task."""
        task = record.task
        known = self._written.get(id(task.limits))
        limits = known[1] if known is not None else self._limits_written(task.limits)
        body, row = _packed(task.body)
        head = (
            *(task.task_id, task.client, task.function, task.refs, task.key, task.key_digest),
            *(limits, task.nbytes, record.at, row),
        )
        return self._sealed(head), body

    def ended(self, record: Ended) -> tuple[bytes, bytes | None]:
        """Return the head and the body of an end; the body is None where the outcome has none."""
        outcome = record.outcome
        body, row = (None, _NO_BODY) if outcome.body is None else _packed(outcome.body)
        report = None if outcome.report is None else _changed(outcome.report)
        head = (
            *(record.task_id, record.state, outcome.attempt, outcome.kind, outcome.service_s, outcome.cause),
            *(report, outcome.started, record.at, row),
        )
        return self._sealed(head), body

    def read_accepted(self, head: bytes) -> AcceptedRow:
        """Return what `accepted` wrote; raises Damage."""
        return _decoded(self._accepted, head)

    def read_ended(self, head: bytes) -> EndedRow:
        """Return what `ended` wrote; raises Damage."""
        return _decoded(self._ended, head)

    def waiting(
        self, row: AcceptedRow, body: Payload, attempt: int, worker_id: str, budget: Budget | None
    ) -> RecoveredTask:
        """Return a task that has not ended, with its last attempt and what is left of its budget."""
        task = self._task(row, body)
        task.attempt, task.budget = attempt, budget
        return RecoveredTask(task, attempt, worker_id, row.at, 0.0)

    def over(
        self, row: AcceptedRow, attempt: int, worker_id: str, end: EndedRow, result: Payload | None
    ) -> RecoveredTask:
        """Return a task that has ended. `result` may be None though there is one: then it stays in the store."""
        task = self._task(row, b"")
        task.attempt, task.state = max(attempt, end.attempt), end.state
        task.outcome = Outcome(
            *(end.task_id, end.attempt, end.kind, result, end.service_s),
            *(end.cause, end.report, end.started),
        )
        return RecoveredTask(task, task.attempt, worker_id, row.at, end.at)

    def _task(self, row: AcceptedRow, body: Payload) -> Task:
        return Task(
            *(row.task_id, row.client, row.function, body, row.nbytes, self._limits_read(bytes(row.limits))),
            *(row.refs, row.key, row.key_digest),
        )

    def _sealed(self, head: tuple[object, ...]) -> bytes:
        encoded = self._encode(head)
        return encoded + crc32(encoded).to_bytes(_CRC_BYTES, "big")

    def _limits_written(self, limits: TaskLimits) -> msgspec.Raw:
        if len(self._written) >= _LIMITS_CACHED_MAX:
            self._written.clear()
        raw = msgspec.Raw(self._encode(_changed(limits)))
        self._written[id(limits)] = limits, raw
        return raw

    def _limits_read(self, raw: bytes) -> TaskLimits:
        limits = self._read.get(raw)
        if limits is None:
            if len(self._read) >= _LIMITS_CACHED_MAX:
                self._read.clear()
            limits = self._read[raw] = _checked(self._limits, raw)
        return limits


def seal_payload(payload: Payload) -> tuple[bytes, bytes]:
    """Return the head and the body of a payload that is kept by its digest."""
    body, row = _packed(payload)
    encoded = msgspec.msgpack.encode(row)
    return encoded + crc32(encoded).to_bytes(_CRC_BYTES, "big"), body


def open_payload(head: bytes, body: bytes) -> Payload:
    """Return what `seal_payload` was given; raises Damage."""
    payload = open_body(_decoded(msgspec.msgpack.Decoder(BodyRow).decode, head), body)
    if payload is None:
        raise Damage("a kept payload has no body")
    return payload


def open_body(row: BodyRow, body: object) -> Payload | None:
    """Return a body as it was given, None where there was none; raises Damage if it is not the one that `row` means."""
    size, lengths, checksum = row
    if size < 0:
        return None
    if not isinstance(body, bytes) or len(body) != size or crc32(body) != checksum:
        raise Damage(f"a body of {size} bytes does not match its checksum")
    if lengths is None:
        return body
    if sum(lengths) != size:
        raise Damage(f"a body of {size} bytes is said to have parts of {sum(lengths)}")
    view, parts, start = memoryview(body), [], 0
    for length in lengths:
        parts.append(bytes(view[start : start + length]))
        start += length
    return tuple(parts)


def _packed(payload: Any) -> tuple[bytes, BodyRow]:
    if isinstance(payload, bytes):
        return payload, (len(payload), None, crc32(payload))
    views = [memoryview(part).cast("B") for part in payload]
    body = b"".join(views)
    return body, (len(body), [view.nbytes for view in views], crc32(body))


def _changed(value: TaskLimits | OutcomeReport) -> dict[str, object]:
    """What differs from the default of its class."""
    default = type(value)()
    pairs = ((each.name, getattr(value, each.name)) for each in fields(value))
    return {name: mine for name, mine in pairs if mine != getattr(default, name)}


def _decoded(decode: Callable[[bytes], T], head: object) -> T:
    # Damage may have made a text of bytes: SQLite keeps a type with each value.
    if not isinstance(head, bytes):
        raise Damage("a head is not made of bytes")
    encoded, checksum = head[:-_CRC_BYTES], head[-_CRC_BYTES:]
    if crc32(encoded).to_bytes(_CRC_BYTES, "big") != checksum:
        raise Damage("a head does not match its checksum")
    return _checked(decode, encoded)


def _checked(decode: Callable[[bytes], T], encoded: bytes) -> T:
    try:
        return decode(encoded)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Damage(f"a head cannot be read ({error}): another release may have written it") from error
