"""gRPC's asyncio server in Python: a unary call that answers with a prepared message, and decodes and decides nothing.

Messages are plain bytes, so that no schema is paid for. The server is a process of its own; the load is prepared
frames (`grpc_load`), so that the figure is the server's and not that of a client in Python.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
from grpc_load import GrpcLoad

__all__ = ["Peer"]

_METHOD = "/strata.Bench/Answer"


class Peer:
    """A server whose answers have `reply_bytes`, under `connections` x `window` calls with `request_bytes` each."""

    def __init__(self, connections: int, window: int, request_bytes: int, reply_bytes: int) -> None:
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__), str(reply_bytes)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        assert self._server.stdout is not None  # noqa: S101 - Popen was given a pipe
        port = int(self._server.stdout.readline())
        self._load = GrpcLoad(port, _METHOD, [b"." * request_bytes] * connections, window)

    def requests(self, duration_s: float) -> dict[str, float]:
        """Return how many calls ended, within how many seconds, and the CPU time of server and load for them."""
        found: dict[str, float] = self._load.run(self._server.pid, duration_s)
        return found

    def close(self) -> None:
        """Stop the server."""
        self._load.close()
        self._server.terminate()
        self._server.wait()


async def _serve(reply_bytes: int) -> None:
    reply = b"." * reply_bytes

    async def answer(_request: bytes, _context: object) -> bytes:
        return reply

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    service, method = _METHOD[1:].split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    # The pipe closes with the peer, however that one ends.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
