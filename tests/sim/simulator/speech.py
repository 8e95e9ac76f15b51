"""Messages and records in words: the tag, and the fields that say something. It knows no meaning."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["say"]

_HEADER = {"job", "term", "session"}
_LONG = 400


def say(message: msgspec.Struct) -> str:
    """Return one line: `arrive generation=2 name=step step=7`; defaults and the addressing are left out."""
    words = [str(message.__struct_config__.tag or type(message).__name__)]
    for field in msgspec.structs.fields(message):
        if field.name in _HEADER:
            continue
        value = getattr(message, field.name)
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        if value != default:
            words.append(f"{field.name}={_plain(value)}")
    line = " ".join(words)
    return line if len(line) <= _LONG else line[:_LONG] + " ..."


def _plain(value: Any) -> str:
    if isinstance(value, msgspec.Struct):
        return "(" + " ".join(_plain(getattr(value, name)) for name in value.__struct_fields__) + ")"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 8 else f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
