"""Real processes of one job: a coordinator to stop, kill and start again, and workers that write down what they see."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient

__all__ = ["Coordinator", "Worker", "let_pass", "until"]

T = TypeVar("T")

PROGRAM = Path(__file__).parents[1] / "programs" / "train_and_tell.py"
_START_S = 20.0


def until(predicate: Callable[[], T], timeout_s: float, what: str) -> T:
    """Poll until `predicate()` is true and return its value; `what` did not happen in time otherwise."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)
    return value


def let_pass(seconds: float) -> None:
    """Let a fault last."""
    time.sleep(seconds)


class Coordinator:
    """One coordinator on fixed endpoints and one journal, through as many process lives as a test wants.

    `prefix` goes before the command (a host of `hosts.Network`); `dial` makes the client that asks for its status.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        control: str = "",
        broadcast: str = "",
        prefix: tuple[str, ...] = (),
        dial: Callable[[str], CoordinatorClient] = lambda url: CoordinatorClient(url).connect(),
        env: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.url = control or f"ipc://{folder}/control"
        self.broadcast_url = broadcast or f"ipc://{folder}/broadcast"
        self.journal = folder / "journal.sqlite"
        self.log = folder / "coordinator.log"
        self.serving_since = 0.0
        """When the last life said that it serves, on the monotonic clock."""
        self.process: subprocess.Popen[bytes] | None = None
        self._options = options
        self._prefix = prefix
        self._dial = dial
        self._env = {**os.environ, **(env or {})}
        self._client: CoordinatorClient | None = None

    def start(self) -> Coordinator:
        """Start a life and wait until it serves."""
        ready, told = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._prefix,
                    *(sys.executable, "-m", "strata_zmq.coordinator", "--control", self.url),
                    *("--broadcast", self.broadcast_url, "--journal", str(self.journal), "--ready-fd", str(told)),
                    *self._options,
                ],
                env=self._env,
                stdout=log,
                stderr=log,
                pass_fds=(told,),
            )
        os.close(told)
        with os.fdopen(ready) as line:
            poll = select.poll()  # select() takes no descriptor above 1023
            poll.register(line, select.POLLIN)
            if not poll.poll(_START_S * 1000) or not (said := line.readline()):
                pytest.fail(f"the coordinator did not start:\n{self.log.read_text()}")
        self.serving_since = time.monotonic()
        # A port 0 becomes the one that every later life takes.
        self.url, self.broadcast_url = json.loads(said)["control"], json.loads(said)["broadcast"]
        return self

    @property
    def pid(self) -> int:
        """The process of this life."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this life."""
        os.kill(self.pid, number)

    def status(self) -> wire.Status:
        """What the coordinator says now, asked by a client that is no worker."""
        if self._client is None:
            self._client = self._dial(self.url)
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
            self.signal(signal.SIGCONT)
            self.process.terminate()
            assert self.process.wait(20) == 0, self.log.read_text()


class Worker:
    """One training process. It appends what it sees to a file of its own, one JSON object a line, with fsync."""

    def __init__(self, worker_id: str, url: str, folder: Path, *prefix: str, **options: Any) -> None:
        self.worker_id = worker_id
        self.log = folder / f"{worker_id}.log"
        self._events = folder / f"{worker_id}.events"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, str(PROGRAM), str(folder), json.dumps(options)],
                env={**os.environ, "COORDINATOR_URL": url, "WORKER_ID": worker_id},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it has seen of one kind so far, in order; a line that is half written does not count."""
        if not self._events.exists():
            return []
        lines = self._events.read_text().split("\n")[:-1]
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    @property
    def committed(self) -> int:
        """The last commit point that it was told of; 0 before the first."""
        return max((event["step"] for event in self.events("committed")), default=0)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def finish(self, timeout_s: float = 60.0) -> None:
        """Wait for a clean end."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.worker_id} did not end; its log:\n{self.log.read_text()}")
        assert code == 0, f"{self.worker_id} ended with {code}; its log:\n{self.log.read_text()}"

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
