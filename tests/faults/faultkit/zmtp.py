"""One direction of a ZMTP 3 connection, cut where a message ends. It knows neither sockets nor what messages mean.

A stream is a greeting of 64 bytes and then frames (ZMTP 3.1, RFC 37): one byte of flags, the size in one byte or in
eight, the body. A message is one or more frames, of which all but the last say MORE. Commands are frames of their own.
Whoever passes on, repeats, swaps or drops whole messages leaves the stream well formed. With CURVE every message is a
command with a running nonce, so that only the NULL mechanism can be treated so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["GREETING_BYTES", "Piece", "Splitter", "bodies", "one_frame"]

GREETING_BYTES = 64
_MORE, _LONG, _COMMAND = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that belong together on the wire: some of the greeting, a command, or a whole message."""

    kind: Literal["greeting", "command", "message"]
    raw: bytes


class Splitter:
    """Takes bytes as they come and gives pieces as they get whole. The greeting is given byte by byte: peers wait in it
    for each other."""

    def __init__(self) -> None:
        self._greeting_left = GREETING_BYTES
        self._held = bytearray()
        self._message = bytearray()

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield what `data` completes, in order."""
        if self._greeting_left:
            part, data = data[: self._greeting_left], data[self._greeting_left :]
            self._greeting_left -= len(part)
            yield Piece("greeting", part)
        self._held += data
        while (size := _frame_size(self._held)) is not None and len(self._held) >= size:
            frame = bytes(self._held[:size])
            del self._held[:size]
            if frame[0] & _COMMAND:
                yield Piece("command", frame)
                continue
            self._message += frame
            if not frame[0] & _MORE:
                whole = bytes(self._message)
                self._message.clear()
                yield Piece("message", whole)


def bodies(message: bytes) -> list[bytes]:
    """Return the bodies of a message's frames."""
    found, rest = [], bytearray(message)
    while rest:
        size = _frame_size(rest)
        assert size is not None, "a message ends with a whole frame"
        found.append(bytes(rest[9 if rest[0] & _LONG else 2 : size]))
        del rest[:size]
    return found


def one_frame(body: bytes) -> bytes:
    """Return a message of one frame."""
    if len(body) < 256:
        return bytes([0, len(body)]) + body
    return bytes([_LONG]) + len(body).to_bytes(8, "big") + body


def _frame_size(held: bytearray) -> int | None:
    """Return how many bytes the first frame takes in all, or None while that cannot be told."""
    if len(held) < 2:
        return None
    if not held[0] & _LONG:
        return 2 + held[1]
    return None if len(held) < 9 else 9 + int.from_bytes(held[1:9], "big")
