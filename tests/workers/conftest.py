"""A coordinator, storage writers and workers as real processes and connections, in a folder that goes with the test."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from processkit.served import Served

from strata_zmq.workers.checkpoint_client import CheckpointClient
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_S = 30.0


class Cluster:
    """Everything that one job needs, on ipc endpoints in a short private folder."""

    def __init__(self, store: Path, world_size: int) -> None:
        self.store = store
        self.folder = Path(tempfile.mkdtemp(prefix="strata-test-"))
        self.writers: dict[str, Served] = {}
        self.environ = dict(os.environ)
        self._processes: list[Served] = []
        self._sessions: list[WorkerSession] = []
        self._clients: list[CheckpointClient] = []
        self._world_size = world_size
        self.coordinator = self.start_coordinator()

    @property
    def url(self) -> str:
        """Where the coordinator listens."""
        return f"ipc://{self.folder}/control"

    def start_coordinator(self, journal: str = "journal.sqlite") -> Served:
        """Start the coordinator, or its next life."""
        process = Served(
            self.folder / "coordinator.log",
            *("strata_zmq.coordinator", "--control", self.url, "--broadcast", f"ipc://{self.folder}/broadcast"),
            *("--journal", str(self.folder / journal), "--initial-workers", str(self._world_size)),
            *("--lease-s", "10", "--keep-count", "3"),
        )
        self._processes.append(process)
        return process

    def writer(self, name: str, *options: str, env: dict[str, str] | None = None) -> Served:
        """Start a storage writer."""
        process = Served(
            self.folder / f"{name}.log",
            *("strata_zmq.workers", "writer", "--coordinator-url", self.url, "--path", str(self.store)),
            *("--writer-id", name, *options),
            env=env,
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
