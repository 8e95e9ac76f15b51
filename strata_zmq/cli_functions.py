"""`strata functions`: a function service, whole or in its parts; all it knows is options. It starts nothing itself."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from strata_zmq.startup import become

__all__ = ["app"]

app = typer.Typer(
    help="Execute functions elsewhere: a dispatcher, its workers, HTTP, or all of them at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# These hand everything on, --help included, to a process that knows its own options.
_FORWARD = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
# What they do not know themselves goes on to the process.
_SOME = {"ignore_unknown_options": True}
_Arguments = Annotated[list[str] | None, typer.Argument(show_default=False)]
_Children = Annotated[int, typer.Argument(metavar="N", help="How many child processes run functions.", min=1)]
_Dispatcher = Annotated[str, typer.Argument(metavar="URL", help="The dispatcher, for example tcp://localhost:5555.")]
_More = Annotated[
    list[str] | None,
    typer.Argument(metavar="[OPTIONS]...", help="Of python -m strata_zmq.workers.function_worker.", show_default=False),
]
_Mode = Literal["local", "pull", "push"]


@app.command()
def up(
    mode: Annotated[
        _Mode, typer.Option("-m", "--mode", help="push and pull have a worker process, local has none.")
    ] = "push",
    workers: Annotated[int, typer.Option("-w", "--workers", help="Child processes that run functions.")] = 4,
    port: Annotated[int, typer.Option("-p", "--port", help="The dispatcher's; 0 takes a free one.")] = 5555,
    api_port: Annotated[int, typer.Option(help="The HTTP port; 0 takes a free one.")] = 8000,
    store: Annotated[
        str,
        typer.Option(
            help="Where accepted tasks are written down: sqlite:PATH, redis://HOST:PORT/DB or none; by default "
            "sqlite:strata-functions.sqlite.",
            show_default=False,
        ),
    ] = "",
    task_deadline: Annotated[float, typer.Option(help="Seconds that an attempt may run; 0: no limit.")] = 0.0,
    lease: Annotated[float, typer.Option(help="Seconds of silence after which the worker counts as lost.")] = 5.0,
    memory_bytes: Annotated[int, typer.Option(help="What one child may use; 0: no limit.")] = 0,
    gpus: Annotated[str, typer.Option(help="Devices for tasks with the label gpu: 0,1.", show_default=False)] = "",
    grace: Annotated[float, typer.Option(help="Seconds that running functions get at the end.")] = 10.0,
    ready_fd: Annotated[
        int, typer.Option(help="Write one JSON line with the addresses to this descriptor when serving.")
    ] = -1,
) -> int:
    """Run a dispatcher, a worker and HTTP on this machine until interrupted; what dies is started again."""
    from strata_zmq.workers.function_fleet import Fleet, FleetOptions

    options = FleetOptions(
        mode=mode,
        workers=workers,
        port=port,
        api_port=api_port,
        store=store,
        task_deadline_s=task_deadline,
        lease_s=lease,
        memory_bytes=memory_bytes,
        gpus=gpus,
        grace_s=grace,
        ready_fd=ready_fd,
    )
    return Fleet(options, say=lambda text: typer.echo(f"[functions] {text}", err=True)).run()


@app.command(context_settings=_FORWARD, add_help_option=False)
def dispatcher(args: _Arguments = None) -> None:
    """Serve as a dispatcher, for clients and workers."""
    become("strata_zmq.coordinator.dispatcher", *(args or ()))


@app.command(context_settings=_FORWARD, add_help_option=False)
def api(args: _Arguments = None) -> None:
    """Serve HTTP over a dispatcher."""
    become("strata_zmq.coordinator.api", *(args or ()))


@app.command(context_settings=_SOME)
def pull_worker(children: _Children, dispatcher_url: _Dispatcher, more: _More = None) -> None:
    """Run functions for a dispatcher, asking for each batch of them."""
    _worker("pull", children, dispatcher_url, more)


@app.command(context_settings=_SOME)
def push_worker(children: _Children, dispatcher_url: _Dispatcher, more: _More = None) -> None:
    """Run functions for a dispatcher that sends them as its credit allows."""
    _worker("push", children, dispatcher_url, more)


def _worker(mode: str, children: int, dispatcher_url: str, more: list[str] | None) -> None:
    become(
        "strata_zmq.workers.function_worker",
        *("--dispatcher", dispatcher_url, "--children", str(children), "--mode", mode, *(more or ())),
    )


@app.command()
def bench(
    kind: Annotated[
        Literal["latency", "throughput", "scaling"], typer.Option("--type", help="What is measured.")
    ] = "throughput",
    mode: Annotated[_Mode, typer.Option(help="How tasks reach their workers.")] = "push",
    tasks: Annotated[int, typer.Option(help="How many.", min=1)] = 2000,
    workers: Annotated[int, typer.Option(help="Child processes that run functions.", min=1)] = 2,
) -> int:
    """Measure this machine: tasks a second, the time of one, or how more workers help."""
    from strata_zmq.bench.functions_command import run

    return run(kind, mode, tasks=tasks, workers=workers)
