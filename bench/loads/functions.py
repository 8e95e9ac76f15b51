"""Owns how a function service is started to be measured: dispatcher, workers and API as real processes on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Literal

from strata_zmq.bench.model import Absent
from strata_zmq.bench.peer_process import peers_folder
from strata_zmq.errors import DeadlineExceededError

from .process import Child, child_process, end

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Kept", "Mode", "Service", "api_process", "redis_server", "service"]

Mode = Literal["local", "push", "pull"]
Kept = Literal["none", "sqlite", "redis"]
_REDIS_START_S = 10.0
_REDIS_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Service:
    """A dispatcher that serves, with `children` processes that run functions."""

    endpoint: str
    processes: tuple[Child, ...]
    """The dispatcher, then its worker if it has one."""

    def cpu_seconds(self) -> float:
        """The CPU time of dispatcher and worker so far, without the children's."""
        return sum(child.cpu_seconds() for child in self.processes)


@contextmanager
def service(scratch: Path, mode: Mode, children: int, *, store: Kept = "none") -> Iterator[Service]:
    """Run a dispatcher, on a free port, and one worker with `children` children (in mode `local` they are its own).

    With a `store`, tasks of durability `commit` are written there: SQLite on the scratch disk, or a Redis server that
    flushes every commit. Raises Absent where there is no redis-server.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="functions-", dir=scratch)))
        url = "none"
        if store == "sqlite":
            url = f"sqlite:{folder / 'tasks.sqlite'}"
        elif store == "redis":
            url = stack.enter_context(redis_server(folder))
        dispatcher = stack.enter_context(
            child_process(
                "strata_zmq.coordinator.dispatcher",
                *(f"--mode={mode}", "--port=0", f"--workers={children}", f"--store={url}"),
            )
        )
        endpoint = dispatcher.ready["endpoint"]
        if mode == "local":
            yield Service(endpoint, (dispatcher,))
            return
        worker = stack.enter_context(
            child_process(
                "strata_zmq.workers.function_worker",
                *(f"--dispatcher={endpoint}", f"--children={children}", f"--mode={mode}"),
            )
        )
        yield Service(endpoint, (dispatcher, worker))


@contextmanager
def api_process(endpoint: str) -> Iterator[Child]:
    """Run the HTTP interface of the dispatcher at `endpoint`; its `ready["url"]` is where it listens."""
    with child_process("strata_zmq.coordinator.api", f"--dispatcher={endpoint}", "--port=0") as child:
        yield child


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis server on a free port that flushes every commit to `folder`; yield the address of its database."""
    program = shutil.which("redis-server") or shutil.which("redis-server", path=str(peers_folder() / "bin"))
    if program is None:
        raise Absent("no redis-server is installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *(program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        end(server)


def _await(port: int) -> None:
    deadline = monotonic() + _REDIS_START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if monotonic() >= deadline:
                raise DeadlineExceededError(
                    f"the Redis server did not answer in {_REDIS_START_S:g} s", missing=("redis-server",)
                ) from None
            sleep(_REDIS_POLL_S)
        else:
            return
