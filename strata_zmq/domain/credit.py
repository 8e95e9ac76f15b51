"""Byte credits: how much a sender may send before the receiver has made room; never what is sent or over which socket.

Credits are cumulative: a grant names the total that may ever have been sent. So a grant that is lost, repeated or late
does no harm, and the newest one says everything. (QUIC's MAX_DATA works alike: RFC 9000, section 4.1.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strata_zmq.errors import InvalidArgumentError, ProtocolError

__all__ = ["CreditGrantor", "CreditWindow"]


@dataclass(slots=True)
class CreditWindow:
    """The sender's side: bytes granted and bytes spent since the stream began."""

    granted_bytes: int = 0
    spent_bytes: int = 0

    @property
    def available_bytes(self) -> int:
        """How many bytes may be sent now."""
        return self.granted_bytes - self.spent_bytes

    def raise_to(self, total_bytes: int) -> bool:
        """Take a grant; a smaller total than before is an old one and changes nothing. Says whether it rose."""
        if total_bytes <= self.granted_bytes:
            return False
        self.granted_bytes = total_bytes
        return True

    def spend(self, nbytes: int) -> bool:
        """Take `nbytes` of credit if there is enough, and say whether there was."""
        if nbytes > self.available_bytes:
            return False
        self.spent_bytes += nbytes
        return True


@dataclass(slots=True)
class _Stream:
    granted: int
    received: int = 0
    released: int = 0


@dataclass(slots=True)
class CreditGrantor:
    """The receiver's side: every open stream may have `window_bytes` outstanding, all of them `limit_bytes`.

    Outstanding bytes are granted and not yet released; so the receiver never holds more than `limit_bytes`.
    """

    limit_bytes: int
    window_bytes: int
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.window_bytes <= self.limit_bytes:
            raise InvalidArgumentError(
                f"window_bytes is {self.window_bytes}, the limits are 1 and limit_bytes = {self.limit_bytes}"
            )

    @property
    def outstanding_bytes(self) -> int:
        """Bytes that senders may still deliver or that wait to be released."""
        return sum(stream.granted - stream.released for stream in self._streams.values())

    def open(self, name: str) -> int:
        """Begin a stream (or begin it anew) and return its first grant, in bytes; 0 while the limit is used up."""
        self._streams.pop(name, None)
        grant = min(self.window_bytes, self.limit_bytes - self.outstanding_bytes)
        self._streams[name] = _Stream(granted=grant)
        return grant

    def granted_bytes(self, name: str) -> int:
        """Return the newest total of a stream; 0 for one that is not open."""
        stream = self._streams.get(name)
        return stream.granted if stream is not None else 0

    def receive(self, name: str, nbytes: int) -> None:
        """Count bytes that arrived; ProtocolError where the sender had no credit for them."""
        stream = self._streams.get(name)
        if stream is None:
            raise ProtocolError(f"{nbytes} bytes of the unknown stream {name}: say hello first")
        if stream.received + nbytes > stream.granted:
            raise ProtocolError(
                f"{nbytes} bytes of stream {name} exceed its credit of "
                f"{stream.granted - stream.received} bytes: wait for a grant"
            )
        stream.received += nbytes

    def release(self, name: str, nbytes: int) -> dict[str, int]:
        """Make room after `nbytes` are durable; returns the new totals of every stream whose grant rose."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.released = min(stream.received, stream.released + nbytes)
        return self._regrant()

    def close(self, name: str) -> dict[str, int]:
        """End a stream and give its room to the others; returns the new totals of those whose grant rose."""
        self._streams.pop(name, None)
        return self._regrant()

    def _regrant(self) -> dict[str, int]:
        free = self.limit_bytes - self.outstanding_bytes
        risen: dict[str, int] = {}
        # The emptiest window first, so that a stream opened while the limit was used up does not starve.
        for name, stream in sorted(self._streams.items(), key=lambda item: item[1].granted - item[1].released):
            room = min(self.window_bytes - (stream.granted - stream.released), free)
            if room > 0:
                stream.granted += room
                free -= room
                risen[name] = stream.granted
        return risen
