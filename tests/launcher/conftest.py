"""Runs `strata run` as a person would: as a process, with its own temporary folder, and a mark on all its children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STEPS = """
import os, sys, time
name, lives = os.environ["WORKER_ID"], int(os.environ["STRATA_RESTARTS"])
print("life", lives, "pid", os.getpid(), flush=True)
"""


class Run:
    """One `strata run` process; `mark` is in the environment of everything that it starts."""

    def __init__(self, folder: Path, temporary: Path, args: list[str], env: dict[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.folder, self.temporary = folder, temporary
        self._out, self._err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "strata_zmq", "run", *args],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=os.environ | {"STRATA_TEST_MARK": self.mark, "TMPDIR": str(temporary)} | env,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def out(self) -> str:
        return self._out.read_text(errors="backslashreplace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="backslashreplace")

    def wait(self, timeout_s: float = 40.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"strata run did not end within {timeout_s} s; {self.story()}")

    def story(self) -> str:
        return f"standard output:\n{self.out}\nstandard error:\n{self.err}"

    __str__ = story  # as a message that is made when it is needed

    def processes(self) -> dict[int, str]:
        """Every running process that carries the mark, but the supervisor itself: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.pid:
                continue
            try:
                if self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def pid_of(self, part: str) -> int:
        """The one process whose command line holds `part`."""
        pids = [pid for pid, command in self.processes().items() if part in command and "child.py" not in command]
        assert len(pids) == 1, (part, self.processes(), self.story())
        return pids[0]

    def leftovers(self) -> list[str]:
        """What is still there of this run: processes and temporary files."""
        return [*self.processes().values(), *map(str, self.temporary.iterdir())]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """`launch(*args, **env)` starts `strata run *args` in tmp_path; ends it after the test, and whatever it left."""
    runs: list[Run] = []
    temporary = Path(tempfile.mkdtemp(prefix="st-"))  # short: socket paths have 107 bytes

    def start(*args: object, **env: str) -> Run:
        run = Run(tmp_path, temporary, [str(arg) for arg in args], env)
        runs.append(run)
        return run

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        deadline = time.monotonic() + 10
        while run.processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in run.processes():
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """`script(code)` writes a training script; `name`, `lives`, os, sys and time are there."""

    def write(code: str, name: str = "train.py") -> Path:
        path = tmp_path / name
        path.write_text(STEPS + code)
        return path

    return write
