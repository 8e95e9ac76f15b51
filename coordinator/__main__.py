"""`python -m strata_zmq.coordinator`: one coordinator in the foreground."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from strata_zmq.errors import StrataError
from strata_zmq.startup import NO_API, announce, check_api_port, log_to_stderr, sources_of
from strata_zmq.transport.endpoints import seen_over

from .api_child import ApiChild, api_command
from .config import CoordinatorConfig
from .recover import recover as repair
from .server import Server, serve

__all__ = ["main", "run"]

_DEFAULTS = CoordinatorConfig(curve_keys="", supervisor_token="")
_HERE = "tcp://127.0.0.1:0"


def run(
    context: typer.Context,
    control: Annotated[
        str, typer.Option(help="Where workers register: host:port or ipc:///path.", envvar="STRATA_CONTROL")
    ] = _DEFAULTS.control,
    broadcast: Annotated[
        str, typer.Option(help="Where epochs, rebalances and checkpoints are announced.", envvar="STRATA_BROADCAST")
    ] = _DEFAULTS.broadcast,
    journal: Annotated[
        str, typer.Option(help="The SQLite file that survives a restart.", envvar="STRATA_JOURNAL")
    ] = _DEFAULTS.journal,
    job: Annotated[str, typer.Option(help="The job's name.", envvar="STRATA_JOB")] = _DEFAULTS.job,
    initial_workers: Annotated[int, typer.Option(help="The first generation waits for this many.")] = 1,
    min_workers: Annotated[int, typer.Option(help="Later generations need at least this many.")] = 1,
    max_workers: Annotated[int, typer.Option(help="More are refused.")] = _DEFAULTS.max_workers,
    fixed: Annotated[int, typer.Option(help="Exactly this many, from the first generation on; 0: elastic.")] = 0,
    join_window_s: Annotated[
        float, typer.Option(help="Newcomers within so many seconds make one new generation.")
    ] = _DEFAULTS.join_window_s,
    hang_s: Annotated[
        float, typer.Option(help="Who is waited for and does not move for so long, hangs; 0: never.")
    ] = _DEFAULTS.hang_s,
    evict_hung: Annotated[bool, typer.Option("--evict-hung", help="Go on without a worker that hangs.")] = False,
    lease_s: Annotated[
        float, typer.Option(help="A silent worker is lost after this many seconds.")
    ] = _DEFAULTS.lease_s,
    heartbeat_s: Annotated[
        float | None, typer.Option(help="Seconds between heartbeats. By default 5, or a sixth of a short lease.")
    ] = None,
    keep_count: Annotated[int, typer.Option(help="Checkpoints to keep.")] = _DEFAULTS.keep_count,
    keep_every: Annotated[int, typer.Option(help="Keep one of every so many steps, too; 0: none for that.")] = 0,
    keep_best: Annotated[
        str, typer.Option(help="Keep the N best, too: METRIC:min:N or METRIC:max:N.", show_default=False)
    ] = "",
    flight: Annotated[
        str,
        typer.Option(
            help="A folder for the flight recorder's files, and for the stacks of workers that hang.",
            show_default=False,
            envvar="STRATA_FLIGHT",
        ),
    ] = "",
    flight_minutes: Annotated[
        float, typer.Option(help="How much of the past the flight recorder keeps; 0: nothing.")
    ] = _DEFAULTS.flight_minutes,
    curve_keys: Annotated[
        str, typer.Option(help="A key folder: every socket speaks CURVE.", envvar="STRATA_CURVE_KEYS")
    ] = "",
    api_port: Annotated[
        str,
        typer.Option(
            help="The dashboard's port; 0 takes a free one, none: no dashboard. By default 3000, or the next free one.",
            show_default=False,
            envvar="STRATA_API_PORT",
        ),
    ] = "",
    ready_fd: Annotated[
        int, typer.Option(help="Write one JSON line with the endpoints to this descriptor when serving.")
    ] = -1,
    recover: Annotated[
        bool, typer.Option("--recover", help="Make a new journal of what is whole in a damaged one, and leave.")
    ] = False,
) -> None:
    """Start a coordinator and serve until interrupted."""
    if recover:
        _recover(Path(journal))
        return
    log_to_stderr()
    port = check_api_port(api_port)
    config = CoordinatorConfig(
        control=control,
        broadcast=broadcast,
        journal=journal,
        job=job,
        initial_workers=initial_workers,
        min_workers=min_workers,
        max_workers=max_workers,
        fixed=fixed,
        join_window_s=join_window_s,
        hang_s=hang_s,
        evict_hung=evict_hung,
        lease_s=lease_s,
        heartbeat_s=min(_DEFAULTS.heartbeat_s, lease_s / 6) if heartbeat_s is None else heartbeat_s,
        keep_count=keep_count,
        keep_every=keep_every,
        keep_best=keep_best,
        flight=flight,
        flight_minutes=flight_minutes,
        curve_keys=curve_keys,
        sources=_sources(context, lease_s),
    )
    with ExitStack() as stack:

        def on_ready(server: Server) -> None:
            announce(ready_fd, control=server.control_endpoint, broadcast=server.broadcast_endpoint)
            if port != NO_API:
                url = seen_over(server.control_endpoint, _HERE)
                stack.enter_context(ApiChild(api_command(url, port, config.curve_keys)))

        status = serve(config, on_ready=on_ready)
    raise typer.Exit(status)


def _sources(context: typer.Context, lease_s: float) -> dict[str, str]:
    """Return where the settings come from; those that are at their defaults are missing."""
    sources: dict[str, str] = dict(sources_of(context))
    if "heartbeat_s" not in sources and lease_s / 6 < _DEFAULTS.heartbeat_s:
        sources["heartbeat_s"] = "derived"
    if os.environ.get("STRATA_SUPERVISOR_TOKEN"):
        sources["supervisor_token"] = "environment"  # noqa: S105 - it says where, not what
    return sources


def _recover(journal: Path) -> None:
    done = repair(journal)
    kept, now = done.kept, done.history
    if done.damaged is None:
        typer.echo(f"journal {journal} is whole up to batch {done.position}: nothing to recover")
        return
    typer.echo(f"damage  {done.reason}")
    typer.echo(
        f"kept    everything up to batch {done.position}: term {kept.term}, generation {kept.generation}, "
        f"epoch {kept.epoch}, commit point {kept.commit_index}"
    )
    typer.echo(f"lost    {done.lost or 'nothing'}")
    typer.echo(f"The damaged file is kept as {done.damaged}.")
    if done.lost:
        typer.echo(
            f"Term and generation go on from {now.term} and {now.generation}, above any that was lost. Start workers "
            "that are running anew, so that they restore a checkpoint: their models have seen what was lost."
        )
    typer.echo("Start the coordinator as before.")


def main() -> None:
    """Run the command; a named error is one line and exit status 1."""
    try:
        typer.run(run)
    except StrataError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
