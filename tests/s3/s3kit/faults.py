"""A server of S3's requests in this process that fails at the N-th of them, before or after it has carried it out."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from .http import Answer, Request, read_request
from .objects import Objects
from .place import S3Place

__all__ = ["KINDS", "Fault", "FaultServer", "Kind"]

Kind = Literal[
    "500",
    "503",
    "timeout",
    "reset",
    "slow",
    "bad_checksum",
    "applied_then_reset",
    "applied_then_500",
    "applied_then_timeout",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SLOW_BYTES, _SLOW_PAUSE_S = 20, 0.1


@dataclass(slots=True)
class Fault:
    """What happens to the `at`-th request (from 1) of those that match, and to `times` - 1 that follow.

    500 and 503: refused. timeout: no answer. reset: the connection breaks. slow: two seconds for the first 20 bytes.
    bad_checksum: one bit of the body flips on its way to the server or, of an object that is read, on its way back.
    applied_then_...: the request is carried out, and its answer is lost.
    """

    kind: Kind
    at: int = 1
    method: str = ""
    key: str = ""
    times: int = 1
    seen: int = field(default=0, init=False)

    def meets(self, request: Request) -> bool:
        """Count the request if it matches, and say whether it is the one."""
        if self.method not in {"", request.method} or self.key not in request.path:
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


class FaultServer:
    """Serves on a free loopback port while it is entered. `truth` has what is stored; `log` every request in order."""

    def __init__(self, *faults: Fault, page: int = 1000, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.truth = Objects(page)
        self.faults: Sequence[Fault] = faults
        self.log: list[str] = []
        self.headers: dict[str, dict[str, str]] = {}
        """Of the last request for each name."""
        self.met: list[str] = []
        """The requests that met a fault."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FaultServer:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the fault server does not end"

    def again(self, *faults: Fault, **objects: bytes) -> None:
        """Begin anew with these faults and objects; connections go on."""
        with self._lock:
            self.truth = Objects(self.truth.page)
            self.faults, self.log, self.met = faults, [], []
        for key, data in objects.items():
            self.truth.store(key, data)

    @property
    def place(self) -> S3Place:
        """Where it serves."""
        return S3Place(f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}")

    def _start(self, work, *arguments) -> None:  # type: ignore[no-untyped-def]
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.add(connection)
            self._start(self._serve, connection)

    def _serve(self, raw: socket.socket) -> None:
        connection = raw
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(raw, server_side=True)
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
                while not self._ended.is_set() and (request := read_request(stream)) is not None:
                    if not self._answer(connection, request):
                        return
        except OSError:
            raw.close()  # it did not trust this server
        finally:
            with self._lock:
                self._connections.discard(raw)

    def _answer(self, connection: socket.socket, request: Request) -> bool:
        """Answer one request; False ends the connection."""
        line = f"{request.method} {request.path} {','.join(sorted(request.query))}".rstrip()
        with self._lock:
            self.log.append(line)
            self.headers[request.path.rpartition("/")[2]] = request.headers
            fault = next(iter([fault for fault in self.faults if fault.meets(request)]), None)
            if fault is not None:
                self.met.append(line)
        if fault is None:
            connection.sendall(self.truth.apply(request).encoded(request.method))
            return True
        return self._fail(connection, request, fault.kind)

    def _fail(self, connection: socket.socket, request: Request, kind: Kind) -> bool:
        if kind == "bad_checksum":
            connection.sendall(self._damaged(request).encoded(request.method))
            return True
        if kind == "slow" or kind.startswith("applied_then"):
            answer = self.truth.apply(request)
        else:
            answer = Answer(503 if kind == "503" else 500, _refusal(kind))
        if kind in {"500", "503", "applied_then_500"}:
            if kind == "applied_then_500":
                answer = Answer(500, _refusal(kind))
            connection.sendall(answer.encoded(request.method))
            return True
        if kind == "slow":
            data = answer.encoded(request.method)
            for place in range(_SLOW_BYTES):
                connection.sendall(data[place : place + 1])
                if self._ended.wait(_SLOW_PAUSE_S):
                    return False
            connection.sendall(data[_SLOW_BYTES:])
        elif kind.endswith("timeout"):
            # Until the other side gives up and closes.
            connection.recv(1)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _damaged(self, request: Request) -> Answer:
        if request.body:
            body = bytearray(request.body)
            body[len(body) // 2] ^= 1
            request = Request(request.method, request.path, request.query, request.headers, bytes(body))
            return self.truth.apply(request)
        answer = self.truth.apply(request)
        if answer.body and answer.status in {200, 206} and not answer.headers.get("Content-Type"):
            body = bytearray(answer.body)
            body[len(body) // 2] ^= 1
            answer.body = bytes(body)
        return answer


def _refusal(kind: str) -> bytes:
    code = "SlowDown" if kind == "503" else "InternalError"
    return f"<Error><Code>{code}</Code><Message>as the test wishes</Message></Error>".encode()
