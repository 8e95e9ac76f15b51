"""`python -m strata_zmq.coordinator.api.demo`: the whole API and its dashboard over a job that is simulated."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.serving import ignore_signals
from strata_zmq.coordinator.api.state.front import ANY_PORT, LAST_PORT, PAGE, StateServer, listen_near, url_of
from strata_zmq.coordinator.api.state.metrics import StateCollector
from strata_zmq.errors import StrataError
from strata_zmq.startup import DEFAULT_API_PORT, announce, log_to_stderr

from .incidents import Hold
from .show import WORKERS_MAX, make_demo

__all__ = ["main", "run"]

_HOST = "127.0.0.1"
_EXIT_USAGE = 2
_log = logging.getLogger("strata.api")


def run(
    port: Annotated[
        int,
        typer.Option(
            help=f"The HTTP port; 0 takes a free one. By default {DEFAULT_API_PORT}, or the next free one up to "
            f"{LAST_PORT}.",
            show_default=False,
        ),
    ] = ANY_PORT,
    workers: Annotated[int, typer.Option(help=f"How many workers are simulated, 1 to {WORKERS_MAX}.")] = 3,
    seed: Annotated[int, typer.Option(help="Another number makes another job.")] = 1,
    hold: Annotated[
        Hold | None,
        typer.Option(help="Stay in the midst of one trouble, or in none, to look at it in peace.", show_default=False),
    ] = None,
    ready_fd: Annotated[
        int, typer.Option(help="Write one JSON line with the address to this descriptor when serving.")
    ] = -1,
) -> None:
    """Serve the dashboard and its API over simulated data until interrupted, without any coordinator."""
    log_to_stderr()
    listening, note = listen_near(_HOST, port)
    with listening:
        url = url_of(_HOST, listening)
        demo = make_demo(workers=workers, seed=seed, hold=hold)
        app = create_app(demo.client, hub=demo.hub, page=PAGE, metrics=StateCollector(demo.hub).render)

        def told(at: str) -> None:
            _log.info("dashboard at %s%s; all of it is simulated", at, f" ({note})" if note else "")
            announce(ready_fd, url=at, note=note)

        server = StateServer(demo.hub, app, url, told)
        ignore_signals()
        asyncio.run(server.serve([listening]))
    if not server.started:
        _log.error("nothing could be served at %s", url)
        raise typer.Exit(1)


def main() -> None:
    """Run the command. A named error is one line and exit status 2: as it was asked for, it cannot be served."""
    try:
        typer.run(run)
    except StrataError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(_EXIT_USAGE) from None


if __name__ == "__main__":
    main()
