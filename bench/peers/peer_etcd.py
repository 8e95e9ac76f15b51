"""etcd's put: one member with its write-ahead log flushed at every commit, as it comes.

The load is prepared gRPC frames (`grpc_load`), one key for each connection: a client in Python would be measured
instead of etcd. That every reply was a put is told by the store's revision, which each put raises by one.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import Request, urlopen

from grpc_load import GrpcLoad

__all__ = ["Peer"]

_PUT = "/etcdserverpb.KV/Put"
_KEY, _VALUE = 0x0A, 0x12
"""Fields 1 and 2 of PutRequest, both bytes."""
_QUOTA_BYTES = 8 << 30
_START_TIMEOUT_S = 20.0


class Peer:
    """An etcd with its data in `folder`, under `connections` x `window` puts of `value_bytes`."""

    def __init__(self, folder: str, connections: int, window: int, value_bytes: int) -> None:
        program = Path(sys.prefix) / "bin" / "etcd"
        client, peer = _free_ports(2)
        self._url = f"http://127.0.0.1:{client}"
        self._server = subprocess.Popen(
            [
                *(program, "--data-dir", str(Path(folder) / "etcd"), "--log-level", "error"),
                *("--listen-client-urls", self._url, "--advertise-client-urls", self._url),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-cluster", f"default=http://127.0.0.1:{peer}"),
                *("--quota-backend-bytes", str(_QUOTA_BYTES)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._await_server()
            value = b"." * value_bytes
            messages = [
                _field(_KEY, f"key-{place:05d}".encode()) + _field(_VALUE, value) for place in range(connections)
            ]
            self._load = GrpcLoad(client, _PUT, messages, window)
        except BaseException:
            self._stop()
            raise

    def puts(self, duration_s: float) -> dict[str, float]:
        """Return how many puts ended, within how many seconds, and the CPU time of etcd and of the load for them."""
        before, sent = self._revision(), self._load.calls
        found: dict[str, float] = self._load.run(self._server.pid, duration_s)
        stored, answered = self._revision() - before, self._load.calls - sent
        if stored != answered:
            raise RuntimeError(f"{answered} puts were answered and {stored} revisions stored")
        return found

    def close(self) -> None:
        """Stop the server."""
        self._load.close()
        self._stop()

    def _stop(self) -> None:
        self._server.terminate()
        self._server.wait()

    def _await_server(self) -> None:
        deadline = monotonic() + _START_TIMEOUT_S
        while True:
            try:
                self._revision()
            except (URLError, ConnectionError):
                if monotonic() > deadline or self._server.poll() is not None:
                    raise
                sleep(0.05)
            else:
                return

    def _revision(self) -> int:
        """Return the store's revision, from the header of any answer of its JSON gateway."""
        asked = Request(f"{self._url}/v3/kv/range", b'{"key": "eA=="}')  # noqa: S310 - this machine's own port
        with urlopen(asked, timeout=_START_TIMEOUT_S) as answer:  # noqa: S310 - the same
            return int(json.load(answer)["header"]["revision"])


def _field(tag: int, value: bytes) -> bytes:
    return bytes((tag, len(value))) + value


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
