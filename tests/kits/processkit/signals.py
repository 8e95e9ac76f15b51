"""What a process does with signals, as the system sees it; knows nothing of what the process is."""

from __future__ import annotations

import signal
from pathlib import Path

__all__ = ["catches", "ignores"]


def catches(pid: int, number: signal.Signals) -> bool:
    """Say whether a process has a handler for a signal: one that has just been started does not yet."""
    return _in_mask(pid, "SigCgt", number)


def ignores(pid: int, number: signal.Signals) -> bool:
    """Say whether a process ignores a signal."""
    return _in_mask(pid, "SigIgn", number)


def _in_mask(pid: int, name: str, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith(f"{name}:")).split()[1], 16)
    return bool(mask >> (number - 1) & 1)
