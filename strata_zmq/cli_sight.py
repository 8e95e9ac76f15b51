"""The commands that show a job: in a browser, on a terminal, line by line. It starts nothing itself."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from strata_zmq.startup import become

__all__ = ["add_commands"]

# These hand everything on, --help included, to a process that knows its own options.
_FORWARD = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
_Arguments = Annotated[list[str] | None, typer.Argument(show_default=False)]
_Coordinator = Annotated[
    str, typer.Option("--coordinator", "--coordinator-url", envvar="COORDINATOR_URL", help="host:port or ipc:///path.")
]
_COORDINATOR = "localhost:50051"
_Timeout = Annotated[float, typer.Option(help="Seconds to wait for an answer.")]
_EVENTS_MAX = 512


def add_commands(app: typer.Typer) -> None:
    """Add them to the `strata` command."""
    for forwarded in (api, demo, replay):
        app.command(context_settings=_FORWARD, add_help_option=False)(forwarded)
    app.command()(status)
    app.command()(events)


def api(args: _Arguments = None) -> None:
    """Serve a job's state: the dashboard, REST, a live feed, metrics."""
    simulated = os.environ.get("DEMO_MODE", "").lower() in ("1", "true", "yes", "on")
    become("strata_zmq.coordinator.api." + ("demo" if simulated else "state"), *(args or ()))


def demo(args: _Arguments = None) -> None:
    """Serve the dashboard and its API over a job that is simulated."""
    become("strata_zmq.coordinator.api.demo", *(args or ()))


def replay(args: _Arguments = None) -> None:
    """Step a flight recording through the coordinator's core again."""
    become("strata_zmq.coordinator.flight", *(args or ()))


def status(
    coordinator_url: _Coordinator = _COORDINATOR,
    as_json: Annotated[bool, typer.Option("--json", help="The whole snapshot as JSON.")] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="All rows: workers, datasets, barriers, checkpoints.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew until interrupted.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between, with --watch.", min=0.5, max=3600)] = 2.0,
    timeout: _Timeout = 5.0,
) -> None:
    """Show a job on one screen: whether it is healthy, how fast it is, what is durable, who is waited for."""
    from strata_zmq.errors import InvalidArgumentError
    from strata_zmq.workers.launcher.snapshot import print_status, watch_status

    if watch and (as_json or tables):
        raise InvalidArgumentError("--watch shows the screen: leave out --json and --tables, or --watch")
    if watch:
        watch_status(coordinator_url, interval_s=interval, timeout_s=timeout)
    else:
        print_status(coordinator_url, as_json=as_json, tables=tables, timeout_s=timeout)


def events(
    coordinator_url: _Coordinator = _COORDINATOR,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until interrupted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only events of this kind, as often as needed.", show_default=False)
    ] = None,
    last: Annotated[int, typer.Option(help="How many of the past ones.", min=0, max=_EVENTS_MAX)] = _EVENTS_MAX,
    timeout: _Timeout = 5.0,
) -> None:
    """Print what has happened in a job, a line each."""
    from strata_zmq.workers.launcher.events_follow import print_events

    print_events(
        coordinator_url, follow=follow, as_json=as_json, kinds=frozenset(kind or ()), last=last, timeout_s=timeout
    )
