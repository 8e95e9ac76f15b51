"""An app of the framework that serves functions, with two routes that do nothing: what HTTP alone costs there.

Run as `python -m strata_zmq.bench.loads.empty_app --ready-fd N`; served as the real one is, by uvicorn on one socket.
"""

from __future__ import annotations

import argparse
import asyncio
import socket

import uvicorn
from fastapi import FastAPI, Request, Response

from strata_zmq.startup import announce

__all__ = ["create_app"]

_IDLE_S = 600
"""The connection outlives the rounds of the others."""
_ANSWER = b'{"task_id":"00000000-0000-0000-0000-000000000000","status":"COMPLETED","result":"gAROLg==\\n"}'


def create_app() -> FastAPI:
    """Return the app; its routes are named as the real ones, and read what they are sent."""
    app = FastAPI()

    async def execute(request: Request) -> Response:
        await request.body()
        return Response(_ANSWER, 201, media_type="application/json")

    async def result(task_id: str) -> Response:
        return Response(_ANSWER, media_type="application/json")

    app.add_api_route("/execute_function", execute, methods=["POST"])
    app.add_api_route("/result/{task_id}", result, methods=["GET"])
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-fd", type=int, default=-1)
    ready_fd = parser.parse_args().ready_fd
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # Connections inherit it, as those of the real app do.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        announce(ready_fd, url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        config = uvicorn.Config(
            create_app(),
            loop="asyncio",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            timeout_keep_alive=_IDLE_S,
        )
        asyncio.run(uvicorn.Server(config).serve([listening]))


if __name__ == "__main__":
    main()
