"""One process of the package, started as a supervisor starts it; it serves when the object is there."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Served"]

_START_S = 30.0


class Served:
    """`python -m module arguments... --ready-fd N`, behind `prefix`. `told` is what it said when it served."""

    def __init__(
        self,
        log: Path,
        module: str,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.log = log
        reading, writing = os.pipe()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", module, *arguments, "--ready-fd", str(writing)],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(writing,),
            )
        os.close(writing)
        with os.fdopen(reading) as line:
            poll = select.poll()  # select() takes no descriptor above 1023
            poll.register(line, select.POLLIN)
            said = line.readline() if poll.poll(_START_S * 1000) else ""
        if not said:
            self.kill()
            pytest.fail(f"{module} did not start:\n{log.read_text()}")
        self.told: dict[str, Any] = json.loads(said)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 40.0) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, unless it has: it must end well, and no life that wrote its log may have lost its way."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            assert self.wait() == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text(), self.log.read_text()
