"""How a job's state is served: the built page, the port, and that who listens is let go. It knows no feed.

The port is the one that was named, or the first free one from the usual one on.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from strata_zmq.coordinator.api.serving import Server, listen
from strata_zmq.errors import UnavailableError
from strata_zmq.startup import DEFAULT_API_PORT

from .hub import Hub

__all__ = ["ANY_PORT", "LAST_PORT", "PAGE", "StateServer", "listen_near", "url_of"]

LAST_PORT = 3020
ANY_PORT = -1
"""The usual port, or the next free one up to LAST_PORT."""
PAGE = Path(__file__).parents[2] / "dashboard" / "dist"
"""The built dashboard."""


class StateServer(Server):
    """One that lets go of those who listen before it waits for them to go."""

    def __init__(self, hub: Hub, *args: Any) -> None:
        super().__init__(*args)
        self._hub = hub
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at a signal."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._hub.clients.close)


def listen_near(host: str, port: int) -> tuple[socket.socket, str]:
    """Return a listening socket, and what there is to say about its port."""
    if port != ANY_PORT:
        try:
            return listen(host, port), ""
        except UnavailableError as error:
            raise UnavailableError(f"{error}; name another port, or 0 for a free one") from None
    for one in range(DEFAULT_API_PORT, LAST_PORT + 1):
        with suppress(UnavailableError):
            return listen(host, one), f"{DEFAULT_API_PORT} is taken" if one > DEFAULT_API_PORT else ""
    raise UnavailableError(
        f"none of the ports {DEFAULT_API_PORT} to {LAST_PORT} can be listened at on {host}: name one with --port, "
        "or 0 for a free one"
    )


def url_of(host: str, listening: socket.socket) -> str:
    """Return the address of a listening socket."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
