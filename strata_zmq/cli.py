"""The `strata` command: its subcommands and their options. It starts nothing itself and imports what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from strata_zmq.cli_checkpoints import app as checkpoints
from strata_zmq.cli_functions import app as functions
from strata_zmq.cli_sight import add_commands
from strata_zmq.startup import become
from strata_zmq.workers.launcher.entry import EXIT_USAGE, complain, guarded

__all__ = ["main"]

app = typer.Typer(
    name="strata",
    help="A message-bus runtime for distributed training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(checkpoints, name="checkpoints")
app.add_typer(functions, name="functions")
add_commands(app)

# These hand everything on, --help included, to a process that knows its own options.
_FORWARD = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
# Everything after the script is the script's.
_SCRIPT = {"ignore_unknown_options": False, "allow_interspersed_args": False}
_Arguments = Annotated[list[str] | None, typer.Argument(show_default=False)]
_Coordinator = Annotated[
    str, typer.Option("--coordinator", "--coordinator-url", envvar="COORDINATOR_URL", help="host:port or ipc:///path.")
]
_COORDINATOR = "localhost:50051"
# What `run` and `agent` share.
_Script = Annotated[str, typer.Argument(metavar="SCRIPT", help="A training script (with -m: a module).")]
_ScriptArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[ARGS]...", help="Its arguments.", show_default=False)
]
_Module = Annotated[bool, typer.Option("-m", "--module", help="SCRIPT is a module, as in python -m.")]
_Grace = Annotated[float, typer.Option(help="Seconds that workers get to end themselves.")]
_Progress = Annotated[
    Literal["auto", "live", "plain", "off"], typer.Option(help="auto: live on a terminal, plain lines elsewhere.")
]
_Policy = Annotated[
    str,
    typer.Option(
        help="When loops save: every-steps:N, every-seconds:T, adaptive:PERCENT or manual.",
        show_default=False,
        envvar="STRATA_CHECKPOINT_POLICY",
    ),
]
_WhenBusy = Annotated[
    str,
    typer.Option(
        help="What a save does while earlier ones hold all staging memory: block, skip or supersede.",
        show_default=False,
        envvar="STRATA_WHEN_BUSY",
    ),
]
_ApiPort = Annotated[
    str,
    typer.Option(
        help="The dashboard's port; 0 takes a free one, none: no dashboard. By default 3000, or the next free one.",
        show_default=False,
        envvar="STRATA_API_PORT",
    ),
]
_Interval = Annotated[float, typer.Option(help="Seconds between plain lines.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's own) and return its exit code."""

    def command() -> int:
        try:
            result = app(args=argv, prog_name="strata", standalone_mode=False)
        except typer.TyperException as error:
            if error.format_message():  # without a subcommand, the help has said everything
                context = getattr(error, "ctx", None)
                complain(f"{error.format_message()} ({context.command_path if context else 'strata'} --help)")
            return EXIT_USAGE
        return result if isinstance(result, int) else 0

    return guarded(command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        from strata_zmq import __version__

        typer.echo(f"strata {__version__}")
        raise typer.Exit


@app.command(context_settings=_SCRIPT)
def run(
    script: _Script,
    args: _ScriptArguments = None,
    workers: Annotated[int, typer.Option("-n", "--workers", help="Worker processes.")] = 1,
    module: _Module = False,
    writers: Annotated[int, typer.Option(help="Storage writer processes; 0 for a job without checkpoints.")] = 1,
    min_workers: Annotated[int, typer.Option(help="Fewer than that, and the rest waits.")] = 1,
    max_restarts: Annotated[int, typer.Option(help="Restarts of each worker before the job fails.")] = 3,
    tcp: Annotated[bool, typer.Option("--tcp", help="Loopback TCP instead of ipc in a private folder.")] = False,
    port: Annotated[int, typer.Option(help="With --tcp: this port and the next; 0 takes free ones.")] = 0,
    run_dir: Annotated[
        Path | None, typer.Option(help="Keep journal and logs here; a later run resumes from it.", show_default=False)
    ] = None,
    checkpoint_path: Annotated[
        str,
        typer.Option(
            help="Where checkpoints go, a folder or s3://bucket/prefix; by default ./checkpoints, or "
            "--run-dir/checkpoints.",
            show_default=False,
        ),
    ] = "",
    keep: Annotated[int, typer.Option(help="Checkpoints to keep.")] = 5,
    keep_every: Annotated[int, typer.Option(help="Keep one of every so many steps, too; 0: none for that.")] = 0,
    keep_best: Annotated[
        str, typer.Option(help="Keep the N best, too: METRIC:min:N or METRIC:max:N.", show_default=False)
    ] = "",
    policy: _Policy = "",
    when_busy: _WhenBusy = "",
    job: Annotated[str, typer.Option(help="The job's name; by default the script's.", show_default=False)] = "",
    grace: _Grace = 10.0,
    lease: Annotated[float, typer.Option(help="Seconds of silence after which a worker counts as lost.")] = 3.0,
    progress: _Progress = "auto",
    progress_interval: _Interval = 10.0,
    relay: Annotated[
        bool, typer.Option("--agent/--no-agent", help="Workers share one connection to the coordinator.")
    ] = True,
    api_port: _ApiPort = "",
) -> int:
    """Run a job on this machine: a coordinator, storage writers and N workers."""
    from strata_zmq.workers.launcher.job import Limits
    from strata_zmq.workers.launcher.options import RunOptions
    from strata_zmq.workers.launcher.supervisor import Supervisor

    options = RunOptions(
        script=script,
        args=tuple(args or ()),
        module=module,
        workers=workers,
        writers=writers,
        min_workers=min_workers,
        tcp=tcp,
        port=port,
        run_dir=run_dir,
        checkpoint_path=checkpoint_path,
        job=job,
        lease_s=lease,
        keep_count=keep,
        keep_every=keep_every,
        keep_best=keep_best,
        policy=policy,
        when_busy=when_busy,
        progress=progress,
        progress_interval_s=progress_interval,
        limits=Limits(worker_restarts=max_restarts, grace_s=grace),
        relay=relay,
        api_port=api_port.strip(),
    )
    return Supervisor(options).run()


@app.command(context_settings=_SCRIPT)
def agent(
    script: _Script,
    args: _ScriptArguments = None,
    coordinator_url: _Coordinator = _COORDINATOR,
    workers: Annotated[int, typer.Option("-n", "--workers", help="Worker processes on this host.")] = 1,
    module: _Module = False,
    writers: Annotated[int, typer.Option(help="Storage writer processes on this host.")] = 0,
    advertise: Annotated[
        str, typer.Option(help="How other hosts reach this one's writers.", show_default=False, metavar="HOST")
    ] = "",
    host_name: Annotated[
        str, typer.Option(help="Workers are named HOST-0, HOST-1, ...; by default the machine's.", show_default=False)
    ] = "",
    first_rank: Annotated[int, typer.Option(help="RANK of the first worker here.")] = 0,
    world_size: Annotated[
        int, typer.Option(help="WORLD_SIZE; by default up to this host's last RANK.", show_default=False)
    ] = 0,
    max_restarts: Annotated[int, typer.Option(help="Restarts of each worker before this host gives up.")] = 3,
    run_dir: Annotated[Path | None, typer.Option(help="Keep logs here.", show_default=False)] = None,
    checkpoint_path: Annotated[
        str,
        typer.Option(
            help="Where checkpoints go, a folder or s3://bucket/prefix: the same on every host.", show_default=False
        ),
    ] = "",
    job: Annotated[str, typer.Option(help="Refuse to work for any other job.", show_default=False)] = "",
    policy: _Policy = "",
    when_busy: _WhenBusy = "",
    grace: _Grace = 10.0,
    progress: _Progress = "auto",
    progress_interval: _Interval = 10.0,
    relay: Annotated[
        bool, typer.Option("--relay/--no-relay", help="Workers share one connection to the coordinator.")
    ] = True,
) -> int:
    """Run this host's workers of a job whose coordinator runs elsewhere."""
    from socket import gethostname

    from strata_zmq.workers.launcher.job import Limits
    from strata_zmq.workers.launcher.options import RunOptions
    from strata_zmq.workers.launcher.supervisor import Supervisor

    options = RunOptions(
        script=script,
        args=tuple(args or ()),
        module=module,
        workers=workers,
        writers=writers,
        run_dir=run_dir,
        checkpoint_path=checkpoint_path,
        job=job,
        policy=policy,
        when_busy=when_busy,
        progress=progress,
        progress_interval_s=progress_interval,
        limits=Limits(worker_restarts=max_restarts, grace_s=grace),
        relay=relay,
        coordinator_url=coordinator_url,
        host=host_name or gethostname(),
        first_rank=first_rank,
        world_size=world_size,
        advertise=advertise,
    )
    return Supervisor(options).run()


@app.command(context_settings=_FORWARD, add_help_option=False)
def coordinator(args: _Arguments = None) -> None:
    """Serve as a job's coordinator."""
    become("strata_zmq.coordinator", *(args or ()))


@app.command(context_settings=_FORWARD, add_help_option=False)
def worker(args: _Arguments = None) -> None:
    """Run a script as one worker of a job, or stay registered and idle."""
    become("strata_zmq.workers", "worker", *(args or ()))


@app.command(context_settings=_FORWARD, add_help_option=False)
def writer(args: _Arguments = None) -> None:
    """Serve as a storage writer: take chunks from workers, make them durable, acknowledge."""
    become("strata_zmq.workers", "writer", *(args or ()))


@app.command()
def sim_workers(
    workers: Annotated[int, typer.Argument(metavar="N", help="How many workers to simulate.")],
    coordinator_url: _Coordinator = _COORDINATOR,
    step: Annotated[float, typer.Option(help="Seconds that a training step takes on average.")] = 1.0,
    batch: Annotated[int, typer.Option(help="Samples a step and worker.")] = 32,
    samples: Annotated[int, typer.Option(help="Samples of the dataset.")] = 1_000_000,
    shard_size: Annotated[int, typer.Option(help="Samples a shard.")] = 1_000,
    dataset: Annotated[str, typer.Option(help="The dataset's id.")] = "simulated",
    gpus: Annotated[int, typer.Option(help="GPUs that each worker claims to have.")] = 0,
    churn: Annotated[float, typer.Option(help="Workers a minute that are killed or leave, and come back.")] = 0.0,
    hangs: Annotated[float, typer.Option(help="Training loops a minute that stand still for 90 s.")] = 0.0,
    prefix: Annotated[str, typer.Option(help="Workers are named PREFIX-0, PREFIX-1, ...")] = "sim",
    seed: Annotated[int, typer.Option(help="Of everything that is left to chance.")] = 0,
    duration: Annotated[float, typer.Option(help="Seconds; 0 until it is stopped.")] = 0.0,
) -> int:
    """Connect N simulated workers to a running coordinator: for load, for a dashboard, for trying things out."""
    from strata_zmq.workers.simulated.fleet import run_fleet
    from strata_zmq.workers.simulated.plan import FleetPlan

    plan = FleetPlan(
        workers=workers,
        prefix=prefix,
        step_s=step,
        batch_size=batch,
        dataset_id=dataset,
        total_samples=samples,
        shard_size=shard_size,
        gpus=gpus,
        churn=churn,
        hangs=hangs,
        seed=seed,
    )
    return run_fleet(plan, coordinator_url, duration_s=duration, say=lambda text: typer.echo(f"[sim] {text}", err=True))


@app.command(context_settings=_FORWARD, add_help_option=False)
def bench(args: _Arguments = None) -> None:
    """Measure this machine: every figure beside its limit and a peer."""
    become("strata_zmq.bench", *(args or ()))


@app.command("command")
def command_workers(
    what: Annotated[
        Literal["checkpoint", "drain", "stop", "dump_stacks"], typer.Argument(metavar="COMMAND", help="What to do.")
    ],
    worker: Annotated[
        list[str] | None, typer.Option("--worker", help="A worker id, as often as needed; none: all.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
    coordinator_url: _Coordinator = _COORDINATOR,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 5.0,
) -> None:
    """Ask workers to checkpoint, drain, stop, or write their stacks; needs STRATA_SUPERVISOR_TOKEN."""
    from strata_zmq.workers.launcher.order import send_command

    send_command(coordinator_url, what, worker or (), reason=reason, timeout_s=timeout)
