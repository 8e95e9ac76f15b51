"""The function plane's values as rows and frames, both ways; it knows neither sockets nor what a payload means.

Whoever sends makes one list of payload frames per message: `put_body` appends to it what is too long for the message
itself, and the row names the frames by their index. Whoever receives gives the frames that came behind the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast, get_args

import msgspec

from strata_zmq.domain.task import NO_LIMITS, Cause, Durability, Form, Outcome, OutcomeReport, Payload, TaskLimits
from strata_zmq.errors import InvalidArgumentError, ProtocolError
from strata_zmq.functions.calls import TaskView
from strata_zmq.protocol.function_parts import (
    BLOB_BYTES_MAX,
    FRAMES_MAX,
    INLINE_BYTES_MAX,
    Body,
    LimitsRow,
    OutcomeRow,
    ReportRow,
    TaskRow,
)

__all__ = [
    "ROWS_MAX",
    "Buffer",
    "Weight",
    "batches",
    "body_of",
    "limits_of",
    "limits_row",
    "outcome_of",
    "outcome_row",
    "outcome_weight",
    "payload_weight",
    "put_body",
    "view_of",
]

Buffer = bytes | bytearray | memoryview
Weight = tuple[int, int, int]
"""What something adds to a message: bytes of the message itself, payload frames, and bytes in those frames."""

ROWS_MAX = 1000
"""Most rows that are sent in one message."""
_MESSAGE_BYTES = 1024 * 1024
"""A message is closed when it has grown so long: far from its limit, and short enough to be decoded in a moment."""
_ROW_BYTES = 256
"""What a row takes beside its payload and its texts, at most."""
_INTERNED_MAX = 1024
_SERVICE_S_MAX = 1e9
_REPORT_LIMITS: dict[str, int] = {
    "text": 8192,
    "type_name": 1024,
    "traceback": 64 * 1024,
    "worker": 256,
    "last_lines": 8192,
    "stdout": 1024 * 1024,
    "stderr": 1024 * 1024,
}
_CAUSES = frozenset(get_args(Cause))
_CHOICES = {"durability": get_args(Durability), "form": get_args(Form)}

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_limits: dict[bytes, TaskLimits] = {}
_rows: dict[int, tuple[TaskLimits, LimitsRow]] = {}


def limits_of(row: LimitsRow) -> TaskLimits:
    """Return what a row asks for; equal rows give the same object."""
    key = _encode(row)
    found = _limits.get(key)
    if found is None:
        found = TaskLimits(*(getattr(row, name) for name in LimitsRow.__struct_fields__))
        if found == NO_LIMITS:
            found = NO_LIMITS
        if len(_limits) >= _INTERNED_MAX:
            _limits.clear()
        _limits[key] = found
    return found


def limits_row(limits: TaskLimits) -> LimitsRow:
    """Return the row of a limits object; InvalidArgumentError names the field that cannot be kept, and why."""
    known = _rows.get(id(limits))
    if known is not None:
        return known[1]
    if not isinstance(limits, TaskLimits):
        raise InvalidArgumentError(f"limits is {limits!r}: give a TaskLimits")
    values = {name: getattr(limits, name) for name in LimitsRow.__struct_fields__}
    try:
        row = msgspec.convert(list(values.values()), LimitsRow)
    except msgspec.ValidationError as error:
        fault, _, path = str(error).partition(" - at ")
        name = LimitsRow.__struct_fields__[_position(path)]
        if name in _CHOICES and isinstance(values[name], str):
            fault = f"it is one of {', '.join(map(repr, _CHOICES[name]))}"
        raise InvalidArgumentError(f"limits: {name} is {values[name]!r}: {fault}") from None
    if len(_rows) >= _INTERNED_MAX:
        _rows.clear()
    # The object is kept with its row, so that nobody else can be given its id.
    _rows[id(limits)] = (limits, row)
    return row


def put_body(payload: Payload, frames: list[Buffer]) -> Body:
    """Return how a payload stands in a row; what is too long for that is appended to `frames`."""
    if isinstance(payload, bytes):
        if len(payload) <= INLINE_BYTES_MAX:
            return payload
        frames.append(payload)
        return [len(frames) - 1]
    first = len(frames)
    frames.extend(payload)
    return list(range(first, len(frames)))


def body_of(body: Body, frames: Sequence[Buffer]) -> Payload:
    """Return the payload that a row stands for; ProtocolError for a frame that is not there."""
    if isinstance(body, bytes):
        return body
    try:
        parts = tuple(frames[index] for index in body)
    except IndexError:
        raise ProtocolError(f"a body names payload frame {max(body)}, and {len(frames)} came with it") from None
    return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else parts


def outcome_row(outcome: Outcome, frames: list[Buffer], *, body: bool = True) -> OutcomeRow:
    """Return an outcome's row, its payload left out without `body`; texts are cut to what the wire takes."""
    payload = cast("Payload | None", outcome.body) if body else None
    return OutcomeRow(
        outcome.task_id,
        outcome.attempt,
        outcome.kind,
        None if payload is None else put_body(payload, frames),
        outcome.service_s,
        outcome.cause,
        None if outcome.report is None else _report_row(outcome.report),
        outcome.started,
    )


