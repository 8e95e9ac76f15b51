"""`python -m strata_zmq.workers.function_worker`: one worker of a dispatcher, with children that run functions."""

from __future__ import annotations

import os
import signal
import sys

from strata_zmq.startup import Parser, announce, log_to_stderr

from .function_config import FunctionWorkerConfig, parse_labels
from .launcher.entry import guarded

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run a worker to its end and return its exit code."""
    options = vars(_parser().parse_args(argv))
    ready_fd = options.pop("ready_fd")
    options["labels"] = parse_labels(options["labels"])
    options["gpus"] = tuple(name for name in options["gpus"].split(",") if name)
    config = FunctionWorkerConfig(**{name: value for name, value in options.items() if value is not None})
    log_to_stderr()
    # What a socket and a pool need is loaded after the options are known to be right.
    from .function_loop import FunctionWorker

    worker = FunctionWorker(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.leave())
    worker.serve(lambda: announce(ready_fd, dispatcher=config.dispatcher, worker_id=config.worker_id))
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m strata_zmq.workers.function_worker", description=__doc__)
    add = parser.add_argument
    add("--dispatcher", default="tcp://127.0.0.1:5555", help="host:port, tcp://host:port or ipc:///path")
    add("--children", type=int, default=os.cpu_count() or 1, help="processes that run calls (default: one a core)")
    add("--mode", default="push", help="push: the dispatcher decides how much it holds; pull: it asks when it is free")
    add("--label", dest="labels", action="append", default=[], metavar="NAME=N", help="a resource to offer: gpu=2")
    add("--gpus", default="", help="which devices the label gpu stands for: 0,1 (default: the first ones)")
    add("--memory-bytes", type=int, default=0, help="what one child may use; 0: no limit")
    add("--max-tasks-per-child", type=int, default=0, help="replace a child after so many calls; 0: never")
    add("--grace", dest="grace_s", type=float, default=10.0, help="seconds for running calls to end after SIGTERM")
    add("--blob-bytes", dest="blob_bytes_max", type=int, default=2**30, help="callables and values to keep, at most")
    add("--worker-id", help="default: the host's name, the process id and a number by chance")
    add("--curve-keys", help="a key folder: speak CURVE (default: STRATA_CURVE_KEYS)")
    add("--ready-fd", type=int, default=-1, help="write one JSON line to this descriptor when enlisted")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
