"""Real processes on ipc: a coordinator to kill and start again, and training processes that tell what they saw."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_broadcast, decode_reply, decode_request, encode
from strata_zmq.workers.client import CoordinatorClient

PROGRAMS = Path(__file__).parent / "programs"
_START_S = 20.0


class Coordinator:
    """One coordinator on fixed endpoints and one journal, through as many process lives as a test wants."""

    def __init__(self, folder: Path, options: tuple[str, ...], env: dict[str, str]) -> None:
        self.url = f"ipc://{folder}/control"
        self.journal = folder / "journal.sqlite"
        self.log = folder / "coordinator.log"
        self.broadcast_url = f"ipc://{folder}/broadcast"
        self._options = options
        self._env = {**os.environ, **env}
        self._client: CoordinatorClient | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Coordinator:
        """Start a life and wait until it serves."""
        ready, told = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "strata_zmq.coordinator"),
                    *("--control", self.url, "--broadcast", self.broadcast_url),
                    *("--journal", str(self.journal), "--ready-fd", str(told)),
                    *self._options,
                ],
                env=self._env,
                stdout=log,
                stderr=log,
                pass_fds=(told,),
            )
        os.close(told)
        with os.fdopen(ready) as line:
            if not select.select([line], [], [], _START_S)[0] or not line.readline():
                pytest.fail(f"the coordinator did not start:\n{self.log.read_text()}")
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """kill -9, and a new life on the same journal."""
        self.kill()
        self.start()

    def status(self) -> wire.Status:
        """What the coordinator says now, asked by a client that is no worker."""
        if self._client is None:
            self._client = CoordinatorClient(self.url).connect()
        answer: wire.Status = self._client.request(wire.GetStatus())
        return answer

    def members(self) -> list[str]:
        """The workers of the current generation in rank order."""
        return [row.worker_id for row in sorted(self.status().workers, key=lambda row: row.rank) if row.rank >= 0]

    def stop(self) -> None:
        """End the client and the process."""
        if self._client is not None:
            self._client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(10) == 0, self.log.read_text()


class Trainer:
    """One training process. It appends what it sees to a file of its own, one JSON object a line."""

    def __init__(self, worker_id: str, url: str, folder: Path, program: str, options: dict[str, Any]) -> None:
        self.worker_id = worker_id
        self.folder = folder
        self._events = folder / f"{worker_id}.events"
        self.log = folder / f"{worker_id}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAMS / program), str(folder), json.dumps(options)],
                env={**os.environ, "COORDINATOR_URL": url, "WORKER_ID": worker_id},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self.process.pid

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it has seen of one kind so far, in order; a line that is half written does not count."""
        if not self._events.exists():
            return []
        lines = self._events.read_text().split("\n")[:-1]
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def go(self, gate: str) -> None:
        """Open a gate that the program waits at (for this process only)."""
        (self.folder / f"{self.worker_id}.{gate}").touch()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self, timeout_s: float = 30.0) -> None:
        """Wait for a clean end."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.worker_id} did not end; its log:\n{self.log.read_text()}")
        assert code == 0, f"{self.worker_id} ended with {code}; its log:\n{self.log.read_text()}"


class Relay:
    """A bus that loses messages: clients connect to `url`, the relay passes on what `loses` lets through.

    `loses(message)` is asked for every request, reply and broadcast.
    """

    def __init__(self, url: str, coordinator: Coordinator, loses: Callable[[Any], bool]) -> None:
        self.url = url
        self._coordinator = coordinator
        self._loses = loses
        self._stopping = threading.Event()
        self._flowing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay")

    def start(self) -> Relay:
        """Bind and pass messages on."""
        self._stopping.clear()
        self._flowing.set()
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut every connection."""
        self._stopping.set()
        self._flowing.set()
        self._thread.join()

    def freeze(self) -> None:
        """Pass nothing on, and keep every connection."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what has come in the meantime, and all that follows."""
        self._flowing.set()

    def _run(self) -> None:
        with zmq.Context() as context:
            context.setsockopt(zmq.LINGER, 0)
            front, announce = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
            front.bind(self.url)
            announce.bind(f"{self.url}-pub")
            listen = context.socket(zmq.SUB)
            listen.subscribe(b"")
            listen.connect(self._coordinator.broadcast_url)
            backs: dict[bytes, zmq.Socket[bytes]] = {}
            while self._flowing.wait() and not self._stopping.is_set():
                if front.poll(5):
                    client, body = front.recv_multipart()
                    if client not in backs:
                        backs[client] = context.socket(zmq.DEALER)
                        backs[client].connect(self._coordinator.url)
                    if not self._loses(decode_request(body)):
                        backs[client].send(body)
                for client, back in backs.items():
                    while back.poll(0):
                        self._pass_back(front, client, back.recv())
                while listen.poll(0):
                    frames = listen.recv_multipart()
                    if not self._loses(decode_broadcast(frames[-1])):
                        announce.send_multipart(frames)
            context.destroy(linger=0)

    def _pass_back(self, front: zmq.Socket[bytes], client: bytes, body: bytes) -> None:
        reply = decode_reply(body)
        if isinstance(reply, wire.Welcome):
            reply = msgspec.structs.replace(reply, broadcast_endpoint=f"{self.url}-pub")
        if not self._loses(reply):
            front.send_multipart([client, encode(reply)])


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short folder, 0700: a Unix socket's path holds 107 bytes, which tmp_path may exceed."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_coordinator(run_dir: Path) -> Iterator[Callable[..., Coordinator]]:
    """`start_coordinator("--lease-s", "2", env={...})` starts one that serves; it is stopped after the test."""
    started: list[Coordinator] = []

    def start(*options: str, env: dict[str, str] | None = None) -> Coordinator:
        coordinator = Coordinator(run_dir, options, env or {})
        started.append(coordinator)
        return coordinator.start()

    yield start
    for coordinator in started:
        coordinator.stop()


@pytest.fixture
def coordinator(start_coordinator: Callable[..., Coordinator]) -> Coordinator:
    """A coordinator whose first generation takes one worker, and whose leases do not end within a test."""
    return start_coordinator("--initial-workers", "1", "--lease-s", "30")


@pytest.fixture
def start_trainer(run_dir: Path) -> Iterator[Callable[..., Trainer]]:
    """`start_trainer(coordinator, "worker-1", program="train_sums.py", **options)`; killed after the test."""
    started: list[Trainer] = []

    def start(coordinator: Coordinator, worker_id: str, *, program: str = "train_sums.py", **options: Any) -> Trainer:
        trainer = Trainer(worker_id, coordinator.url, run_dir, program, options)
        started.append(trainer)
        return trainer

    yield start
    for trainer in started:
        if trainer.process.poll() is None:
            trainer.signal(signal.SIGCONT)
            trainer.kill()


@pytest.fixture
def start_relay(run_dir: Path) -> Iterator[Callable[..., Relay]]:
    """`start_relay(coordinator, loses)` puts a bus that loses messages in front of a coordinator."""
    started: list[Relay] = []

    def start(coordinator: Coordinator, loses: Callable[[Any], bool] = lambda _: False) -> Relay:
        relay = Relay(f"ipc://{run_dir}/relay{len(started)}", coordinator, loses)
        started.append(relay)
        return relay.start()

    yield start
    for relay in started:
        relay.stop()
