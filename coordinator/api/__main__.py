"""`python -m strata_zmq.coordinator.api`: HTTP in the foreground, over a dispatcher that runs elsewhere."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Annotated, Literal

import typer

from strata_zmq.errors import InvalidArgumentError, StrataError, UnavailableError
from strata_zmq.startup import announce, log_to_stderr
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import is_local, parse_endpoint

from .app import create_app
from .door import LOCAL_HOSTS
from .serving import Server, ignore_signals, listen

__all__ = ["main", "run"]

_DISPATCHER_PORT = 5555
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
    with listen(host, port) as listening:
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        server = Server(app, url, partial(_tell, ready_fd), live=False)
        ignore_signals()
        asyncio.run(server.serve([listening]))
    if not server.started:
        raise UnavailableError(f"nothing could be served at {url}: the log says why")


def _tell(ready_fd: int, url: str) -> None:
    announce(ready_fd, url=url)


def main() -> None:
    """Run the command; a named error is one line and exit status 1."""
    try:
        typer.run(run)
    except StrataError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
