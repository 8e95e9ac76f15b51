"""Real processes: a coordinator, a host's relay, whole hosts; each ends with its test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processkit.coordinator import Coordinator
from processkit.served import Served
from processkit.trainer import Trainer, events

TRAIN_SUMS = Path(__file__).parents[1] / "integration" / "programs" / "train_sums.py"


class Bus(Coordinator):
    """A coordinator and the relays of hosts that speak to it."""

    def __init__(self, folder: Path, options: tuple[str, ...], env: dict[str, str]) -> None:
        super().__init__(folder, *options, env=env)
        self._relays: list[Served] = []
        self.start()

    def start_relay(self, host: str = "host") -> Served:
        """Start the relay of a host; its workers connect to `agent_url(host)`."""
        log = self.folder / f"relay{len(self._relays)}.log"
        where = ("--listen", self.agent_url(host), "--coordinator-url", self.url)
        self._relays.append(Served(log, "strata_zmq.workers", "relay", *where, env=self._env))
        return self._relays[-1]

    def agent_url(self, host: str = "host") -> str:
        return f"ipc://{self.folder}/{host}"

    def stop(self) -> None:
        for relay in reversed(self._relays):
            relay.stop()
        super().stop()


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


@pytest.fixture
def start_trainer(run_dir: Path) -> Iterator[Callable[..., Trainer]]:
    """`start_trainer(bus, "worker-1", host="host", total=1000)` trains over the host's relay; killed after the test."""
    started: list[Trainer] = []

    def start(bus: Bus, worker_id: str, host: str = "host", **options: Any) -> Trainer:
        relayed = {"STRATA_AGENT_URL": bus.agent_url(host)}
        started.append(Trainer(run_dir, worker_id, bus.url, TRAIN_SUMS, options, env=relayed))
        return started[-1]

    yield start
    for trainer in started:
        trainer.end()


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
