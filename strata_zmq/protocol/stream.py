"""The data plane's messages: how a worker streams a checkpoint to a storage writer, typed and bounded.

A worker holds one PUSH socket per writer for chunks and one DEALER for everything else. Each save opens a stream; the
writer grants it byte credits (a total since the stream began), and every chunk is answered by DURABLE or REFUSED on the
DEALER. A PULL socket knows no sender: a chunk whose header cannot be read is counted and logged, and its sender learns
of it by the answer that does not come.

Each message is one MessagePack array `[tag, ...]`; fields are append-only. On PUSH a second frame carries the bytes,
unless the chunk lies in a segment of shared memory that was handed over before.

A segment begins with a header whose epoch rises before its bytes are overwritten. A chunk names the epoch that it was
staged in: a writer that finds another one before it reads, or behind what it has written, has read something else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from strata_zmq.errors import ProtocolError

__all__ = [
    "CONTROL_BYTES_MAX",
    "HEADER_BYTES_MAX",
    "Candidate",
    "ChunkHeader",
    "Durable",
    "Grant",
    "Refused",
    "SegmentReady",
    "StreamClose",
    "StreamFault",
    "StreamOpen",
    "StreamOpened",
    "StreamPing",
    "StreamReply",
    "StreamRequest",
    "StreamWill",
    "WillTaken",
    "decode_header",
    "decode_stream_reply",
    "decode_stream_request",
    "encode_stream",
]

HEADER_BYTES_MAX = 4096
CONTROL_BYTES_MAX = 64 * 1024

Count = Annotated[int, Meta(ge=0, le=2**62)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Key = Annotated[str, Meta(max_length=4096)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
DigestOrNone = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
CodecName = Annotated[str, Meta(max_length=16)]
Reason = Annotated[str, Meta(max_length=8192)]


class _Message(msgspec.Struct, array_like=True, frozen=True):
    """What every message of the data plane shares: it is an array, and a value."""


# ---- from a worker, on DEALER ---------------------------------------------------------------------------------------


class StreamOpen(_Message, frozen=True, tag="open"):
    """Opens a stream; `client` names the process, whose segments all its streams may use. Answered by OPENED."""

    stream: Name
    client: Name
    worker_id: Name


class StreamPing(_Message, frozen=True, tag="ping"):
    """Asks for the newest grant; answered by GRANT, so that a lost grant or a lost writer shows."""

    stream: Name


class StreamClose(_Message, frozen=True, tag="close"):
    """Ends a stream and gives its credit back. Not answered.

    With `keep_will` the stream's will stays in force; a second CLOSE, without it, ends that, too.
    """

    stream: Name
    keep_will: bool = False


class StreamWill(_Message, frozen=True, tag="will"):
    """What the writer needs to finish this rank's save when the worker's process ends. Answered by WILL_TAKEN.

    Bytes [offset, offset + nbytes) of the segment describe what is staged in it; the writer reads them at once.
    `generation` is the save's.
    """

    stream: Name
    checkpoint_id: Name
    rank: Count
    segment: Annotated[int, Meta(ge=1, le=2**62)]
    epoch: Count
    offset: Count
    nbytes: Annotated[int, Meta(ge=1, le=2**30)]
    digest: Digest
    generation: Count = 0


StreamRequest = StreamOpen | StreamPing | StreamClose | StreamWill


# ---- from a worker, on PUSH -----------------------------------------------------------------------------------------


class Candidate(msgspec.Struct, array_like=True, frozen=True):
    """A stored chunk that may hold the same bytes; the fields are those of a chunk's record."""

    key: Key
    offset: Count
    digest: Digest
    nbytes: Annotated[int, Meta(ge=1, le=2**40)]
    codec: CodecName = ""
    stored: Count = 0


