"""A coordinator, storage writers and workers as real processes and connections, in a folder that goes with the test."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from strata_zmq.workers.checkpoint_client import CheckpointClient
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_S = 30.0


class Process:
    """A child that told on its ready descriptor what it serves."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        ready, told = os.pipe()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *argv, "--ready-fd", str(told)],
                env={**os.environ, **(env or {})},
                stdout=out,
                stderr=out,
                pass_fds=(told,),
            )
        os.close(told)
        with os.fdopen(ready) as line:
            text = line.readline() if select.select([line], [], [], START_S)[0] else ""
        if not text:
            self.kill()
            pytest.fail(f"{argv[0]} did not start:\n{log.read_text()}")
        self.told: dict[str, Any] = json.loads(text)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.process.wait()


class Cluster:
    """Everything that one job needs, on ipc endpoints in a short private folder."""

    def __init__(self, store: Path, world_size: int) -> None:
        self.store = store
        self.folder = Path(tempfile.mkdtemp(prefix="strata-test-"))
        self.writers: dict[str, Process] = {}
        self._processes: list[Process] = []
        self._sessions: list[WorkerSession] = []
        self._clients: list[CheckpointClient] = []
        self._world_size = world_size
        self.coordinator = self.start_coordinator()

    @property
    def url(self) -> str:
        """Where the coordinator listens."""
        return f"ipc://{self.folder}/control"

    def start_coordinator(self, journal: str = "journal.sqlite") -> Process:
        """Start the coordinator, or its next life."""
        process = Process(
            [
                *("strata_zmq.coordinator", "--control", self.url, "--broadcast", f"ipc://{self.folder}/broadcast"),
                *("--journal", str(self.folder / journal), "--initial-workers", str(self._world_size)),
                *("--lease-s", "10", "--keep-count", "3"),
            ],
            self.folder / "coordinator.log",
        )
        self._processes.append(process)
        return process

    def writer(self, name: str, *options: str, env: dict[str, str] | None = None) -> Process:
        """Start a storage writer."""
        process = Process(
            [
                *("strata_zmq.workers", "writer", "--coordinator-url", self.url, "--path", str(self.store)),
                *("--writer-id", name, *options),
            ],
            self.folder / f"{name}.log",
            env,
        )
        self._processes.append(process)
        self.writers[name] = process
        return process

    def join(self, count: int | None = None) -> list[WorkerSession]:
        """Register workers and wait for their generation; in rank order."""
        number = self._world_size if count is None else count
        sessions = [
            WorkerSession(WorkerIdentity(worker_id=f"worker-{len(self._sessions) + i}"), self.url)
            for i in range(number)
        ]
        self._sessions += sessions
        for session in sessions:
            session.connect(START_S)
        for session in sessions:
            session.join(START_S)
        return sorted(sessions, key=lambda session: session.membership.rank)

    def client(self, session: WorkerSession, **options: Any) -> CheckpointClient:
        """Return a worker's checkpoint client."""
        client = CheckpointClient(session, **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            client.close(timeout_s=0.0)
        for session in self._sessions:
            session.close(leave=False)
        for process in self._processes:
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """`make_cluster(world_size=1)` starts a coordinator; writers and workers are the test's."""
    made: list[Cluster] = []

    def make(world_size: int = 1) -> Cluster:
        made.append(Cluster(tmp_path / "store", world_size))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture(scope="module")
def one_writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A coordinator and one storage writer, `one`, for all tests of a module; it takes small windows."""
    cluster = Cluster(tmp_path_factory.mktemp("module") / "store", 1)
    cluster.writer("one", "--window-mib", "1", "--inflight-mib", "2")
    yield cluster
    cluster.close()
