"""Owns the life of a child process under measurement: started, ready, its CPU time read, ended; knows no protocol."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strata_zmq.errors import DeadlineExceededError, PeerLostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Child", "child_process", "cpu_seconds", "end"]

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0


class Child:
    """A running child; `ready` is the JSON object that it announced itself with."""

    def __init__(self, process: subprocess.Popen[bytes], ready: dict[str, Any]) -> None:
        self._process = process
        self.pid = process.pid
        self.ready = ready

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads so far."""
        return cpu_seconds(self.pid)

    def loop_seconds(self) -> float:
        """Return how long its first thread, which holds a server's loop, has run or waited for a core so far.

        What is missing to the wall clock is time in which it had nothing to do.
        """
        ran, waited, _ = Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()
        return (int(ran) + int(waited)) / 1e9

    def memory_bytes(self) -> tuple[int, int]:
        """Return its resident memory, now and at its peak."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        found = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        return int(found["VmRSS"][0]) * 1024, int(found["VmHWM"][0]) * 1024

    def kill(self) -> None:
        """End it at once, as `kill -9` does, and wait until it is gone."""
        self._process.kill()
        self._process.wait()


@contextmanager
def child_process(module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> Iterator[Child]:
    """Run `python -m module arguments... --ready-fd N`, yield it once it has announced itself, and end it afterwards.

    Raises PeerLostError with its last words if it ends instead, DeadlineExceededError if it stays silent.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as errors:
        tied = f"{__package__}.tied"
        command = [sys.executable, "-m", tied, str(os.getpid()), module, *arguments, "--ready-fd", str(writing)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, pass_fds=(writing, *pass_fds)
            )
        finally:
            os.close(writing)
        try:
            with os.fdopen(reading, "rb") as announced:
                waiting = select.poll()  # select() would refuse descriptors above 1023
                waiting.register(announced, select.POLLIN)
                if not waiting.poll(_START_TIMEOUT_S * 1000):
                    raise DeadlineExceededError(f"{module} was not ready in {_START_TIMEOUT_S} s", missing=(module,))
                line = announced.readline()
            if not line:
                process.wait(_STOP_TIMEOUT_S)
                errors.seek(0)
                raise PeerLostError(f"{module} did not start: {errors.read().decode(errors='replace').strip()}")
            yield Child(process, json.loads(line))
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and take it where it does not."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of `pid`, to the nanosecond (the clock ticks of `stat` are 10 ms)."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            spent += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
    return spent / 1e9