class ChunkHeader(_Message, frozen=True, tag="chunk"):
    """Describes one chunk, or a rank's index. `seq` pairs the answer with it within its stream.

    With `segment` 0 the bytes are the second frame; otherwise they are [offset, offset + nbytes) of that segment, as
    staged in its `epoch` (0: they do not change before the answer), and `digest` may be "": the writer is the first to
    hash them. Where they equal the `candidate`'s, nothing is written, and the answer refers to it.
    """

    stream: Name
    seq: Count
    checkpoint_id: Name
    kind: Literal["chunk", "index"]
    rank: Count
    number: Count
    digest: DigestOrNone
    nbytes: Annotated[int, Meta(ge=1, le=2**40)]
    segment: Count = 0
    offset: Count = 0
    epoch: Count = 0
    candidate: Candidate | None = None


# ---- from a writer, on ROUTER ---------------------------------------------------------------------------------------


class StreamOpened(_Message, frozen=True, tag="opened"):
    """The stream is open. `granted_bytes` may be sent now; no chunk may be larger than `window_bytes`."""

    stream: Name
    writer_id: Name
    incarnation: Name
    granted_bytes: Count
    window_bytes: Count


class Grant(_Message, frozen=True, tag="grant"):
    """So many bytes may have been sent since the stream began."""

    stream: Name
    granted_bytes: Count


class Durable(_Message, frozen=True, tag="durable"):
    """The chunk is on disk, from `offset` of the object `key` on; the sender may forget its bytes.

    `nbytes` are those of the chunk, of which a `codec` made `stored` (0: as many). `referred`: they were there already,
    as the chunk's candidate.
    """

    stream: Name
    seq: Count
    key: Key
    digest: Digest
    offset: Count = 0
    nbytes: Count = 0
    codec: CodecName = ""
    stored: Count = 0
    referred: bool = False


class Refused(_Message, frozen=True, tag="refused"):
    """The chunk was not stored; `code` names the class in the error tree."""

    stream: Name
    seq: Count
    code: Name
    message: Reason


class SegmentReady(_Message, frozen=True, tag="segment"):
    """The writer has mapped the segment: chunks may refer to it from now on."""

    client: Name
    segment: Count


class WillTaken(_Message, frozen=True, tag="will_taken"):
    """The writer has read the will: from now on it finishes the save if the worker's process ends."""

    stream: Name


class StreamFault(_Message, frozen=True, tag="fault"):
    """A message was not understood, or its stream is unknown here (`stream` then names it)."""

    code: Name
    message: Reason
    stream: str = ""


StreamReply = StreamOpened | Grant | Durable | Refused | SegmentReady | WillTaken | StreamFault

_requests: msgspec.msgpack.Decoder[StreamRequest] = msgspec.msgpack.Decoder(StreamRequest)
_headers: msgspec.msgpack.Decoder[ChunkHeader] = msgspec.msgpack.Decoder(ChunkHeader)
_replies: msgspec.msgpack.Decoder[StreamReply] = msgspec.msgpack.Decoder(StreamReply)

encode_stream = msgspec.msgpack.Encoder().encode


def decode_stream_request(data: bytes) -> StreamRequest:
    """Return what a worker says on DEALER; raises ProtocolError."""
    message: StreamRequest = _decode(_requests, data, CONTROL_BYTES_MAX, "stream request")
    return message


def decode_header(data: bytes) -> ChunkHeader:
    """Return the header of a chunk; raises ProtocolError."""
    message: ChunkHeader = _decode(_headers, data, HEADER_BYTES_MAX, "chunk header")
    if not message.digest and not message.segment:
        raise ProtocolError("chunk header: digest is empty and the bytes come in a frame: only a segment needs none")
    return message


def decode_stream_reply(data: bytes) -> StreamReply:
    """Return what a writer answers on ROUTER; raises ProtocolError."""
    message: StreamReply = _decode(_replies, data, CONTROL_BYTES_MAX, "stream reply")
    return message


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes, limit: int, what: str) -> Any:
    if len(data) > limit:
        raise ProtocolError(f"{what} of {len(data)} bytes exceeds the limit of {limit}: send less per message")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{what} is not understood: {error}") from None
