"""What a trainer and its loader process say to each other over their socket pair, and how it is framed.

Knows nothing about rings or readers. A frame is a four-byte little-endian length and one MessagePack array; frames
are typed, bounded and never unpickled. Batches do not travel here, their slots' notes do the answering.
"""

from __future__ import annotations

import struct
import traceback
from typing import Generic, Self, TypeVar

import msgspec

from strata_zmq.errors import InvalidArgumentError, ProtocolError, StrataError, from_wire

__all__ = [
    "BATCH_ROWS_MAX",
    "FRAME_BYTES_MAX",
    "Answer",
    "Failure",
    "Flush",
    "FrameBuffer",
    "Hello",
    "ReaderError",
    "Refusal",
    "Request",
    "Setup",
    "decode_answer",
    "encode_frame",
    "loader_frames",
    "trainer_frames",
]

BATCH_ROWS_MAX = 1 << 20
FRAME_BYTES_MAX = 8 * BATCH_ROWS_MAX + 4096
_TRACEBACK_CHARS_MAX = 3000
_MESSAGE_CHARS_MAX = 500
_LENGTH = struct.Struct("<I")
M = TypeVar("M")


class ReaderError(StrataError):
    """The reader raised, or returned something other than what was asked of it; the loader process lives on.

    `tag` is the batch's (None while starting), `remote_type` the exception's type and `remote_traceback` its text in
    the loader process.
    """

    code = "reader"
    fault = "caller"

    def __init__(
        self, message: str = "", *, tag: int | None = None, remote_type: str = "", remote_traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.tag = tag
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback


class Failure(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An exception of the loader process, as text: `code` is empty unless it was a StrataError."""

    code: str
    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Describe `error`; long texts keep their end, where the cause is."""
        return cls(
            error.code if isinstance(error, StrataError) else "",
            _shown(f"{type(error).__module__}.{type(error).__qualname__}")[:_MESSAGE_CHARS_MAX],
            _shown(str(error))[:_MESSAGE_CHARS_MAX],
            _shown("".join(traceback.format_exception(error)))[-_TRACEBACK_CHARS_MAX:],
        )

    def error(self, tag: int | None, where: str) -> StrataError:
        """Return the error to raise: its own kind where that is Strata's (while starting), else a ReaderError."""
        text = f"{where}: {self.message}" if self.code else f"{where}: {self.type}: {self.message}"
        error = (
            from_wire(self.code, text)
            if self.code and tag is None
            else ReaderError(text, tag=tag, remote_type=self.type, remote_traceback=self.traceback)
        )
        error.add_note(f"in the loader process:\n{self.traceback}")
        return error


class Setup(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag="setup"):
    """First frame to the loader process: which reader to open (MessagePack of its description), for what batch size."""

    reader: bytes
    batch_rows: int


class Hello(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag="hello"):
    """The loader process has opened the reader: its length, and the payload bytes that a full batch takes."""

    samples: int
    slot_bytes: int


class Refusal(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag="refusal"):
    """The loader process cannot open the reader, and ends."""

    failure: Failure


class Request(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag="request"):
    """Read the samples with these indices (int64, native byte order) and answer with `serial` and `era`."""

    serial: int
    era: int
    indices: bytes


class Flush(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag="flush"):
    """Whatever was requested in an earlier era need not be read any more."""

    era: int


class Answer(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The note of a slot: which request it answers; with a failure, the slot carries no arrays."""

    serial: int
    era: int
    failure: Failure | None = None


def encode_frame(message: msgspec.Struct) -> bytes:
    """Return `message` with its length before it."""
    body = msgspec.msgpack.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise InvalidArgumentError(f"loader frame: at most {FRAME_BYTES_MAX} bytes, got {len(body)}")
    return _LENGTH.pack(len(body)) + body


def decode_answer(note: bytes) -> Answer:
    """Return a slot's note; ProtocolError if it is not one of the loader's."""
    try:
        return _ANSWERS.decode(note)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"loader answer: cannot be decoded ({error})") from error


class FrameBuffer(Generic[M]):
    """Puts a byte stream back together: `feed` it what arrived, `pop` the messages that are whole."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M]) -> None:
        self._decoder = decoder
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        self._bytes += data

    def pop(self) -> M | None:
        """Return the next whole message, or None; ProtocolError for one that is too long or not understood."""
        if len(self._bytes) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._bytes)
        if length > FRAME_BYTES_MAX:
            raise ProtocolError(f"loader frame: at most {FRAME_BYTES_MAX} bytes, {length} were announced")
        end = _LENGTH.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[_LENGTH.size : end])
        del self._bytes[:end]
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"loader frame: cannot be decoded ({error})") from error


def loader_frames() -> FrameBuffer[Setup | Request | Flush]:
    """Return a buffer for what the loader process receives."""
    return FrameBuffer(_TO_LOADER)


def trainer_frames() -> FrameBuffer[Hello | Refusal]:
    """Return a buffer for what the training process receives."""
    return FrameBuffer(_TO_TRAINER)


_ANSWERS = msgspec.msgpack.Decoder(Answer)
_TO_LOADER: msgspec.msgpack.Decoder[Setup | Request | Flush] = msgspec.msgpack.Decoder(Setup | Request | Flush)
_TO_TRAINER: msgspec.msgpack.Decoder[Hello | Refusal] = msgspec.msgpack.Decoder(Hello | Refusal)


def _shown(text: str) -> str:
    """Lone surrogates, as file names can carry them, cannot be encoded."""
    return text.encode("utf-8", "backslashreplace").decode()
