"""What a test waits for while a job is done harm to, and the workers that write down what they see."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from processkit.trainer import Trainer

__all__ = ["PROGRAM", "Worker", "let_pass", "until"]

T = TypeVar("T")

PROGRAM = Path(__file__).parents[1] / "programs" / "train_and_tell.py"


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


class Worker(Trainer):
    """One training process; every line that it writes, it writes with fsync."""

    @property
    def committed(self) -> int:
        """The last commit point that it was told of; 0 before the first."""
        return max((event["step"] for event in self.events("committed")), default=0)
