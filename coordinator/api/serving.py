"""How an app is served: one listening socket, uvicorn with its limits, and the word that it serves. It knows no app."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from strata_zmq.errors import InvalidArgumentError, UnavailableError

__all__ = ["Server", "ignore_signals", "listen"]

_CONNECTIONS_MAX = 4096
_OTHER_FILES = 192
"""Descriptors beside those of connections."""
_ASKED_S = 20.0
"""From the beginning of a connection, or of a further request, until the end of its headers."""
_HEAD_BYTES_MAX = 64 * 1024
"""Of a request's line and headers: the ids of /events are in them."""
_BACKLOG = 2048
_AT_ONCE = 16
"""Connections that are taken before the limit is looked at: asyncio takes as many as its backlog."""
_IDLE_S = 75
_GRACE_S = 5
_SAID_MAX = 1024
"""Bytes of one message that a WebSocket's client says: ours say nothing."""
_PING_S = 20.0
_UNREAD_MS = 15_000
"""A connection whose peer takes nothing for so long is ended by the kernel, with what is buffered for it."""


class _Connection(H11Protocol):
    """uvicorn's, which never ends one that asks for nothing, and lets in as many as there are descriptors."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; one beyond the limit is ended at once, as one of the limit is told 503."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            transport.abort()
        else:
            self._late = self.loop.call_later(_ASKED_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        asking = self.conn.their_state is h11.IDLE and self.transport.get_protocol() is self
        if not asking:
            self._in_time()
        elif self._late is None:
            self._late = self.loop.call_later(_ASKED_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """uvicorn with limits; `told` is called with the URL once it serves.

    `live` has it speak WebSocket, for apps that have a live feed.
    """

    def __init__(self, app: Any, url: str, told: Callable[[str], None], *, live: bool = True) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_Connection,
                h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
                ws="websockets-sansio" if live else "none",
                ws_max_size=_SAID_MAX,
                ws_ping_interval=_PING_S,
                ws_ping_timeout=_PING_S,
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=_AT_ONCE,
                limit_concurrency=_room(),
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._url, self._told = url, told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        await super().startup(sockets)
        if self.started:
            for one in sockets or ():
                one.listen(_BACKLOG)
            gc.collect()
            gc.freeze()  # what is there now stays: no collection has to look at it again
            self._told(self._url)


def _room() -> int:
    """Return for how many connections there are descriptors; the soft limit is raised for them as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS_MAX + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _CONNECTIONS_MAX
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, most - _OTHER_FILES)


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
