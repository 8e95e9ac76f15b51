"""Calls that leave a mark which cannot be left twice, for tests that count how often something ran."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["mark_slowly"]


def mark_slowly(path: str) -> None:
    """Make a folder, after a while that is too long for other calls to be sent ahead; fails where it is there."""
    time.sleep(0.02)
    Path(path).mkdir()
