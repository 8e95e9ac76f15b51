"""The command lines of the processes that a run is made of.

Owns their spelling; never starts one. A run takes them as a value, so that a test can put others in their place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strata_zmq.startup import NO_API

from .options import RunOptions
from .process import Child

__all__ = ["Commands", "Endpoints"]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the coordinator listens: `tcp://127.0.0.1:50051` or `ipc:///path`, for requests and for broadcasts.

    `agent` is where the host's relay does, empty without one.
    """

    control: str
    broadcast: str = ""
    agent: str = ""


def _coordinator(endpoints: Endpoints, journal: Path, options: RunOptions) -> list[str]:
    return [
        *(sys.executable, "-m", "strata_zmq.coordinator", "--job", options.job_name),
        *("--control", endpoints.control, "--broadcast", endpoints.broadcast, "--journal", str(journal)),
        *("--initial-workers", str(options.workers), "--min-workers", str(options.min_workers)),
        *("--lease-s", f"{options.lease_s:g}", "--keep-count", str(options.keep_count)),
        *("--keep-every", str(options.keep_every), "--keep-best", options.keep_best),
        *(("--flight", str(journal.parent / "flight")) if options.run_dir else ()),
        *("--api-port", NO_API),  # the run has one of its own, which knows its logs
        *("--ready-fd", Child.READY_FD),
    ]


def _api(endpoints: Endpoints, logs: Path, store: str, options: RunOptions) -> list[str]:
    return [
        *(sys.executable, "-m", "strata_zmq.coordinator.api.state", "--coordinator", endpoints.control),
        *(("--port", options.api_port) if options.api_port else ()),
        *("--logs", str(logs), *(("--store", store) if options.writers else ())),
        *("--parent", str(os.getpid()), "--ready-fd", Child.READY_FD),
    ]


def _writer(coordinator_url: str, path: str, writer_id: str, options: RunOptions) -> list[str]:
    beyond = ("--listen", "0.0.0.0:0", "--advertise", options.advertise) if options.advertise else ()
    return [
        *(sys.executable, "-m", "strata_zmq.workers", "writer", "--coordinator-url", coordinator_url),
        *("--path", path, "--writer-id", writer_id, "--ready-fd", Child.READY_FD, *beyond),
    ]


def _relay(coordinator_url: str, listen: str) -> list[str]:
    return [
        *(sys.executable, "-m", "strata_zmq.workers", "relay", "--coordinator-url", coordinator_url),
        *("--listen", listen, "--ready-fd", Child.READY_FD),
    ]


def _worker(options: RunOptions) -> list[str]:
    program = ("-m", options.script) if options.module else (options.script,)
    return [sys.executable, *program, *options.args]


@dataclass(frozen=True, slots=True)
class Commands:
    """One builder of an argument list per role; `Child.READY_FD` stands for the number of the ready pipe."""

    coordinator: Callable[[Endpoints, Path, RunOptions], list[str]] = _coordinator
    writer: Callable[[str, str, str, RunOptions], list[str]] = _writer
    relay: Callable[[str, str], list[str]] = _relay
    worker: Callable[[RunOptions], list[str]] = _worker
    api: Callable[[Endpoints, Path, str, RunOptions], list[str]] = _api
