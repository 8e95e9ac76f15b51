"""Bytes from a pipe into lines: partial ones are kept, endless ones cut, and no byte is judged.

Owns the splitting; never knows where bytes come from or what encoding they are in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["MAX_LINE_BYTES", "LineSplitter"]

MAX_LINE_BYTES = 16 * 1024

# A carriage return ends a line, too, so that a progress bar shows; one at the end of what has arrived may still be half
# of "\r\n", and waits.
_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)


def _cut(piece: bytes) -> int:
    """Return where to cut an over-long piece: MAX_LINE_BYTES, or up to 3 less, where a UTF-8 character begins."""
    at = MAX_LINE_BYTES
    for back in range(4):
        if piece[at - back] & 0xC0 != 0x80:
            return at - back
    return at


class LineSplitter:
    """Turns chunks of bytes into lines without their ends, each of at most MAX_LINE_BYTES bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next chunk; yield the lines that it completes."""
        self._rest += data
        start = 0
        for end in _END.finditer(self._rest):
            piece = self._rest[start : end.start()]
            start = end.end()
            if piece or end.group() != b"\r":
                yield from self._pieces(piece)
        self._rest = self._rest[start:]
        while len(self._rest) > MAX_LINE_BYTES:
            at = _cut(self._rest)
            yield self._rest[:at]
            self._rest = self._rest[at:]

    def finish(self) -> Iterator[bytes]:
        """Yield what came after the last line end, if anything did."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        if rest:
            yield rest

    @staticmethod
    def _pieces(piece: bytes) -> Iterator[bytes]:
        while len(piece) > MAX_LINE_BYTES:
            at = _cut(piece)
            yield piece[:at]
            piece = piece[at:]
        yield piece
