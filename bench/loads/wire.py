"""Owns a ZeroMQ DEALER reduced to its bytes: one TCP socket, a handshake, frames; never a thread, a queue or a message.

A load made of these costs a fraction of the server it drives, which a load of ZeroMQ sockets, with their own I/O
thread, does not: on two cores it would take the server's. It speaks ZMTP 3.0 with the NULL mechanism and messages of
one frame (https://rfc.zeromq.org/spec/23/).
"""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from strata_zmq.errors import DeadlineExceededError, PeerLostError, ProtocolError
from strata_zmq.transport.sockets import raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Wire", "Wires", "framed", "wired"]

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
_LONG, _COMMAND = 0x02, 0x04
_READ_BYTES = 1 << 18
_TIMEOUT_S = 30


class Wire:
    """One connection. `send` and `recv` are those of a DEALER; `write` and `take` move what a load has prepared."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel keeps the time: Python's own time-out asks it once more before every read.
        self.socket.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _TIMEOUT_S, 0))
        self._rest = b""
        self._bodies: list[bytes] = []
        self.socket.sendall(_GREETING + bytes((_COMMAND, len(_READY))) + _READY)
        self._shake_hands()

    def send(self, body: bytes) -> None:
        """Send one message."""
        self.socket.sendall(framed(body))

    def write(self, frames: bytes) -> None:
        """Send whole frames, as `framed` makes them."""
        self.socket.sendall(frames)

    def recv(self) -> bytes:
        """Return the next message; DeadlineExceededError if none comes within 30 s."""
        while not self._bodies:
            self._bodies, self._rest = _split(self._rest + self._read())
        return self._bodies.pop(0)

    def take(self) -> tuple[int, bytes]:
        """Return how many messages the next read completes, and the last of them; it waits for bytes.

        Raises PeerLostError when the server has closed the connection.
        """
        data = self._rest + self._read()
        count, end = _uniform(data)
        last = data[end - data[1] : end] if count else b""
        bodies, self._rest = _split(data[end:])
        return count + len(bodies), bodies[-1] if bodies else last

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _read(self) -> bytes:
        try:
            read = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            raise DeadlineExceededError(f"the server was silent for {_TIMEOUT_S} s", missing=("server",)) from None
        if not read:
            raise PeerLostError("the server closed a connection")
        return read

    def _shake_hands(self) -> None:
        """Take the server's greeting and its READY; what follows them are messages."""
        data = b""
        while len(data) < len(_GREETING) + 2 or len(data) < len(_GREETING) + 2 + data[len(_GREETING) + 1]:
            data += self._read()
        if data[0] != _GREETING[0] or data[12:16] != b"NULL" or data[len(_GREETING)] != _COMMAND:
            raise ProtocolError("the server does not speak ZMTP 3 without keys: a load needs one that does")
        self._rest = data[len(_GREETING) + 2 + data[len(_GREETING) + 1] :]


Wires = list[Wire]


def framed(body: bytes) -> bytes:
    """Return `body` as one frame of one message."""
    if len(body) <= 0xFF:
        return bytes((0, len(body))) + body
    return bytes((_LONG,)) + len(body).to_bytes(8, "big") + body


def _uniform(data: bytes) -> tuple[int, int]:
    """Return how many short frames of the first one's length `data` begins with, all or none, and where they end.

    The replies of a load are nearly always alike: two slices tell so at a fraction of the cost of walking them.
    """
    if len(data) < 2 or data[0]:
        return 0, 0
    step = 2 + data[1]
    count = len(data) // step
    end = count * step
    alike = not any(data[0:end:step]) and data[1:end:step] == data[1:2] * count
    return (count, end) if alike else (0, 0)


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the messages in `data`, and the begun one behind them."""
    size, place = len(data), 0
    bodies: list[bytes] = []
    while place + 2 <= size:
        flags = data[place]
        if flags & ~_LONG:
            raise ProtocolError(f"a frame with flags {flags:#x} came: a reply is one frame and no command")
        start = place + (9 if flags else 2)
        end = start + (int.from_bytes(data[place + 1 : start], "big") if start <= size else size)
        if end > size:
            break
        bodies.append(data[start:end])
        place = end
    return bodies, data[place:]


@contextmanager
def wired(endpoint: str, count: int) -> Iterator[Wires]:
    """Yield `count` connections to the tcp endpoint `endpoint`.

    Raises ResourceExhaustedError where the limit on open files cannot be raised far enough.
    """
    raise_file_limit(count + 512)
    with ExitStack() as stack:
        wires: Wires = []
        for _ in range(count):
            wire = Wire(endpoint)
            stack.callback(wire.close)
            wires.append(wire)
        yield wires
