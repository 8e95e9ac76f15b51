"""A function worker's socket: messages to and from its dispatcher, with their frames; never what they mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import msgspec
import zmq

from strata_zmq.errors import ProtocolError
from strata_zmq.functions.wire import Buffer
from strata_zmq.protocol.functions import WorkerReply, decode_at_worker, encode_function
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.sockets import FUNCTIONS, connect, open_socket

__all__ = ["Link"]

log = logging.getLogger("strata.function_worker")

_SHARED_BYTES_MIN = 64 * 1024
"""A frame from this size on is not copied out of ZeroMQ's hands, nor into them."""
_DONTWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.SNDMORE) | _DONTWAIT
_LINGER_MS = 500


class Link:
    """One connection at a time, found again by ZeroMQ when it breaks."""

    def __init__(self, endpoint: str, curve_keys: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            keys = CurveKeys.load(curve_keys) if curve_keys else None
            self._socket = open_socket(self._context, zmq.DEALER, FUNCTIONS, keys=keys)
            connect(self._socket, endpoint, field="dispatcher")
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self.socket = self._socket
        """For polling."""
        # The methods of the class below pyzmq's own: what it adds, for draft sockets, costs as much as the sending.
        self._send_frame = super(zmq.Socket, self._socket).send
        self._receive = super(zmq.Socket, self._socket).recv

    def send(self, message: msgspec.Struct, frames: Sequence[Buffer] = ()) -> bool:
        """Send at once, or not at all: False where nobody is connected, or does not read."""
        send = self._send_frame
        data = encode_function(message)
        try:
            send(data, _MORE if frames else _DONTWAIT)
            for index, frame in enumerate(frames, start=1):
                flags = _MORE if index < len(frames) else _DONTWAIT
                if memoryview(frame).nbytes < _SHARED_BYTES_MIN:
                    send(frame, flags)
                else:
                    send(frame, flags, copy=False)
        except zmq.Again:
            return False
        return True

    def drain(self) -> Iterator[tuple[WorkerReply, list[Buffer]]]:
        """Take what has arrived, to the last message; one that cannot be read is logged."""
        receive = self._receive
        while True:
            try:
                first = receive(_DONTWAIT, False)
            except zmq.Again:
                return
            frames: list[Buffer] = []
            more = first.more
            while more:
                frame = receive(0, False)
                more = frame.more
                frames.append(frame.buffer if len(frame) >= _SHARED_BYTES_MIN else frame.bytes)
            try:
                yield decode_at_worker(first.bytes), frames
            except ProtocolError as error:
                log.warning("from the dispatcher: %s", error)

    def close(self) -> None:
        """Let what was said last leave, and close."""
        self._context.destroy(linger=_LINGER_MS)
