"""A barrier on Redis: an arrival is one script call that counts, and publishes the release when the count is full.

One connection per worker carries both the call and, as a RESP3 push, the release. redis-py loads the script; arrivals
are prepared bytes on plain sockets, so that the figure is Redis's and not its client's.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

import redis

__all__ = ["Peer"]

_ARRIVE = """
local arrived = redis.call('INCR', KEYS[1])
if arrived == tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', 'release', KEYS[1] .. ';')
end
return arrived
"""
_START_TIMEOUT_S = 10.0
_TIMEOUT_S = 60.0


class Peer:
    """A Redis server of its own without persistence, and `workers` connections to it."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._folder = tempfile.TemporaryDirectory(prefix="strata-redis-")
        path = str(Path(self._folder.name) / "redis.sock")
        port = _free_port()
        self._server = subprocess.Popen(
            [
                *(Path(sys.prefix) / "bin" / "redis-server", "--port", str(port), "--bind", "127.0.0.1"),
                *("--unixsocket", path, "--save", "", "--appendonly", "no", "--maxclients", str(workers + 64)),
                *("--dir", self._folder.name),
            ],
            stdout=subprocess.DEVNULL,
        )
        self._client = redis.Redis(unix_socket_path=path)
        self._await_server()
        self._script = str(self._client.script_load(_ARRIVE))
        self._sockets = [self._subscribed(port) for _ in range(workers)]
        self._round = 0

    def barriers(self, count: int) -> dict[str, list[float]]:
        """Last arrival to last release of `count` barriers, in seconds."""
        return {"latencies": [self._barrier() for _ in range(count)]}

    def _barrier(self) -> float:
        self._round += 1
        key = f"barrier-{self._round}"
        arrival, mark = _command("EVALSHA", self._script, "1", key, str(self._workers)), f"{key};".encode()
        for each in self._sockets[:-1]:
            each.sendall(arrival)
        while int(self._client.get(key) or 0) < self._workers - 1:
            pass
        start = perf_counter()
        self._sockets[-1].sendall(arrival)
        for each in self._sockets:
            _read_until(each, mark)
        return perf_counter() - start

    def close(self) -> None:
        """Stop the server."""
        for each in self._sockets:
            each.close()
        self._server.terminate()
        self._server.wait()
        self._folder.cleanup()

    def _await_server(self) -> None:
        deadline = perf_counter() + _START_TIMEOUT_S
        while True:
            try:
                self._client.ping()
            except redis.ConnectionError:
                if perf_counter() > deadline:
                    raise
                sleep(0.02)
            else:
                return

    @staticmethod
    def _subscribed(port: int) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sendall(_command("HELLO", "3") + _command("SUBSCRIBE", "release"))
        _read_until(made, b"subscribe\r\n$7\r\nrelease\r\n:1\r\n")
        return made


def _command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words]
    return b"".join(parts)


def _read_until(each: socket.socket, mark: bytes) -> None:
    seen = b""
    while mark not in seen:
        read = each.recv(4096)
        if not read:
            raise ConnectionError("the Redis server closed a connection")
        seen += read


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
