"""Real processes: a coordinator, a host's relay, whole hosts; each ends with its test."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient

_START_S = 20.0
TRAIN_SUMS = Path(__file__).parents[1] / "integration" / "programs" / "train_sums.py"


class Process:
    """One process of the package; `ready` is what it said when it served. Its log is a file."""

    def __init__(self, log: Path, module: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.log = log
        reading, writing = os.pipe()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, "--ready-fd", str(writing)],
                pass_fds=(writing,),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
            )
        os.close(writing)
        with os.fdopen(reading) as told:
            assert select.select([told], [], [], _START_S)[0], log.read_text()
            self.ready = json.loads(told.readline() or pytest.fail(log.read_text()))

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10.0)


class Bus:
    """A coordinator and the relays of hosts that speak to it, over any number of lives."""

    def __init__(self, folder: Path, options: tuple[str, ...], env: dict[str, str]) -> None:
        self.folder = folder
        self.url = f"ipc://{folder}/control"
        self._options, self._env = options, env
        self._processes: list[Process] = []
        self._client: CoordinatorClient | None = None
        self.start_coordinator()

    def start_coordinator(self) -> None:
        self.coordinator = self._start(
            *("strata_zmq.coordinator", "--control", self.url, "--broadcast", f"ipc://{self.folder}/broadcast"),
            *("--journal", str(self.folder / "journal.sqlite"), *self._options),
        )

    def start_relay(self, host: str = "host") -> Process:
        """Start the relay of a host; its workers connect to `agent_url(host)`."""
        listen, up = ("--listen", self.agent_url(host)), ("--coordinator-url", self.url)
        return self._start("strata_zmq.workers", "relay", *listen, *up)

    def agent_url(self, host: str = "host") -> str:
        return f"ipc://{self.folder}/{host}"

    def status(self) -> wire.Status:
        if self._client is None:
            self._client = CoordinatorClient(self.url).connect()
        answer: wire.Status = self._client.request(wire.GetStatus())
        return answer

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
        for one in reversed(self._processes):
            if one.process.poll() is None:
                assert one.stop() == 0, one.log.read_text()
            assert "Traceback" not in one.log.read_text(), one.log.read_text()

    def _start(self, module: str, *arguments: str) -> Process:
        log = self.folder / f"log{len(self._processes)}"
        self._processes.append(Process(log, module, *arguments, env=self._env))
        return self._processes[-1]


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short folder, 0700: a Unix socket's path holds 107 bytes, which tmp_path may exceed."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_bus(run_dir: Path) -> Iterator[Callable[..., Bus]]:
    """`start_bus("--initial-workers", "4", token="...")` starts a coordinator; it is stopped after the test."""
    started: list[Bus] = []

    def start(*options: str, token: str = "") -> Bus:
        env = {"STRATA_SUPERVISOR_TOKEN": token} if token else {}
        started.append(Bus(run_dir, options, env))
        return started[-1]

    yield start
    for bus in started:
        bus.stop()


class Trainer:
    """One training process. It appends what it sees to a file of its own, one JSON object a line."""

    def __init__(self, folder: Path, worker_id: str, url: str, agent_url: str, options: dict[str, Any]) -> None:
        self.folder, self.worker_id = folder, worker_id
        self.log = folder / f"{worker_id}.log"
        env = {"COORDINATOR_URL": url, "STRATA_AGENT_URL": agent_url, "WORKER_ID": worker_id}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(TRAIN_SUMS), str(folder), json.dumps(options)],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def events(self, kind: str) -> list[dict[str, Any]]:
        return events(self.folder, self.worker_id, kind)

    def go(self, gate: str) -> None:
        """Open a gate that the program waits at."""
        (self.folder / f"{self.worker_id}.{gate}").touch()

    def finish(self, timeout_s: float = 60.0) -> None:
        """Wait for a clean end."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.worker_id} did not end; its log:\n{self.log.read_text()}")
        assert code == 0, f"{self.worker_id} ended with {code}; its log:\n{self.log.read_text()}"


def events(folder: Path, worker_id: str, kind: str) -> list[dict[str, Any]]:
    """What a training process has seen of one kind so far, in order; a line that is half written does not count."""
    path = folder / f"{worker_id}.events"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.fixture
def start_trainer(run_dir: Path) -> Iterator[Callable[..., Trainer]]:
    """`start_trainer(bus, "worker-1", host="host", total=1000)` trains over the host's relay; killed after the test."""
    started: list[Trainer] = []

    def start(bus: Bus, worker_id: str, host: str = "host", **options: Any) -> Trainer:
        started.append(Trainer(run_dir, worker_id, bus.url, bus.agent_url(host), options))
        return started[-1]

    yield start
    for trainer in started:
        if trainer.process.poll() is None:
            trainer.process.kill()
            trainer.process.wait()


class Host:
    """One `strata agent` command with a temporary folder of its own."""

    def __init__(self, folder: Path, name: str, bus: Bus, arguments: tuple[object, ...], env: dict[str, str]) -> None:
        temporary = folder / name
        temporary.mkdir()
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "strata_zmq", "agent", "--coordinator", bus.url, "--host-name", name),
                    *(str(argument) for argument in arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, "TMPDIR": str(temporary), **env},
                start_new_session=True,
            )

    def wait(self, timeout_s: float = 60.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"strata agent did not end within {timeout_s} s; {self.story()}")

    def story(self) -> str:
        return f"standard output:\n{self.out.read_text()}\nstandard error:\n{self.err.read_text()}"


@pytest.fixture
def start_host(run_dir: Path) -> Iterator[Callable[..., Host]]:
    """`start_host(bus, "node-a", "-n", 2, script, token="...")` runs `strata agent`; it is ended after the test."""
    started: list[Host] = []

    def start(bus: Bus, name: str, *arguments: object, token: str = "") -> Host:
        env = {"STRATA_SUPERVISOR_TOKEN": token} if token else {}
        started.append(Host(run_dir, name, bus, arguments, env))
        return started[-1]

    yield start
    for host in started:
        if host.process.poll() is None:
            host.process.kill()
            host.process.wait()


@pytest.fixture
def events_of() -> Callable[..., list[dict[str, Any]]]:
    """`events_of(folder, worker_id, kind)`: what a training process has seen."""
    return events
