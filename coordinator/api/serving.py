"""How an app is served: one listening socket, uvicorn with its limits, and the word that it serves. It knows no app."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from strata_zmq.errors import InvalidArgumentError, UnavailableError

__all__ = ["Server", "ignore_signals", "listen"]

_CONNECTIONS_MAX = 4096
_HEAD_BYTES_MAX = 64 * 1024
"""Of a request's line and headers: the ids of /events are in them."""
_BACKLOG = 2048
_IDLE_S = 75
_GRACE_S = 5
_SAID_MAX = 1024
"""Bytes of one message that a WebSocket's client says: ours say nothing."""
_PING_S = 20.0
_UNREAD_MS = 15_000
"""A connection whose peer takes nothing for so long is ended by the kernel, with what is buffered for it."""


class Server(uvicorn.Server):
    """uvicorn with limits; `told` is called with the URL once it serves.

    `live` has it speak WebSocket, for apps that have a live feed.
    """

    def __init__(self, app: Any, url: str, told: Callable[[str], None], *, live: bool = True) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
                ws="websockets-sansio" if live else "none",
                ws_max_size=_SAID_MAX,
                ws_ping_interval=_PING_S,
                ws_ping_timeout=_PING_S,
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=_BACKLOG,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._url, self._told = url, told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        await super().startup(sockets)
        if self.started:
            gc.collect()
            gc.freeze()  # what is there now stays: no collection has to look at it again
            self._told(self._url)


def ignore_signals() -> None:
    """Let uvicorn end well at these; it raises them again for whoever handled them before."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; UnavailableError names a port that is taken."""
    if not 0 <= port <= 65_535:
        raise InvalidArgumentError(f"--port {port}: it takes 1 to 65535, or 0 for a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UnavailableError(f"--host {host} --port {port} cannot be listened at: {error}") from None
    # Connections inherit these. An answer is two writes; without the first its second half waits 40 ms for the peer's
    # word on the first. asyncio sees to it only for sockets that were made with a protocol number.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
    return listening
