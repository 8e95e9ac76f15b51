"""`python -m strata_zmq.coordinator.api.state`: a job's state over HTTP, in the foreground, fed by cores elsewhere."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.door import LOCAL_HOSTS
from strata_zmq.coordinator.api.serving import ignore_signals
from strata_zmq.errors import InvalidArgumentError, StrataError
from strata_zmq.startup import DEFAULT_API_PORT, announce, log_to_stderr, sources_of
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import is_local, parse_endpoint

from .absent import NoJobs, NoVault
from .core_feed import CoordinatorFeed, DispatcherFeed
from .feed import Feed
from .front import ANY_PORT, LAST_PORT, PAGE, StateServer, listen_near, url_of
from .hub import Hub
from .jobs import Jobs
from .lifeline import end_with
from .logbook import LogBook
from .metrics import StateCollector
from .order import stop_training
from .ports import JobsPort
from .rows import Setting
from .vault import Vault

__all__ = ["main", "run"]

_COORDINATOR = "localhost:50051"
_TOKEN = "STRATA_API_TOKEN"  # noqa: S105 - the variable's name
_SUPERVISOR_TOKEN = "STRATA_SUPERVISOR_TOKEN"  # noqa: S105 - the variable's name
_JOBS_DIR = "strata-jobs"
_EXIT_USAGE = 2
_log = logging.getLogger("strata.api")


def run(
    context: typer.Context,
    coordinator: Annotated[
        str,
        typer.Option(
            "--coordinator", "--coordinator-url", envvar="COORDINATOR_URL", help="host:port or ipc:///path; '': none."
        ),
    ] = _COORDINATOR,
    dispatcher: Annotated[
        str, typer.Option(help="A dispatcher of functions, for example localhost:5555.", show_default=False)
    ] = "",
    port: Annotated[
        int,
        typer.Option(
            help=f"The HTTP port; 0 takes a free one. By default {DEFAULT_API_PORT}, or the next free one up to "
            f"{LAST_PORT}.",
            show_default=False,
        ),
    ] = ANY_PORT,
    host: Annotated[
        str, typer.Option(help=f"The address to listen at; beyond this machine only with {_TOKEN}.")
    ] = "127.0.0.1",
    logs: Annotated[
        Path | None, typer.Option(help="A folder of NAME.log files to read as they grow.", show_default=False)
    ] = None,
    store: Annotated[
        str,
        typer.Option(help="Where checkpoints lie: a folder, s3://bucket/prefix, or NEAR,FAR.", show_default=False),
    ] = "",
    jobs: Annotated[
        Path | None, typer.Option(help="A list of what may be started here, TOML (docs/jobs.md).", show_default=False)
    ] = None,
    jobs_dir: Annotated[
        Path | None,
        typer.Option(help=f"Where jobs keep their files; by default {_JOBS_DIR} beside the list.", show_default=False),
    ] = None,
    curve_keys: Annotated[
        str, typer.Option(help="A key folder: cores are spoken to with CURVE.", envvar="STRATA_CURVE_KEYS")
    ] = "",
    parent: Annotated[int, typer.Option(help="End when this process does; 0: run alone.")] = 0,
    ready_fd: Annotated[
        int, typer.Option(help="Write one JSON line with the address to this descriptor when serving.")
    ] = -1,
) -> None:
    """Serve a job's state until interrupted: the dashboard, REST, a live feed, and metrics for Prometheus."""
    if parent:
        end_with(parent)
    log_to_stderr()
    if not _log.isEnabledFor(logging.DEBUG):
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its news are that it begins and ends
    token = os.environ.get(_TOKEN, "")
    if not token and not is_local(f"tcp://{host}:0"):
        raise InvalidArgumentError(
            f"--host {host} would show this job to anybody: listen at 127.0.0.1, or set {_TOKEN} to a secret that "
            "requests have to bear (Authorization: Bearer ...)"
        )
    keys = CurveKeys.load(curve_keys) if curve_keys else None
    feeds: list[Feed] = []
    if coordinator:
        feeds.append(CoordinatorFeed(parse_endpoint(coordinator, field="--coordinator"), keys))
    if dispatcher:
        feeds.append(DispatcherFeed(parse_endpoint(dispatcher, field="--dispatcher", default_port=5555), keys))
    if not feeds:
        raise InvalidArgumentError("--coordinator and --dispatcher are both empty: name one, there is nothing to show")
    hub = Hub(
        feeds,
        logs=LogBook(logs, own=True),
        jobs=_jobs(jobs, jobs_dir, feeds[0].address if coordinator else "", curve_keys),
        vault=Vault(store) if store else NoVault(),
        settings=_settings(context),
    )
    app = create_app(
        None,
        endpoint=feeds[-1].address if dispatcher else "",
        keys=keys,
        hosts=(*LOCAL_HOSTS, host),
        token=token,
        hub=hub,
        page=PAGE,
        metrics=StateCollector(hub).render,
    )
    listening, note = listen_near(host, port)
    with listening:
        url = url_of(host, listening)

        def told(at: str) -> None:
            level = logging.INFO if ready_fd < 0 else logging.DEBUG  # whoever listens there says it
            _log.log(level, "dashboard at %s%s", at, f" ({note})" if note else "")
            announce(ready_fd, url=at, note=note)

        server = StateServer(hub, app, url, told)
        ignore_signals()
        asyncio.run(server.serve([listening]))
    if not server.started:
        _log.error("nothing could be served at %s", url)
        raise typer.Exit(1)


def _jobs(listed: Path | None, folder: Path | None, coordinator: str, curve_keys: str) -> JobsPort:
    """Return what may be started and stopped: what a list has, and on the token the coordinator's own run."""
    token = os.environ.get(_SUPERVISOR_TOKEN, "")
    if listed is None and not (token and coordinator):
        return NoJobs()
    if not coordinator:
        raise InvalidArgumentError("--jobs needs --coordinator: jobs' workers join the coordinator that is shown here")
    keys = CurveKeys.load(curve_keys) if curve_keys else None
    return Jobs(
        listed,
        folder if folder is not None or listed is None else listed.absolute().parent / _JOBS_DIR,
        coordinator,
        environment={"STRATA_CURVE_KEYS": str(Path(curve_keys).absolute())} if curve_keys else {},
        stop_training=partial(stop_training, coordinator, token, keys) if token else None,
    )


def _settings(context: typer.Context) -> list[Setting]:
    """Return the options' values and where each comes from."""
    sources = sources_of(context)
    rows = [
        Setting(
            process="api",
            name=name,
            value="" if value is None or (name == "port" and value == ANY_PORT) else str(value),
            source=sources.get(name, "default"),
        )
        for name, value in sorted(context.params.items())
        if name not in ("parent", "ready_fd")
    ]
    token = "set" if os.environ.get(_TOKEN) else ""
    return [*rows, Setting(process="api", name="token", value=token, source="environment" if token else "default")]


def main() -> None:
    """Run the command. A named error is one line and exit status 2: as it was asked for, it cannot be served."""
    try:
        typer.run(run)
    except StrataError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(_EXIT_USAGE) from None


if __name__ == "__main__":
    main()
