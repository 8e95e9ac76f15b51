"""`python -m strata_zmq.coordinator.api`: HTTP in the foreground, over a dispatcher that runs elsewhere."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from typing import Annotated, Literal

import typer
import uvicorn

from strata_zmq.errors import InvalidArgumentError, StrataError, UnavailableError
from strata_zmq.startup import announce, log_to_stderr
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import is_local, parse_endpoint

from .app import create_app
from .door import LOCAL_HOSTS

__all__ = ["main", "run"]

_DISPATCHER_PORT = 5555
_CONNECTIONS_MAX = 4096
_HEAD_BYTES_MAX = 64 * 1024
"""Of a request's line and headers: the ids of /events are in them."""
_BACKLOG = 2048
_IDLE_S = 75
_GRACE_S = 5
_TOKEN = "STRATA_API_TOKEN"  # noqa: S105 - the variable's name


def run(
    dispatcher: Annotated[
        str, typer.Option(help="Where the dispatcher listens: host:port, tcp://host:port or ipc:///path.")
    ] = f"tcp://127.0.0.1:{_DISPATCHER_PORT}",
    port: Annotated[int, typer.Option(help="The HTTP port; 0 takes a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help=f"The address to listen at; beyond this machine only with {_TOKEN}.")
    ] = "127.0.0.1",
    durability: Annotated[
        Literal["none", "commit"],
        typer.Option(help="Of tasks that name none: commit outlives the dispatcher, and needs its store."),
    ] = "commit",
    curve_keys: Annotated[
        str, typer.Option(help="A key folder: the dispatcher is spoken to with CURVE.", envvar="STRATA_CURVE_KEYS")
    ] = "",
    ready_fd: Annotated[
        int, typer.Option(help="Write one JSON line with the address to this descriptor when serving.")
    ] = -1,
) -> None:
    """Serve functions over HTTP until interrupted."""
    log_to_stderr()
    token = os.environ.get(_TOKEN, "")
    endpoint = parse_endpoint(dispatcher, field="--dispatcher", default_port=_DISPATCHER_PORT)
    if not token and not is_local(f"tcp://{host}:{port}"):
        raise InvalidArgumentError(
            f"--host {host} would let anybody execute code here: listen at 127.0.0.1, or set {_TOKEN} to a secret that "
            "requests have to bear (Authorization: Bearer ...)"
        )
    keys = CurveKeys.load(curve_keys) if curve_keys else None
    app = create_app(None, endpoint=endpoint, keys=keys, hosts=(*LOCAL_HOSTS, host), token=token, durability=durability)
    with _listen(host, port) as listening:
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        server = _Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=_BACKLOG,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=_GRACE_S,
            ),
            url,
            ready_fd,
        )
        # uvicorn ends well at these, and then raises them again for whoever handled them before.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: None)
        asyncio.run(server.serve([listening]))
    if not server.started:
        raise UnavailableError(f"nothing could be served at {url}: the log says why")


class _Server(uvicorn.Server):
    """uvicorn, and the word that it serves."""

    def __init__(self, config: uvicorn.Config, url: str, ready_fd: int) -> None:
        super().__init__(config)
        self._url, self._ready_fd = url, ready_fd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            gc.collect()
            gc.freeze()  # what is there now stays: no collection has to look at it again
            announce(self._ready_fd, url=self._url)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise InvalidArgumentError(f"--port {port}: it takes 1 to 65535, or 0 for a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UnavailableError(f"--host {host} --port {port} cannot be listened at: {error}") from None
    # Connections inherit it. An answer is two writes; without this its second half waits 40 ms for the peer's word on
    # the first. asyncio sees to it only for sockets that were made with a protocol number.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def main() -> None:
    """Run the command; a named error is one line and exit status 1."""
    try:
        typer.run(run)
    except StrataError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
