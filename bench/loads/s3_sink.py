"""A server that takes S3 uploads and forgets large ones, so that a client can be measured and not a disk.

It speaks as much of S3 as a checkpoint needs. Objects of up to a mebibyte are kept, large ones only by their length and
ETag; what was forgotten cannot be read. Nothing is verified, neither signatures nor checksums. Bodies may come with a
length or in HTTP chunks, with or without S3's own `aws-chunked` framing: all of it is parsed, for a client whose
connection is cut off sends everything again and would be blamed for it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import ssl
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from strata_zmq.errors import ProtocolError

__all__ = ["KEPT_BYTES_MAX", "Sink", "main", "unframed"]

KEPT_BYTES_MAX = 1 << 20
_FRAMED_MAX = KEPT_BYTES_MAX + (64 << 10)
_BUFFER = 1 << 20
_HEAD_MAX = 1 << 16
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Stored(NamedTuple):
    """An object: its length, its ETag, and its content if it was small."""

    nbytes: int
    etag: str
    content: bytes | None


@dataclass(slots=True)
class Request:
    """One request, its body already taken."""

    method: str
    key: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    nbytes: int
    content: bytes | None


@dataclass(slots=True)
class Sink:
    """What was stored. Objects are those of one bucket, whatever its name; thread-safe."""

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, dict[int, int]] = field(default_factory=dict)
    received_bytes: int = 0
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        with self._lock:
            self.received_bytes += request.nbytes
            if request.method == "POST" and "delete" in request.query:
                return self._delete_many(request)
            if request.method == "GET" and not request.key:
                return self._listed(request)
            if request.method == "POST" or "uploadId" in request.query:
                return self._multipart(request)
            if request.method == "PUT":
                return self._put(request)
            if request.method == "DELETE":
                self.objects.pop(request.key, None)
                return 204, {}, b""
            return self._read(request)

    def _put(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        there = self.objects.get(request.key)
        if (request.headers.get("if-none-match") == "*" and there is not None) or (
            "if-match" in request.headers and (there is None or request.headers["if-match"] != there.etag)
        ):
            return 412, {}, _error("PreconditionFailed")
        return 200, {"ETag": self._store(request.key, request.nbytes, request.content).etag}, b""

    def _store(self, key: str, nbytes: int, content: bytes | None) -> Stored:
        self._made += 1
        # As S3 has it where that can be known: equal bytes have equal ETags.
        name = hashlib.md5(content, usedforsecurity=False).hexdigest() if content is not None else f"{self._made:032x}"
        stored = self.objects[key] = Stored(nbytes, f'"{name}"', content)
        return stored

    def _multipart(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in request.query:
            self._made += 1
            upload = f"upload-{self._made}"
            self.uploads[upload] = {}
            names = f"<Bucket>b</Bucket><Key>{escape(request.key)}</Key><UploadId>{upload}</UploadId>"
            return 200, {}, _xml("InitiateMultipartUploadResult", names)
        upload = request.query["uploadId"][0]
        if upload not in self.uploads:
            return 404, {}, _error("NoSuchUpload")
        if request.method == "PUT":
            part = int(request.query["partNumber"][0])
            self.uploads[upload][part] = request.nbytes
            return 200, {"ETag": f'"{part:032x}"'}, b""
        parts = self.uploads.pop(upload)
        if request.method == "DELETE":
            return 204, {}, b""
        stored = self._store(request.key, sum(parts.values()), None)
        body = f"<Bucket>b</Bucket><Key>{escape(request.key)}</Key><ETag>{escape(stored.etag)}</ETag>"
        return 200, {}, _xml("CompleteMultipartUploadResult", body)

    def _read(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        if not request.key:
            return 200, {}, b""
        found = self.objects.get(request.key)
        if found is None:
            return 404, {}, b"" if request.method == "HEAD" else _error("NoSuchKey")
        headers = {"ETag": found.etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if request.method == "HEAD":
            return 200, {**headers, "Content-Length": str(found.nbytes)}, b""
        if found.content is None:
            return 410, {}, _error("Forgotten")
        if "range" not in request.headers:
            return 200, headers, found.content
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        piece = found.content[int(first) : int(last) + 1 if last else None]
        placed = f"bytes {first}-{int(first) + len(piece) - 1}/{found.nbytes}"
        return 206, {**headers, "Content-Range": placed}, piece

    def _listed(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in request.query:
            return 200, {}, _xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>")
        prefix = request.query.get("prefix", [""])[0]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(found.etag)}</ETag><Size>{found.nbytes}</Size></Contents>"
            for key, found in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return 200, {}, _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{entries}")

    def _delete_many(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        gone = []
        for node in ElementTree.fromstring(request.content or b"<Delete/>").iter():  # noqa: S314 - see above
            if node.tag.rpartition("}")[2] == "Key" and node.text:
                self.objects.pop(node.text, None)
                gone.append(f"<Deleted><Key>{escape(node.text)}</Key></Deleted>")
        return 200, {}, _xml("DeleteResult", "".join(gone))


class _Connection:
    """One client's connection: bytes in, in a buffer that is reused, and whole requests out."""

    def __init__(self, sock: socket.socket, sink: Sink) -> None:
        self._sock, self._sink = sock, sink
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0

    def serve(self) -> None:
        """Answer until the client goes."""
        while (head := self._head()) is not None:
            request = self._request(head)
            status, headers, body = self._sink.answer(request)
            if request.method != "HEAD":
                headers = {"Content-Length": str(len(body)), **headers}
            headers = {"Content-Length": "0", "Connection": "keep-alive", **headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self._sock.sendall(f"HTTP/1.1 {status} {'OK' if status < 300 else 'No'}\r\n{lines}\r\n".encode() + body)

    def _request(self, head: bytes) -> Request:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        url = urlsplit(target)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        if headers.get("expect", "").lower() == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        content: bytes | None
        if "chunked" in headers.get("transfer-encoding", "").lower():
            nbytes, content = self._chunked()
        else:
            nbytes = int(headers.get("content-length", "0"))
            content = self._take(nbytes)
        # Frames of S3's own: chunks that carry signatures, or a checksum behind them; in HTTP chunks or without them.
        decoded = int(headers.get("x-amz-decoded-content-length", nbytes))
        if "aws-chunked" in headers.get("content-encoding", "") and decoded != nbytes:
            nbytes, content = decoded, unframed(content) if content is not None else None
        if nbytes > KEPT_BYTES_MAX:
            content = None
        return Request(method, key, parse_qs(url.query, keep_blank_values=True), headers, nbytes, content)

    def _chunked(self) -> tuple[int, bytes | None]:
        """Take a body in HTTP chunks, and the trailers behind it."""
        total, kept = 0, bytearray()
        while size := int(self._line().partition(b";")[0], 16):
            content = self._take(size)
            total += size
            if content is not None and total <= _FRAMED_MAX:
                kept += content
            if self._line():
                raise ProtocolError("a chunk is longer than it says")
        while self._line():
            pass  # trailers
        return total, bytes(kept) if total <= _FRAMED_MAX else None

    def _head(self) -> bytes | None:
        while (found := self._buffer.find(b"\r\n\r\n", self._begin, self._end)) < 0:
            if self._end - self._begin > _HEAD_MAX:
                raise ProtocolError("a request's head is too long")
            if not self._more():
                return None
        head, self._begin = bytes(self._view[self._begin : found]), found + 4
        return head

    def _line(self) -> bytes:
        while (found := self._buffer.find(b"\r\n", self._begin, self._end)) < 0:
            if not self._more():
                raise ProtocolError("the client went within a body")
        line, self._begin = bytes(self._view[self._begin : found]), found + 2
        return line

    def _take(self, nbytes: int) -> bytes | None:
        """Take `nbytes` bytes; return them if they are few."""
        kept = bytearray() if nbytes <= _FRAMED_MAX else None
        left = nbytes
        while left:
            if self._begin == self._end and not self._more():
                raise ProtocolError("the client went within a body")
            here = min(left, self._end - self._begin)
            if kept is not None:
                kept += self._view[self._begin : self._begin + here]
            self._begin += here
            left -= here
        return bytes(kept) if kept is not None else None

    def _more(self) -> int:
        """Receive what is there, behind what has not been taken yet; returns how much."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._end == _BUFFER or self._begin > _BUFFER // 2:
            rest = bytes(self._view[self._begin : self._end])
            self._view[: len(rest)] = rest
            self._begin, self._end = 0, len(rest)
        received = self._sock.recv_into(self._view[self._end :])
        self._end += received
        return received


def unframed(body: bytes) -> bytes:
    """Return what `aws-chunked` frames hold: `SIZE[;chunk-signature=...]`, the bytes, a line end, until SIZE is 0."""
    found, position = bytearray(), 0
    while True:
        end = body.index(b"\r\n", position)
        size = int(body[position:end].partition(b";")[0], 16)
        if not size:
            return bytes(found)
        found += body[end + 2 : end + 2 + size]
        position = end + 2 + size + 2


def _xml(name: str, content: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{_NAMESPACE}">{content}</{name}>'.encode()


def _error(code: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()


def main(arguments: list[str]) -> None:
    """Serve on a free loopback port until ended; announce the endpoint on `--ready-fd`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--certificate", help="a PEM file with key and certificate: serve over TLS")
    options = parser.parse_args(arguments)
    context = None
    if options.certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    endpoint = f"{'https' if context else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    os.write(options.ready_fd, json.dumps({"endpoint": endpoint}).encode() + b"\n")
    os.close(options.ready_fd)
    sink = Sink()
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=_converse, args=(accepted, context, sink), daemon=True).start()


def _converse(accepted: socket.socket, context: ssl.SSLContext | None, sink: Sink) -> None:
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A client that goes, or that does not trust us, ends its own connection only.
    with suppress(OSError), accepted:
        sock = context.wrap_socket(accepted, server_side=True) if context else accepted
        with sock:
            _Connection(sock, sink).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
