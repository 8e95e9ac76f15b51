"""From the bytes of an HTTP body to a request and its payloads, and back from payloads to text.

Owns JSON, base64 and ids as text; never unpickles. JSON that is not as it has to be is told as FastAPI tells it (422),
and a payload that is no pickle as an InvalidArgumentError (400).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar, get_args

import msgspec
from fastapi import HTTPException, Request
from starlette.responses import Response

from strata_zmq.domain.task import Durability, Outcome, Payload
from strata_zmq.errors import InvalidArgumentError, NotFoundError
from strata_zmq.functions.failure_pickle import failure_pickle
from strata_zmq.functions.failures import failure_of
from strata_zmq.functions.payload_check import check_pickle
from strata_zmq.protocol.functions import BLOB_BYTES_MAX

from .models import TaskError

__all__ = [
    "answer",
    "error_of",
    "id_of",
    "id_text",
    "payload_of",
    "read_body",
    "result_text",
    "text_apart",
]

_THREAD_BYTES = 1024 * 1024
"""Longer bodies are taken apart, and longer results put into text, beside the event loop."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
_encode = msgspec.json.Encoder().encode
_WHITE = b" \t\r\n"
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_FIELD = re.compile(r"field `([^`]*)`")
_PATH = re.compile(r" - at `\$([^`]*)`")
_CHOICES: dict[str, tuple[str, ...]] = {"durability": get_args(Durability)}
_STEP = re.compile(r"[^.\[\]]+")


class Reader(Protocol[T_co]):
    """Reads JSON; msgspec's decoders do."""

    def decode(self, data: bytes, /) -> T_co:
        """Return what the JSON says; raises msgspec's errors."""


async def read_body(request: Request, decoder: Reader[T], then: Callable[[T], R]) -> R:
    """Return `then` of the request's body; both in a thread where the body is long.

    The content type has to be JSON: a page of another origin cannot send that without the browser asking first.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise HTTPException(415, f"the content type is {content_type!r}: send JSON, with application/json")
    data = await request.body()

    def read() -> R:
        try:
            body = decoder.decode(data)
        except msgspec.ValidationError as error:
            _unreadable(str(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(422, [{"type": "json_invalid", "loc": ["body"], "msg": f"no JSON: {error}"}]) from None
        return then(body)

    return await asyncio.to_thread(read) if len(data) > _THREAD_BYTES else read()


async def text_apart(size: int, make: Callable[[], R]) -> R:
    """Return what `make` makes of `size` bytes, in a thread where they are many."""
    return await asyncio.to_thread(make) if size > _THREAD_BYTES else make()


def answer(body: object, status_code: int = 200) -> Response:
    """Return `body` as JSON."""
    return Response(_encode(body), status_code, media_type="application/json")


def payload_of(text: str, field: str = "payload") -> bytes:
    """Return the pickle that `text` is base64 of; 400 where it is none, 413 where it is too long."""
    try:
        data = text.encode("ascii")
        if b"\n" in data or b" " in data or b"\r" in data:
            data = data.translate(None, _WHITE)
        packed = binascii.a2b_base64(data, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidArgumentError(
            f"{field} is no base64 text ({error}): send base64 of what dill.dumps returns"
        ) from None
    if len(packed) > BLOB_BYTES_MAX:
        raise HTTPException(
            413,
            f"{field} has {len(packed)} bytes and the limit is {BLOB_BYTES_MAX}: send a path or an address of the data",
        )
    try:
        check_pickle(packed)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{field}: {error}") from None
    return packed


def result_text(outcome: Outcome | None) -> str | None:
    """Return base64 text, in lines, of what a task ended with; None where there is nothing (any more)."""
    if outcome is None:
        return None
    if outcome.kind == "failure":
        return _base64(failure_pickle(outcome))
    body: Payload | None = outcome.body  # type: ignore[assignment]
    if body is None:
        return None
    if not isinstance(body, bytes):
        if len(body) > 1:
            raise InvalidArgumentError(
                "the result lies in several buffers: a task of an executor is read by its executor, not over HTTP"
            )
        body = bytes(body[0])
    return _base64(body)


def error_of(outcome: Outcome) -> TaskError:
    """Return why a task failed, in words."""
    report = outcome.report
    if outcome.kind == "failure":
        return TaskError("WorkerFailure", str(failure_of(outcome)), outcome.cause, report.traceback if report else "")
    if report is None:
        return TaskError("Exception", "")
    return TaskError(report.type_name, report.text, "", report.traceback)


def id_text(value: bytes) -> str:
    """Return an id as a UUID is written."""
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_of(text: str, what: str) -> bytes:
    """Return the id that `text` writes; NotFoundError where it is none: nothing can be known under it."""
    if _UUID.fullmatch(text) is None:
        raise NotFoundError(f"no {what} has the id {text[:80]!r}: ids are UUIDs, as they were answered")
    return bytes.fromhex(text.replace("-", ""))


def _base64(data: bytes) -> str:
    return base64.encodebytes(data).decode("ascii")


def _unreadable(message: str) -> NoReturn:
    """Raise a 422 in FastAPI's form for what msgspec says of a body."""
    field, path = _FIELD.search(message), _PATH.search(message)
    loc = ["body", *(_STEP.findall(path[1]) if path else ())]
    kind, text = "value_error", _PATH.sub("", message)
    if field is not None:
        loc.append(field[1])
        missing = "missing required" in message
        kind, text = ("missing", "Field required") if missing else ("extra_forbidden", "There is no such field")
    if text.startswith("Invalid enum value") and loc[-1] in _CHOICES:
        text = f"{text}: say one of {', '.join(_CHOICES[loc[-1]])}"
    problem: dict[str, Any] = {"type": kind, "loc": loc, "msg": text}
    raise HTTPException(422, [problem])
