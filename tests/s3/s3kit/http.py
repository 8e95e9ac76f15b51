"""Requests and answers of HTTP/1.1 on a plain socket; knows nothing of S3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote

__all__ = ["Answer", "Request", "read_request"]

_REASONS = {200: "OK", 204: "No Content", 206: "Partial Content"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self, method: str) -> bytes:
        """All of it; the answer to HEAD tells the length of a body that is not sent."""
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        if self.status == 204:
            del headers["Content-Length"]
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Error')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else self.body)


def read_request(stream: BinaryIO) -> Request | None:
    """Return the next request of a connection, or None at its end."""
    line = stream.readline()
    if not line.strip():
        return None
    method, target, _ = line.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (line := stream.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    assert "chunked" not in headers.get("transfer-encoding", ""), "this server takes bodies of a known length only"
    length = int(headers.get("content-length", "0"))
    body = stream.read(length)
    if len(body) < length:
        return None
    path, _, query = target.partition("?")
    return Request(method, unquote(path), dict(parse_qsl(query, keep_blank_values=True)), headers, body)
