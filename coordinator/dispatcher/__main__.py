"""`python -m strata_zmq.coordinator.dispatcher`: one dispatcher in the foreground."""

from __future__ import annotations

import sys

from strata_zmq.errors import StrataError
from strata_zmq.startup import Parser, announce, log_to_stderr

from .config import DEFAULT_PORT, DispatcherConfig
from .server import Dispatcher, serve

__all__ = ["main"]

_DEFAULTS = DispatcherConfig(curve_keys="")


def main(argv: list[str]) -> int:
    """Run a dispatcher to its end and return its exit code."""
    options = vars(_parser().parse_args(argv))
    ready_fd = options.pop("ready_fd")
    port = options.pop("port")
    if options["endpoint"] is None:
        options["endpoint"] = f"tcp://127.0.0.1:{port}"
    options["gpus"] = tuple(name for name in options["gpus"].split(",") if name)
    if options["heartbeat_s"] is None:
        options["heartbeat_s"] = min(_DEFAULTS.heartbeat_s, options["lease_s"] / 5)
    given = {name: value for name, value in options.items() if value is not None}
    log_to_stderr()

    def on_ready(dispatcher: Dispatcher) -> None:
        announce(ready_fd, endpoint=dispatcher.endpoint)

    return serve(DispatcherConfig(**given), on_ready=on_ready)


def _parser() -> Parser:
    base = _DEFAULTS
    parser = Parser(prog="python -m strata_zmq.coordinator.dispatcher", description=__doc__)
    add = parser.add_argument
    add("-m", "--mode", default=base.mode, help="local (children of its own), push or pull (default: %(default)s)")
    add("-p", "--port", type=int, default=DEFAULT_PORT, help="on 127.0.0.1 (default: %(default)s); 0 takes a free one")
    add("--endpoint", help="in place of a port: host:port or ipc:///path; beyond this machine with keys only")
    add("-w", "--workers", type=int, default=base.workers, help="children, in mode local (default: %(default)s)")
    add(
        *("--task-deadline", "--task-deadline-s"),
        dest="task_deadline_s",
        type=float,
        default=base.task_deadline_s,
        help="seconds that an attempt may run, for tasks that name none; 0: no limit",
    )
    add("--store", default=base.store, help="sqlite:PATH, redis://HOST:PORT/DB or none (default: %(default)s)")
    add("--lease", dest="lease_s", type=float, default=base.lease_s, help="a worker silent for so many seconds is lost")
    add(
        "--heartbeat",
        dest="heartbeat_s",
        type=float,
        help="seconds between its heartbeats (default: 1, or a fifth of it)",
    )
    add("--client-lease", dest="client_lease_s", type=float, default=base.client_lease_s, help="the same for a client")
    add(
        "--queue-tasks",
        dest="queue_tasks_max",
        type=int,
        default=base.queue_tasks_max,
        help="unfinished tasks, at most",
    )
    add("--queue-bytes", dest="queue_bytes_max", type=int, default=base.queue_bytes_max, help="their payloads, at most")
    add(
        "--result-bytes",
        dest="results_bytes_max",
        type=int,
        default=base.results_bytes_max,
        help="results kept, at most",
    )
    add(
        "--blob-bytes",
        dest="blob_bytes_max",
        type=int,
        default=base.blob_bytes_max,
        help="callables and values, at most",
    )
    add("--memory-bytes", type=int, default=base.memory_bytes, help="of one child, in mode local; 0: no limit")
    add("--gpus", default="", help="devices to deal out by the label gpu, in mode local: 0,1")
    add(
        "--grace",
        dest="grace_s",
        type=float,
        default=base.grace_s,
        help="seconds for running calls to end after SIGTERM, in mode local",
    )
    add("--curve-keys", help="a key folder: the socket speaks CURVE only (default: STRATA_CURVE_KEYS)")
    add(
        "--ready-fd", type=int, default=-1, help="write one JSON line with the endpoint to this descriptor when serving"
    )
    return parser


def _run() -> int:
    try:
        return main(sys.argv[1:])
    except StrataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_run())
