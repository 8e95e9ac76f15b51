"""A training process that writes down what it sees: how it is started, read, let go on and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Trainer", "events"]


class Trainer:
    """One training process. It appends what it sees to a file of its own, one JSON object a line."""

    def __init__(
        self,
        folder: Path,
        worker_id: str,
        url: str,
        program: Path,
        options: dict[str, Any],
        *,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.worker_id = folder, worker_id
        self.log = folder / f"{worker_id}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, str(program), str(folder), json.dumps(options)],
                env={**os.environ, "COORDINATOR_URL": url, "WORKER_ID": worker_id, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self.process.pid

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it has seen of one kind so far, in order."""
        return events(self.folder, self.worker_id, kind)

    def go(self, gate: str) -> None:
        """Open a gate that the program waits at (for this process only)."""
        (self.folder / f"{self.worker_id}.{gate}").touch()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

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
            self.kill()


def events(folder: Path, worker_id: str, kind: str) -> list[dict[str, Any]]:
    """What a training process has seen of one kind so far, in order; a line that is half written does not count."""
    path = folder / f"{worker_id}.events"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]
