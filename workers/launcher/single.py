"""`strata worker`: one worker of a job that runs elsewhere, with a script or without one.

Owns that command's options; never knows what the script does. Without a script the worker registers, heartbeats and
waits until it is interrupted or commanded to stop or to drain, so that a connection can be seen to work.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import NoReturn

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.startup import Parser, add_coordinator, log_to_stderr

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run the command; returns 0 when it was to leave. With a script this process becomes the script."""
    parser = Parser(prog="strata worker", description="Run SCRIPT as one worker of a job, or stay registered and idle.")
    add_coordinator(parser)
    parser.add_argument(
        "--worker-id", default=os.environ.get("WORKER_ID", ""), help="default: host name and process id"
    )
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the coordinator (default 10)")
    parser.add_argument("-m", "--module", action="store_true", help="SCRIPT is a module, as in python -m")
    parser.add_argument("script", nargs="?", metavar="SCRIPT", help="a training script")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="ARGS", help="its arguments")
    options = parser.parse_args(argv)
    if options.script is not None:
        _become(options)
    return _idle(options.coordinator_url, options.worker_id, options.timeout)


def _become(options: argparse.Namespace) -> NoReturn:
    if not options.module and not os.path.isfile(options.script):  # noqa: PTH113 - one look at a string
        raise InvalidArgumentError(f"{options.script}: no such script; name a Python file, or a module with -m")
    os.environ["COORDINATOR_URL"] = options.coordinator_url
    if options.worker_id:
        os.environ["WORKER_ID"] = options.worker_id
    program = ["-m", options.script] if options.module else [options.script]
    os.execv(sys.executable, [sys.executable, *program, *options.args])  # noqa: S606 - no shell is wanted


def _obey(command: str, leave: threading.Event) -> None:
    if command in {"stop", "drain"}:
        leave.set()


def _idle(url: str, worker_id: str, timeout_s: float) -> int:
    from strata_zmq.workers.session import WorkerIdentity, WorkerSession

    log_to_stderr()
    leave = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: leave.set())
    identity = WorkerIdentity(worker_id=worker_id or WorkerIdentity.default_id())
    # There is no commit point here to agree on a stop at: the others stop at their next one.
    session = WorkerSession(identity, url, on_command=lambda command: _obey(command, leave))
    session.connect(timeout_s)
    try:
        print(f"{identity.worker_id} is registered at {url}; interrupt to leave", flush=True)
        leave.wait()
    finally:
        session.close()
    return 0
