"""Owns the load on a gRPC server: prepared HTTP/2 frames on plain sockets, so that the figure is the server's alone.

It speaks as much of HTTP/2 and gRPC as unary calls with one small message need, and knows no service. A reply counts
when its stream has ended after carrying a message: a call that fails ends without one.
"""

from __future__ import annotations

import selectors
import socket
import struct
from pathlib import Path
from time import perf_counter, process_time

__all__ = ["GrpcLoad"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_POST_OVER_HTTP = b"\x83\x86"
"""`:method: POST` and `:scheme: http`, as the static table of RFC 7541 numbers them."""

_KNOWN_HEADERS = _POST_OVER_HTTP + b"\xc1\xc0\xbf\xbe"
"""The headers of every request but the first: that one put its own four into the connection's dynamic table."""

_WINDOW = 65_535
_WINDOW_MAX = 2**31 - 1
_TIMEOUT_S = 30.0


class GrpcLoad:
    """One connection for each of `messages`, which calls `path` with it again and again, `window` calls in flight.

    `path` is "/package.Service/Method"; a message is a request, already serialised.
    """

    def __init__(self, port: int, path: str, messages: list[bytes], window: int) -> None:
        self._window = window
        self._selector = selectors.EpollSelector()
        self._connections = [_Connection(port, path, message) for message in messages]
        for connection in self._connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def run(self, server: int, duration_s: float) -> dict[str, float]:
        """Keep the calls in flight for `duration_s`; return how many ended, and what they cost process `server`.

        The clock starts when the first window has been answered; the last ones come home before it returns.
        """
        for connection in self._connections:
            connection.call(self._window)
        in_flight = self._window * len(self._connections)
        warm = 0
        while warm < in_flight:
            warm += self._exchange()
        replies, cpu_s, load_cpu_s, start = 0, _cpu_seconds(server), process_time(), perf_counter()
        while (wall_s := perf_counter() - start) < duration_s:
            replies += self._exchange()
        found = {
            "replies": replies,
            "wall_s": wall_s,
            "cpu_s": _cpu_seconds(server) - cpu_s,
            "load_cpu_s": process_time() - load_cpu_s,
        }
        left = in_flight
        while left:
            left -= self._exchange(again=False)
        return found

    @property
    def calls(self) -> int:
        """How many calls have been made so far, warm-up included."""
        return sum(connection.calls for connection in self._connections)

    def close(self) -> None:
        """Close the connections."""
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()

    def _exchange(self, *, again: bool = True) -> int:
        """Take what has come, answer each reply with the next call, and return how many replies there were."""
        ready = self._selector.select(_TIMEOUT_S)
        if not ready:
            raise TimeoutError(f"the server was silent for {_TIMEOUT_S:g} s")
        replies = 0
        for key, _ in ready:
            ended = key.data.receive()
            if ended and again:
                key.data.call(ended)
            replies += ended
        return replies


class _Connection:
    def __init__(self, port: int, path: str, message: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b"\x00" + struct.pack(">I", len(message)) + message  # not compressed, its length, the message
        self._cost = len(body)
        self._first = _request(_new_headers(path, f"127.0.0.1:{port}"), body)
        self._next = _request(_KNOWN_HEADERS, body)
        self._stream = -1
        self._sendable = _WINDOW
        self._taken = 0
        self._messages = 0
        self._rest = b""
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _window_update(_WINDOW_MAX - _WINDOW))

    @property
    def calls(self) -> int:
        """How many calls have been started: each took the next odd number for its stream."""
        return (self._stream + 1) // 2

    def call(self, count: int) -> None:
        """Start `count` calls, each on a new stream."""
        self._sendable -= count * self._cost
        if self._sendable < 0:
            raise BufferError("more calls in flight than the server's window has room for: ask for fewer")
        frames: list[bytes] = []
        for _ in range(count):
            self._stream += 2
            stream = self._stream.to_bytes(4, "big")
            before, between, after = self._next if self._stream > 1 else self._first
            frames += (before, stream, between, stream, after)
        self.socket.sendall(b"".join(frames))

    def receive(self) -> int:
        """Read what is there, serve the connection, and return how many calls have ended."""
        read = self.socket.recv(1 << 18)
        if not read:
            raise ConnectionError("the server closed a connection")
        data, place, ended = self._rest + read, 0, 0
        size = len(data)
        while place + 9 <= size:
            length = int.from_bytes(data[place : place + 3], "big")
            end = place + 9 + length
            if end > size:
                break
            kind, flags = data[place + 3], data[place + 4]
            if kind == _HEADERS:
                ended += flags & _END_STREAM
            elif kind == _DATA:
                self._messages += 1
                self._taken += length
            else:
                self._serve(kind, flags, data[place + 9 : end])
            place = end
        self._rest = data[place:]
        if self._taken > _WINDOW_MAX // 2:
            self.socket.sendall(_window_update(self._taken))
            self._taken = 0
        self._messages -= ended
        if self._messages < 0:
            raise ConnectionError("a call ended without a message: the server refused it")
        return ended

    def _serve(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE:
            # Those of single streams count here, too, where they can only make the check above too kind.
            self._sendable += int.from_bytes(payload, "big")
        elif kind == _GOAWAY or (kind == _RST_STREAM and any(payload)):
            # A reset without an error comes after a whole answer (RFC 9113, section 8.1).
            raise ConnectionError(f"the server ended a {'call' if kind == _RST_STREAM else 'connection'}: {payload!r}")


def _cpu_seconds(process: int) -> float:
    spent = 0
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            spent += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
    return spent / 1e9


def _request(headers: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the two frames of a call, cut where the number of its stream belongs."""
    before = len(headers).to_bytes(3, "big") + bytes((_HEADERS, _END_HEADERS))
    between = headers + len(body).to_bytes(3, "big") + bytes((_DATA, _END_STREAM))
    return before, between, body


def _new_headers(path: str, authority: str) -> bytes:
    """Return the first request's headers: literals that enter the dynamic table, from entry 62 on, last one first."""
    return b"".join(
        (
            _POST_OVER_HTTP,
            b"\x44" + _text(path),
            b"\x41" + _text(authority),
            b"\x5f" + _text("application/grpc"),
            b"\x40" + _text("te") + _text("trailers"),
        )
    )


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode("ascii")


def _window_update(increment: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, 0, increment.to_bytes(4, "big"))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
