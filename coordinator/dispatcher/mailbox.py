"""The dispatcher's ROUTER: messages with their payload frames in, and out; it knows none of them by its meaning.

Nothing that a peer sends can stop it: what cannot be read is answered by a complaint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import msgspec
import zmq

from strata_zmq.errors import ProtocolError
from strata_zmq.functions.wire import Buffer
from strata_zmq.protocol.functions import (
    BLOB_BYTES_MAX,
    FRAMES_MAX,
    MESSAGE_BYTES_MAX,
    Complaint,
    FromClient,
    FromWorker,
    decode_at_dispatcher,
    encode_function,
)

__all__ = ["Letter", "Mailbox"]

log = logging.getLogger("strata.dispatcher")

Letter = tuple[bytes, FromClient | FromWorker, Sequence[Buffer]]
"""The connection that it came on, the message, and its payload frames."""

DRAIN_MAX = 512
DRAIN_BYTES_MAX = 64 * 2**20
"""Most that one step takes, so that replies and time do not wait for a flood."""
_LOG_EVERY_S = 1.0
_SHARED_BYTES_MIN = 64 * 1024
"""A frame from this size on is not copied out of ZeroMQ's hands, nor into them."""
_DONTWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.SNDMORE) | _DONTWAIT


class Mailbox:
    """A bound ROUTER, whose peers are known by their connections."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        # The methods of the class below pyzmq's own: what it adds, for draft sockets, costs as much as the sending.
        self._send_frame = super(zmq.Socket, socket).send
        self._receive = super(zmq.Socket, socket).recv
        self._silent_until = 0.0
        self._unlogged = 0
        self.backlog = False
        """Whether the last `drain` took as much as it may, so that more can be waiting."""

    def drain(self) -> list[Letter]:
        """Take what has arrived, within the limits of one step, and complain of what cannot be read."""
        receive = self._receive
        letters: list[Letter] = []
        size = 0
        while len(letters) < DRAIN_MAX and size < DRAIN_BYTES_MAX:
            try:
                connection: bytes = receive(_DONTWAIT)
            except zmq.Again:
                self.backlog = False
                return letters
            first = receive(0, False)
            try:
                frames, rest = self._payload() if first.more else ((), 0)
                data = first.bytes
                letters.append((connection, decode_at_dispatcher(data), frames))
                size += len(data) + rest
            except ProtocolError as error:
                self._log(error)
                self.send(connection, Complaint(0, error.code, str(error)[:8192]))
        self.backlog = True
        return letters

    def send(self, connection: bytes, message: msgspec.Struct, frames: Sequence[Buffer] = ()) -> bool:
        """Send at once, or not at all: False where the peer is gone, or too slow to read."""
        data = encode_function(message)
        if len(data) > MESSAGE_BYTES_MAX:
            raise ProtocolError(f"a {type(message).__name__} of {len(data)} bytes exceeds {MESSAGE_BYTES_MAX}")
        send = self._send_frame
        try:
            send(connection, _MORE)
            if not frames:
                send(data, _DONTWAIT)
                return True
            send(data, _MORE)
            for frame in frames[:-1]:
                self._send_payload(frame, _MORE)
            self._send_payload(frames[-1], _DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EHOSTUNREACH, zmq.EAGAIN}:
                raise
            return False
        return True

    def _log(self, error: ProtocolError) -> None:
        """Tell the log of what was refused, but let no peer fill it."""
        now = time.monotonic()
        if now < self._silent_until:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} more since the last such line)" if self._unlogged else ""
        log.warning("refused a message: %s%s", error, more)
        self._silent_until, self._unlogged = now + _LOG_EVERY_S, 0

    def _send_payload(self, frame: Buffer, flags: int) -> None:
        if memoryview(frame).nbytes < _SHARED_BYTES_MIN:
            self._send_frame(frame, flags)
        else:
            self._send_frame(frame, flags, copy=False)

    def _payload(self) -> tuple[list[Buffer], int]:
        """Take the rest of a message to its end, even if it is too much, and return it with its size."""
        frames: list[Buffer] = []
        count = size = 0
        more = True
        while more:
            frame = self._receive(0, False)
            more = frame.more
            count += 1
            size += len(frame)
            if count > FRAMES_MAX or (count > 1 and size > BLOB_BYTES_MAX):
                frames.clear()
            else:
                frames.append(frame.buffer if len(frame) >= _SHARED_BYTES_MIN else frame.bytes)
        if len(frames) != count:
            raise ProtocolError(
                f"{count} payload frames of {size} bytes came with one message, and {FRAMES_MAX} of {BLOB_BYTES_MAX} "
                "bytes together are taken: send less at once"
            )
        return frames, size
