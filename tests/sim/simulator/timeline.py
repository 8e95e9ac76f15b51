"""Simulated time: what happens when, in one order that depends on nothing but the times and who asked first."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

__all__ = ["Timeline"]


class Timeline:
    """A queue of actions. `now` is in seconds and moves only from one action to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Have `action(*arguments)` run at `when`; of equal times the one asked for first comes first."""
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Have `action(*arguments)` run in `seconds`."""
        self.at(self.now + seconds, action, *arguments)

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> None:
        """Let time pass up to `until`, or until `stop()` is true after an action."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, action, arguments = heapq.heappop(queue)
            action(*arguments)
            if stop is not None and stop():
                return
        self.now = max(self.now, until)