def outcome_of(row: OutcomeRow, frames: Sequence[Buffer]) -> Outcome:
    """Return the outcome that a row stands for; ProtocolError for a cause, a time or a frame that there is not."""
    if row.cause not in _CAUSES:
        raise ProtocolError(f"an outcome's cause is {row.cause!r}; known are {', '.join(sorted(_CAUSES - {''}))}")
    if not 0.0 <= row.service_s <= _SERVICE_S_MAX:
        raise ProtocolError(f"an outcome's service_s is {row.service_s}: it takes 0 to {_SERVICE_S_MAX:g} seconds")
    return Outcome(
        row.task_id,
        row.attempt,
        row.kind,
        None if row.body is None else body_of(row.body, frames),
        row.service_s,
        cast("Cause", row.cause),
        None if row.report is None else _report_of(row.report),
        row.started,
    )


def view_of(row: TaskRow, frames: Sequence[Buffer]) -> TaskView:
    """Return a task as its dispatcher told it; ProtocolError as `outcome_of`."""
    return TaskView(
        row.task_id,
        row.state,
        row.attempt,
        None if row.outcome is None else outcome_of(row.outcome, frames),
        row.submitted_at,
        row.started_at,
        row.ended_at,
        row.ended_as,
    )


def payload_weight(payload: Payload) -> Weight:
    """Return what a row with this payload adds to a message."""
    if isinstance(payload, bytes):
        size = len(payload)
        return (_ROW_BYTES + size, 0, 0) if size <= INLINE_BYTES_MAX else (_ROW_BYTES, 1, size)
    # A frame's index is an int of at most three bytes.
    return (_ROW_BYTES + 3 * len(payload), len(payload), sum(memoryview(part).nbytes for part in payload))


def outcome_weight(outcome: Outcome) -> Weight:
    """Return what an outcome's row adds to a message."""
    payload, report = cast("Payload | None", outcome.body), outcome.report
    inline, frames, nbytes = (_ROW_BYTES, 0, 0) if payload is None else payload_weight(payload)
    if report is not None:
        texts = (report.text, report.traceback, report.last_lines, report.stdout, report.stderr, report.type_name)
        # A character is at most four bytes.
        inline += 4 * sum(map(len, texts)) + _ROW_BYTES
    return inline, frames, nbytes


def batches(items: Iterable[T], weight: Callable[[T], Weight], *, rows_max: int = ROWS_MAX) -> Iterator[list[T]]:
    """Cut what is to be sent into messages that are within every limit, in order.

    An item that is alone beyond a limit makes a message of its own: whether it may be sent was decided before.
    """
    batch: list[T] = []
    inline_all = frames_all = nbytes_all = 0
    for item in items:
        inline, frames, nbytes = weight(item)
        inline_all += inline
        frames_all += frames
        nbytes_all += nbytes
        if batch and (
            len(batch) >= rows_max
            or inline_all > _MESSAGE_BYTES
            or frames_all > FRAMES_MAX
            or nbytes_all > BLOB_BYTES_MAX
        ):
            yield batch
            batch, inline_all, frames_all, nbytes_all = [], inline, frames, nbytes
        batch.append(item)
    if batch:
        yield batch


def _report_row(report: OutcomeReport) -> ReportRow:
    texts = {name: _clean(getattr(report, name), limit) for name, limit in _REPORT_LIMITS.items()}
    return ReportRow(
        **texts,
        pid=report.pid,
        signal=report.signal,
        exit_code=report.exit_code,
        rss_bytes=report.rss_bytes,
        cut_bytes=report.cut_bytes,
    )


def _report_of(row: ReportRow) -> OutcomeReport:
    return OutcomeReport(*(getattr(row, name) for name in ReportRow.__struct_fields__))


def _clean(text: str, limit: int) -> str:
    # A lone surrogate has no form on the wire.
    return text[:limit] if text.isascii() else text[:limit].encode(errors="replace").decode()


def _position(path: str) -> int:
    """Which field msgspec's path leads to: `$[3]`, or `$[7][...]` for something in it."""
    digits = path.partition("$[")[2].partition("]")[0]
    return int(digits) if digits.isdecimal() else 0
