"""Small functions for children to run: importable wherever the kits are, whatever started the child."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

__all__ = ["add", "boom", "gate", "kill_self", "note", "pid", "say", "scribble", "total", "wait_for"]


def add(*numbers: int, **more: int) -> int:
    """Return the sum of all arguments."""
    return sum(numbers) + sum(more.values())


def boom(text: str) -> None:
    """Raise a LookupError."""
    raise LookupError(text)


def pid(_: object = None) -> int:
    """Return the child's process id."""
    return os.getpid()


def kill_self(*_: object) -> None:
    """End as if the system had killed the child."""
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path: str) -> str:
    """Return when there is a file at `path`."""
    while not Path(path).exists():
        time.sleep(0.002)
    return path


def gate(folder: str, name: str) -> int:
    """Say in `folder` that `name` runs, then wait for the file `open` there; return the child's process id."""
    (Path(folder) / name).write_text(str(os.getpid()))
    wait_for(f"{folder}/open")
    return os.getpid()


def note(folder: str, number: int, failing: int = -1) -> int:
    """Leave a file named `number`; raise for the `failing` one."""
    (Path(folder) / str(number)).touch()
    if number == failing:
        raise LookupError(f"{number} is the one")
    return number


def say(text: str) -> None:
    """Print."""
    print(text)


def total(*arrays: np.ndarray) -> float:
    """Return the sum of all elements."""
    return float(sum(array.sum() for array in arrays))


def scribble(array: np.ndarray) -> np.ndarray:
    """Overwrite the array and return it."""
    array[:] = 7
    return array
