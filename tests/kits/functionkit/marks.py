"""Calls that leave a mark which cannot be left twice, for tests that count how often something ran."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["mark_slowly", "tally", "tally_and_wait"]


def mark_slowly(path: str) -> None:
    """Make a folder, after a while that is too long for other calls to be sent ahead; fails where it is there."""
    time.sleep(0.02)
    Path(path).mkdir()


def tally(path: str, word: str, gate: str = "") -> str:
    """Append a line with `word`, in one write; with a `gate`, return once that file is there."""
    with Path(path).open("a") as lines:
        lines.write(f"{word}\n")
    while gate and not Path(gate).exists():
        time.sleep(0.002)
    return word


def tally_and_wait(path: str, word: str, gate: str) -> str:
    """The same after a while that is too long for other calls to be asked for ahead of its end."""
    time.sleep(0.02)
    return tally(path, word, gate)
