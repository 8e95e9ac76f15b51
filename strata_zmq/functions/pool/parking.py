"""What calls refer to (callables and values, by digest), and the calls that wait aside because something is lacking."""

from __future__ import annotations

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Payload
from strata_zmq.functions.pool.placing import KeptValue
from strata_zmq.functions.pool.planner import PoolCall
from strata_zmq.functions.pool.segments import SegmentPool, SharedParts

__all__ = ["Parking"]

_ASK_AGAIN_S = 2.0


class Parking:
    """`kept` is what the owner has brought; parked calls are found by the first digest that they lack."""

    def __init__(self, segments: SegmentPool) -> None:
        self._segments = segments
        self.kept: dict[bytes, KeptValue] = {}
        self._parked: dict[bytes, dict[PoolCall, None]] = {}
        self._ask_at: dict[bytes, float] = {}
        self.count = 0
        """Calls that wait here."""

    def keep(self, digest: bytes, payload: Payload | SharedParts) -> list[PoolCall]:
        """Keep a value, and return the calls that waited for it."""
        if digest in self.kept:
            return []
        self.kept[digest] = KeptValue(payload, self._segments)
        return self.leave(digest)

    def drop(self, digest: bytes) -> bool:
        """Keep a value no longer; False where it is not kept."""
        value = self.kept.pop(digest, None)
        if value is not None:
            value.release(self._segments)
        return value is not None

    def lacks(self, call: PoolCall) -> bytes | None:
        """Return the first digest that `call` needs and nobody has brought."""
        kept = self.kept
        if call.function not in kept and call.function != CALL_IN_PAYLOAD:
            return call.function
        for digest in call.refs:
            if digest not in kept:
                return digest
        return None

    def park(self, call: PoolCall, digest: bytes) -> None:
        """Let a call wait for `digest`."""
        call.parked = digest
        self._parked.setdefault(digest, {})[call] = None
        self.count += 1

    def remove(self, call: PoolCall) -> None:
        """Take one parked call out."""
        calls = self._parked[call.parked]
        del calls[call]
        self.count -= 1
        if not calls:
            del self._parked[call.parked]
            self._ask_at.pop(call.parked, None)
        call.parked = b""

    def leave(self, digest: bytes) -> list[PoolCall]:
        """Take out the calls that wait for `digest`, in their order."""
        calls = list(self._parked.pop(digest, ()))
        self._ask_at.pop(digest, None)
        self.count -= len(calls)
        for call in calls:
            call.parked = b""
        return calls

    def all(self) -> list[PoolCall]:
        """Return every parked call."""
        return [call for calls in self._parked.values() for call in calls]

    def lacking(self, now: float) -> list[bytes]:
        """Return the digests to ask for: each when it begins to lack, and again every 2 s."""
        asked = [digest for digest in self._parked if now >= self._ask_at.get(digest, now)]
        for digest in asked:
            self._ask_at[digest] = now + _ASK_AGAIN_S
        return asked

    def next_wakeup(self) -> float | None:
        """Return when to ask again."""
        return min(self._ask_at.values(), default=None)

    def close(self) -> None:
        """Let everything go."""
        for digest in list(self.kept):
            self.drop(digest)
