"""Functions that tests run in children; they have names that a child can import."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
import signal
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "add",
    "allocate",
    "allocate_unlimited",
    "append",
    "babble",
    "close_everything",
    "environment",
    "fault",
    "hang_until",
    "hold_the_interpreter",
    "kill_me",
    "leave",
    "mean",
    "pid",
    "raise_in_initializer",
    "say_and_die",
    "sleep",
    "touch_and_wait",
]


def add(left: int, right: int) -> int:
    """Return a sum."""
    return left + right


def pid() -> int:
    """Return the child's process id."""
    return os.getpid()


def sleep(seconds: float) -> float:
    """Take long."""
    time.sleep(seconds)
    return seconds


def environment(name: str) -> str | None:
    """Return a variable of the child's environment."""
    return os.environ.get(name)


def append(path: str, text: str) -> None:
    """Append a line to a file, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def touch_and_wait(started: str, go_on: str) -> int:
    """Say that the call runs, and wait for a file."""
    Path(started).touch()
    hang_until(go_on)
    return os.getpid()


def hang_until(path: str) -> None:
    """Wait for a file."""
    while not Path(path).exists():
        time.sleep(0.002)


def kill_me(number: int = signal.SIGKILL) -> None:
    """Die by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(30)


def leave(code: int) -> None:
    """End the process in the middle of the call."""
    os._exit(code)


def say_and_die(text: str) -> None:
    """Print, and be killed."""
    print(text, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def fault() -> None:
    """Read from address 0."""
    ctypes.string_at(0)


def hold_the_interpreter() -> int:
    """Compute for hours in one instruction of the interpreter, which no signal handler of Python's interrupts."""
    return sum(itertools.repeat(1, 10**13))


def allocate(nbytes: int) -> int:
    """Use memory."""
    return len(bytearray(nbytes))


def allocate_unlimited(nbytes: int, path: str) -> None:
    """Lift the process's own limit, use memory, and wait for a file."""
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept = np.ones(nbytes, np.uint8)
    hang_until(path)
    del kept


def babble() -> None:
    """Write into the process's own sockets, among them the one to its parent."""
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"babble")
    time.sleep(30)


def close_everything() -> int:
    """Close all descriptors but the standard ones, as programs that become services do."""
    os.closerange(3, 1000)
    return os.getpid()


def mean(array: Any) -> float:
    """Return the mean of an array."""
    return float(np.mean(array))


def raise_in_initializer() -> None:
    """Fail."""
    raise ValueError("no such device")
