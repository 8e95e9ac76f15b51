"""How a payload goes into a packet: inline where it is small, else as places in shared memory; it sends nothing."""

from __future__ import annotations

from strata_zmq.domain.task import Payload
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.functions.pool.packets import BODY_BYTES_MAX, Call, Keep, Place
from strata_zmq.functions.pool.planner import PoolCall
from strata_zmq.functions.pool.segments import SegmentPool, SharedParts

__all__ = ["KeptValue", "as_call", "shared"]


def shared(payload: object, segments: SegmentPool) -> tuple[bytes | SharedParts, SharedParts | None]:
    """Return `payload` as it can be sent, and the segment that was made for it, if any.

    Small bytes stay, anything larger or of several parts becomes SharedParts; a caller's SharedParts are taken as they
    are unless their stream is too large to go inline.
    """
    if isinstance(payload, bytes) and len(payload) <= BODY_BYTES_MAX:
        return payload, None
    if isinstance(payload, SharedParts):
        if len(payload.stream) <= BODY_BYTES_MAX:
            return payload, None
        # The stream comes to lie beside the buffers, which are copied once more: it is rare that both are large.
        made = segments.store(b"", [memoryview(payload.stream), *payload.views()])
        return made, made
    parts = (payload,) if isinstance(payload, bytes | bytearray | memoryview) else payload
    if not isinstance(parts, tuple) or not parts:
        raise InvalidArgumentError(f"payload: bytes, a tuple of buffers or SharedParts, got {type(payload).__name__}")
    stream = bytes(parts[0]) if memoryview(parts[0]).nbytes <= BODY_BYTES_MAX else b""
    rest = parts[1:] if stream else parts
    made = segments.store(stream, [memoryview(part).cast("B") for part in rest])
    return made, made


def _places(parts: SharedParts, descriptors: list[int]) -> tuple[bytes | Place, list[Place]]:
    """Return body and buffers as a packet names them; an empty stream says that the first span is the body."""
    if not parts.spans:
        return parts.stream, []
    index = len(descriptors)
    descriptors.append(parts.fd)
    places = [Place(index, offset, nbytes) for offset, nbytes in parts.spans]
    return (parts.stream, places) if parts.stream else (places[0], places[1:])


def as_call(call: PoolCall, n: int, segments: SegmentPool, descriptors: list[int]) -> Call:
    """Return `call` as call number `n` of a packet; what it needs of descriptors is appended to `descriptors`."""
    limits = call.limits
    body: bytes | Place
    buffers: list[Place] = []
    if isinstance(call.body, bytes) and not call.solo:
        body = call.body
    else:
        sendable: bytes | SharedParts | None = call.segment
        if sendable is None:
            sendable, call.segment = shared(call.body, segments)
        if isinstance(sendable, bytes):
            body = sendable
        else:
            body, buffers = _places(sendable, descriptors)
    return Call(
        n,
        call.function,
        body,
        limits.result_bytes_max,
        buffers,
        limits.form == "dill",
        limits.capture,
        limits.memory_bytes,
    )


class KeptValue:
    """A packed callable or value that the pool keeps for its children."""

    __slots__ = ("_made", "_sendable")

    def __init__(self, payload: Payload | SharedParts, segments: SegmentPool) -> None:
        self._sendable, self._made = shared(payload, segments)

    def as_keep(self, digest: bytes, descriptors: list[int]) -> Keep:
        """Return the order that makes it known to a child."""
        if isinstance(self._sendable, bytes):
            return Keep(digest, self._sendable)
        return Keep(digest, *_places(self._sendable, descriptors))

    def release(self, segments: SegmentPool) -> None:
        """Let its memory go; children that have it mapped keep theirs."""
        if self._made is not None:
            self._made.kept = True
            segments.give_back(self._made)
