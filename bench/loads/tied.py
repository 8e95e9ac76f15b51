"""Owns one promise: a child ends with the process that started it, even if that one is killed.

Run as `python -m strata_zmq.bench.loads.tied PARENT_PID MODULE ARGUMENTS...` it becomes `python -m MODULE ...`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["main", "tie_to"]

_PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> None:
    """Ask the kernel to end this process with `parent`, which must be the one that started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


def main() -> None:
    """Tie this process to its parent, then become another program; the tie survives that."""
    parent, *command = sys.argv[1:]
    tie_to(int(parent))
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
