"""What happened in a run, as lines for people and as one digest for machines: equal digests mean equal runs."""

from __future__ import annotations

import struct
from collections import deque
from hashlib import blake2b
from typing import Any

from strata_zmq.coordinator.flight.words import say
from strata_zmq.protocol.codec import decode_broadcast, decode_downward

__all__ = ["Transcript"]

_TAIL = 40
_time = struct.Struct("<d")


class Transcript:
    """The story of one run. Lines are put into words only when somebody reads them."""

    def __init__(self, *, whole: bool = False) -> None:
        self._lines: deque[tuple[float, str, str, Any]] = deque(maxlen=None if whole else _TAIL)
        self._digest = blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """The digest of everything so far: each time, each byte, each fault."""
        return self._digest.hexdigest()

    def note(self, now: float, sign: str, who: str, what: Any, data: bytes) -> None:
        """Add one event. `sign` tells what it is, `data` are its bytes, and `what` is put into words later."""
        self._digest.update(_time.pack(now) + sign.encode() + who.encode() + data)
        self._lines.append((now, sign, who, what))

    def tell(self, now: float, who: str, text: str) -> None:
        """Add a remark: a fault, a start, an end."""
        self.note(now, "!", who, text, text.encode())

    def lines(self) -> list[str]:
        """Return the lines that are kept, in words."""
        return [f"{now:9.4f} {who:>12} {sign} {_words(sign, what)}" for now, sign, who, what in self._lines]


def _words(sign: str, what: Any) -> str:
    if isinstance(what, bytes):
        return say(decode_broadcast(what) if sign == "*" else decode_downward(what))
    return what if isinstance(what, str) else say(what)
