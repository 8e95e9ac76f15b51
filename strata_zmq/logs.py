"""How a server process of the package writes its log, and how such a line is read again. It knows no process.

On a terminal a log is lines for people; elsewhere each event is one JSON object on one line, whatever its text holds:
`{"timestamp": "2026-01-31T12:00:00.123456Z", "level": "info", "logger": "strata.coordinator", "event": "..."}`, with
`exception` where there is a traceback, and the fields that the caller gave. STRATA_LOG and STRATA_LOG_FORMAT decide.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from strata_zmq.errors import InvalidArgumentError

__all__ = ["LINE_BYTES_MAX", "Entry", "as_text", "formatter", "log_to", "printable", "read_line"]

LINE_BYTES_MAX = 16 * 1024
"""A JSON line is no longer: its texts are cut until it fits, so that whoever reads lines never gets half of one."""
_CUTS = (8_000, 2_000, 500)
_FIELDS_MAX = 16
_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("auto", "json", "text")
_OWN = ("timestamp", "level", "logger", "event", "exception")
_NOT_TOLD = ("color_message", "websocket", "taskName")
"""What libraries hang on records for their own formatters."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a process's log. `at` is in Unix seconds, `fields` has what goes beyond the text."""

    at: float
    level: str
    logger: str
    text: str
    exception: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def log_to(stream: TextIO, env: Mapping[str, str] = os.environ) -> None:
    """Have the standard library's `logging` write to `stream`; one that is set up already stays as it is.

    STRATA_LOG is the least level (default info), STRATA_LOG_FORMAT is json, text or auto (text on a terminal).
    InvalidArgumentError for any other value.
    """
    level = _one_of("STRATA_LOG", env, _LEVELS, "info")
    form = _one_of("STRATA_LOG_FORMAT", env, _FORMATS, "auto")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(text=form == "text" or (form == "auto" and stream.isatty())))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def formatter(*, text: bool) -> logging.Formatter:
    """Return what makes lines of the standard library's records: JSON, or text for people."""
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _add_origin, structlog.processors.format_exc_info],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _render_text if text else _render_json,
        ],
    )


def read_line(line: bytes) -> Entry | None:
    """Return what one line of a log says; None where it is none of ours."""
    if not line.startswith(b'{"') or len(line) > LINE_BYTES_MAX:
        return None
    try:
        said = json.loads(line)
        at = datetime.fromisoformat(said["timestamp"]).timestamp()
        level, text = said["level"], said["event"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not isinstance(level, str) or not isinstance(text, str):
        return None
    return Entry(
        at=at,
        level="error" if level == "critical" else level if level in _LEVELS else "info",
        logger=str(said.get("logger", "")),
        text=text,
        exception=str(said.get("exception", "")),
        fields={name: value for name, value in said.items() if name not in _OWN},
    )


def as_text(line: bytes) -> list[bytes] | None:
    """Return the lines in which people read a line of a log; None where it is none of ours."""
    entry = read_line(line)
    if entry is None:
        return None
    return [one.encode(errors="backslashreplace") for one in _lines(entry)]


def printable(value: object) -> str:
    """Return `value` as text that does nothing to a terminal: what workers say of themselves is not to be trusted."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(value))


def _one_of(name: str, env: Mapping[str, str], words: tuple[str, ...], default: str) -> str:
    word = env.get(name, "").lower() or default
    if word not in words:
        raise InvalidArgumentError(f"{name} is {env[name]!r}: it takes {', '.join(words)}")
    return word


def _add_origin(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = event["_record"]
    for name in _NOT_TOLD:
        event.pop(name, None)
    event["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    event["level"] = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
    event["logger"] = record.name
    return event


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    told = {name: event.pop(name) for name in _OWN if name in event} | dict(event)
    text = _dump(told)
    for cut in _CUTS:
        if len(text) <= LINE_BYTES_MAX:
            return text
        told = {name: _cut(name, value, cut) for name, value in list(told.items())[: len(_OWN) + _FIELDS_MAX]}
        text = _dump(told)
    return text if len(text) <= LINE_BYTES_MAX else _dump({name: told[name] for name in _OWN if name in told})


def _dump(told: Mapping[str, Any]) -> str:
    return json.dumps(told, default=repr)


def _cut(name: str, value: Any, most: int) -> Any:
    """Return a text without what is too long of it: a traceback says most at its end, everything else at its start."""
    if isinstance(value, int | float | None):
        return value
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= most:
        return text
    return f"...{text[-most:]}" if name == "exception" else f"{text[:most]}..."


def _render_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return "\n".join(
        _lines(
            Entry(
                at=datetime.fromisoformat(event["timestamp"]).timestamp(),
                level=event["level"],
                logger=event["logger"],
                text=event["event"],
                exception=event.get("exception", ""),
                fields={name: value for name, value in event.items() if name not in _OWN},
            )
        )
    )


def _lines(entry: Entry) -> list[str]:
    at = datetime.fromtimestamp(entry.at)
    told = "".join(f" {printable(name)}={printable(value)}" for name, value in entry.fields.items())
    head = f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03} {entry.level.upper()} {printable(entry.logger)}: "
    return [head + printable(entry.text) + told, *map(printable, entry.exception.splitlines())]
