"""The state app on a real socket, in a thread of this process."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from strata_zmq.coordinator.api.serving import Server, listen


@dataclass
class Served:
    """An app that is being served, and the loop that it runs on."""

    url: str
    host: str
    port: int
    loop: asyncio.AbstractEventLoop
    server: Server

    @property
    def connections(self) -> int:
        """How many connections the server holds, closing ones too."""
        return len(self.server.server_state.connections)

    def call(self, function: Any, *args: Any, timeout_s: float = 10.0) -> Any:
        """Return what `function` returns on the app's loop."""

        async def on_loop() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(on_loop(), self.loop).result(timeout_s)


@contextmanager
def serve_app(app: FastAPI, **options: Any) -> Iterator[Served]:
    """Serve the app at a free port while the block runs."""
    ready = threading.Event()
    made: dict[str, Any] = {}

    def told(url: str) -> None:
        made["url"] = url
        made["loop"] = asyncio.get_running_loop()
        ready.set()

    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server = Server(app, f"http://127.0.0.1:{port}", told, **options)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), name="served")
        thread.start()
        try:
            assert ready.wait(10), "the app was not served within 10 s"
            yield Served(made["url"], "127.0.0.1", port, made["loop"], server)
        finally:
            server.should_exit = True
            thread.join(20)
            gc.unfreeze()  # what a server keeps for good, its process does
            assert not thread.is_alive(), "the app did not end within 20 s"
