"""Bytes to typed control messages and back; bounded, and never anything but a ProtocolError on bad bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.fields import Count
from strata_zmq.protocol.messages import Broadcast, Fold, Folded, Reply, Request

__all__ = [
    "MAX_FOLDED_BYTES",
    "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES",
    "around_address",
    "decode_broadcast",
    "decode_downward",
    "decode_reply",
    "decode_request",
    "decode_upward",
    "encode",
    "encode_each",
    "seq_of",
]

MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 16 * 1024 * 1024
MAX_FOLDED_BYTES = MAX_REPLY_BYTES + 64 * 1024
"""The longest reply has to fit in, envelope and all."""
_ARRAY_16 = 0xDC


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    """The header of any request, whatever follows."""

    tag: str
    job: str
    term: int
    generation: int
    session: int
    seq: Count


_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_broadcasts: msgspec.msgpack.Decoder[Broadcast] = msgspec.msgpack.Decoder(Broadcast)
_upward: msgspec.msgpack.Decoder[Request | Fold] = msgspec.msgpack.Decoder(Request | Fold)
_downward: msgspec.msgpack.Decoder[Reply | Folded] = msgspec.msgpack.Decoder(Reply | Folded)
_envelopes: msgspec.msgpack.Decoder[_Envelope] = msgspec.msgpack.Decoder(_Envelope)

encode = _encoder.encode
# msgspec raises UnicodeDecodeError, which is a ValueError, outside its own exceptions.
_BAD = (msgspec.MsgspecError, ValueError, RecursionError)


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes, limit: int, what: str) -> Any:
    if len(data) > limit:
        raise _too_long(data, limit, what)
    try:
        return decoder.decode(data)
    except _BAD as error:
        raise _unreadable(error, what) from None


def _too_long(data: bytes, limit: int, what: str) -> ProtocolError:
    return ProtocolError(f"{what} of {len(data)} bytes exceeds the limit of {limit}: send less per message")


def _unreadable(error: Exception, what: str) -> ProtocolError:
    return ProtocolError(f"{what} is not understood: {error}")


def decode_request(data: bytes) -> Request:
    """Return the request in one frame of at most MAX_REQUEST_BYTES; raises ProtocolError."""
    message: Request = _decode(_requests, data, MAX_REQUEST_BYTES, "request")
    return message


def decode_upward(data: bytes) -> Request | Fold:
    """Return what a coordinator may be sent in one frame: a request, or an agent's envelope; raises ProtocolError."""
    # As _decode does, one call shorter: every message that a coordinator takes comes through here.
    if len(data) > MAX_REQUEST_BYTES:
        raise _too_long(data, MAX_REQUEST_BYTES, "request")
    try:
        return _upward.decode(data)
    except _BAD as error:
        raise _unreadable(error, "request") from None


def around_address(template: Reply) -> tuple[bytes, bytes]:
    """Return the bytes that `encode` gives for `template` before its session and after its seq, which must be 0.

    The two are neighbours in an array whose elements stand one after the other.
    """
    body = encode(template)
    before = (template.__struct_config__.tag, template.job, template.term, template.generation)
    # An array of up to 15 elements has a head of one byte, a longer one of three.
    start = (1 if body[0] < _ARRAY_16 else 3) + sum(len(encode(value)) for value in before)
    return body[:start], body[start + 2 :]


def encode_each(template: Reply, recipients: Iterable[tuple[bytes, int, int]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield, for each (connection, session, seq), the connection and what `encode` gives for `template` with these two
    in its header.

    The rest is encoded once: the thousand releases of a barrier all name its thousand participants. One after the
    other, because the memory of one that was sent is at hand for the next; all of them at once would be fresh pages.
    """
    head, tail = around_address(template)
    join = b"".join
    for connection, session, seq in recipients:
        yield connection, join((head, encode(session), encode(seq), tail))


def seq_of(data: bytes) -> int:
    """Return the sequence number of a request that could not be decoded, so that its error finds it; 0 if unreadable.

    The frame has to be MessagePack to its end: a wrong field gives its number, a truncated one gives 0.
    """
    try:
        return int(_decode(_envelopes, data, MAX_REQUEST_BYTES, "request").seq)
    except ProtocolError:
        return 0


def decode_reply(data: bytes) -> Reply:
    """Return the reply in one frame of at most MAX_REPLY_BYTES; raises ProtocolError."""
    message: Reply = _decode(_replies, data, MAX_REPLY_BYTES, "reply")
    return message


def decode_downward(data: bytes) -> Reply | Folded:
    """Return what an agent may be sent in one frame: a reply, or an envelope of them; raises ProtocolError."""
    message: Reply | Folded = _decode(_downward, data, MAX_FOLDED_BYTES, "reply")
    return message


def decode_broadcast(data: bytes) -> Broadcast:
    """Return the broadcast in one frame; raises ProtocolError."""
    message: Broadcast = _decode(_broadcasts, data, MAX_REPLY_BYTES, "broadcast")
    return message
