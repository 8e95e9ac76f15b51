"""The functions that benchmarks of the function plane call. They stand in a module, so that every system's children can
import them, and need nothing of this package.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

__all__ = ["die", "nbytes", "nothing", "sleep_for", "when_done"]


def nothing() -> None:
    """Do nothing: what is measured is the way there and back."""


def sleep_for(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def when_done(seconds: float) -> float:
    """Sleep, and return the monotonic time of the end: this machine's clock, the same in all processes."""
    time.sleep(seconds)
    return time.monotonic()


def nbytes(array: Any) -> int:
    """Return the size of an array, after one look at its last element."""
    return int(array.nbytes) + 0 * int(array[-1])


def die(file: str) -> None:
    """Write the monotonic time into `file`, then be killed; without a file, do nothing."""
    if not file:
        return
    with open(file, "w") as told:  # noqa: PTH123 - a peer's interpreter pays for no further import
        told.write(repr(time.monotonic()))
    os.kill(os.getpid(), signal.SIGKILL)
