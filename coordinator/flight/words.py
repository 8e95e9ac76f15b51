"""Messages and records in words: the tag, and the fields that say something. It knows no meaning."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from strata_zmq.coordinator.core.records import MemberRecord
from strata_zmq.protocol import messages as wire

__all__ = ["say"]

_ADDRESS = {"job", "term", "session"}
_NOTHING: tuple[object, ...] = ("", [], {})
_LONG = 400


def say(message: msgspec.Struct, hidden: Collection[str] = ()) -> str:
    """Return one line: `arrive generation=2 name=step step=7`; what is empty or a default, or `hidden`, is left out."""
    words = [str(message.__struct_config__.tag or type(message).__name__)]
    addressed = isinstance(message, wire.Header | wire.Announcement)
    for field in msgspec.structs.fields(message):
        if field.name in hidden or (addressed and field.name in _ADDRESS):
            continue
        value = getattr(message, field.name)
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        if value != default and value not in _NOTHING:
            words.append(f"{field.name}={_plain(value)}")
    line = " ".join(words)
    return line if len(line) <= _LONG else line[:_LONG] + " ..."


def _plain(value: Any) -> str:
    match value:
        case MemberRecord() | wire.WriterInfo():
            return str(value.incarnation)
        case wire.CheckpointSummary():
            return value.checkpoint_id
        case wire.RankArrival():
            return value.worker_id
        case wire.SeenRange():
            return f"{value.dataset_id}/{value.epoch}/{value.shard}:{value.start}-{value.stop}"
        case msgspec.Struct():
            return "(" + " ".join(_plain(getattr(value, name)) for name in value.__struct_fields__) + ")"
        case list() | tuple():
            return "[" + ", ".join(map(_plain, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
        case bytes():
            return value.hex() if len(value) <= 8 else f"<{len(value)} bytes>"
        case float():
            return f"{value:g}"
    return str(value)
