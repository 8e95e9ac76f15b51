"""The load on gRPC peers speaks HTTP/2 as a server understands it, and counts calls that carried an answer."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
PATH, MESSAGE = "/made.Service/Method", b"a message"


@pytest.fixture
def grpc_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench" / "peers"))
    yield import_module("grpc_load")
    sys.modules.pop("grpc_load")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class Server:
    """One connection's worth of an HTTP/2 server that notes what it is sent; `refuse` ends calls without a message."""

    def __init__(self, *, refuse: bool = False, last: bytes = b"") -> None:
        self.refuse, self.last = refuse, last
        self.headers: list[bytes] = []
        self.messages: list[bytes] = []
        self.streams: list[int] = []
        self.acknowledged: list[int] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def end(self) -> None:
        self._thread.join(10)
        self._listening.close()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection, connection.makefile("rb") as stream:
            assert stream.read(len(PREFACE)) == PREFACE
            connection.sendall(frame(SETTINGS, 0, 0, b"") + frame(PING, 0, 0, b"12345678"))
            while len(head := stream.read(9)) == 9:
                kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big")
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if kind == HEADERS:
                    self.headers.append(payload)
                elif kind == DATA:
                    self.messages.append(payload)
                    self.streams.append(number)
                    if flags & 1:
                        connection.sendall(self._answer(number, len(payload)))
                elif kind in {SETTINGS, PING} and flags & 1:
                    self.acknowledged.append(kind)

    def _answer(self, number: int, size: int) -> bytes:
        if self.last:
            return self.last
        if self.refuse:
            return frame(HEADERS, 0x5, number, b"trailers")
        return (
            frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))
            + frame(HEADERS, 0x4, number, b"headers")
            + frame(DATA, 0, number, b"\x00\x00\x00\x00\x02ok")
            + frame(HEADERS, 0x5, number, b"trailers")
            + frame(RST_STREAM, 0, number, bytes(4))
        )


def test_calls_are_whole_numbered_and_counted(grpc_load: ModuleType) -> None:
    server = Server()
    load = grpc_load.GrpcLoad(server.port, PATH, [MESSAGE], 3)
    found = load.run(os.getpid(), 0.05)
    calls = load.calls
    load.close()
    server.end()
    assert 0 < found["replies"] < calls == len(server.messages)
    assert found["wall_s"] >= 0.05
    assert found["cpu_s"] > 0
    assert found["load_cpu_s"] > 0
    assert set(server.messages) == {b"\x00\x00\x00\x00\x09" + MESSAGE}
    assert server.streams == list(range(1, 2 * calls, 2))
    assert sorted(server.acknowledged) == [SETTINGS, PING]
    first, *others = server.headers
    assert PATH.encode() in first
    assert b"application/grpc" in first
    assert set(others) == {bytes((0x83, 0x86, 0xC1, 0xC0, 0xBF, 0xBE))}, "later calls refer to the first one's headers"


def test_a_call_that_ends_without_a_message_is_no_answer(grpc_load: ModuleType) -> None:
    server = Server(refuse=True)
    load = grpc_load.GrpcLoad(server.port, PATH, [MESSAGE], 1)
    with pytest.raises(ConnectionError, match="without a message"):
        load.run(os.getpid(), 0.05)
    load.close()
    server.end()


@pytest.mark.parametrize(
    ("last", "what"), [(frame(RST_STREAM, 0, 1, b"\0\0\0\x07"), "call"), (frame(GOAWAY, 0, 0, bytes(8)), "connection")]
)
def test_a_server_that_gives_up_is_heard(grpc_load: ModuleType, last: bytes, what: str) -> None:
    server = Server(last=last)
    load = grpc_load.GrpcLoad(server.port, PATH, [MESSAGE], 1)
    with pytest.raises(ConnectionError, match=f"ended a {what}"):
        load.run(os.getpid(), 0.05)
    load.close()
    server.end()
