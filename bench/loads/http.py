"""One connection that speaks as much HTTP as a benchmark needs: requests one after the other, answers with a length."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from strata_zmq.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Connection", "connected"]

_TIMEOUT_S = 120.0
_READ_BYTES = 1 << 18


class Connection:
    """A connection to `url`. Little of a request's time is spent here: it is the server that is measured."""

    def __init__(self, url: str) -> None:
        self._host = url.removeprefix("http://")
        host, _, port = self._host.partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: object) -> Any:
        """Return the answer to a POST of `body` as JSON."""
        return self.asked(self.prepared("POST", path, msgspec.json.encode(body)))

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self.asked(self.prepared("GET", path))

    def prepared(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return a request's bytes."""
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(body)}\r\n"
        return f"{head}content-type: application/json\r\n\r\n".encode() + body

    def asked(self, request: bytes) -> Any:
        """Send a request and return its answer, decoded; ProtocolError for one that is no success."""
        return msgspec.json.decode(self.fetched(request))

    def fetched(self, request: bytes) -> bytes:
        """Send a request and return its answer as it came; ProtocolError for one that is no success."""
        self._socket.sendall(request)
        head, _, body = self._until(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        lengths = [line[15:] for line in lines if line[:15].lower() == b"content-length:"]
        if not lengths:
            raise ProtocolError(f"an answer without a length: {lines[0].decode()}")
        parts, left = [body], int(lengths[0]) - len(body)
        while left > 0:
            parts.append(self._read())
            left -= len(parts[-1])
        answer = b"".join(parts)
        if not lines[0].split()[1].startswith(b"2"):
            raise ProtocolError(f"{lines[0].decode()}: {answer[:500].decode(errors='replace')}")
        return answer

    def close(self) -> None:
        """Let it go."""
        self._socket.close()

    def _until(self, mark: bytes) -> tuple[bytes, bytes, bytes]:
        read = b""
        while mark not in read:
            read += self._read()
        return read.partition(mark)

    def _read(self) -> bytes:
        read = self._socket.recv(_READ_BYTES)
        if not read:
            raise ProtocolError("the server closed the connection within an answer")
        return read


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Connect to `url`."""
    connection = Connection(url)
    try:
        yield connection
    finally:
        connection.close()
