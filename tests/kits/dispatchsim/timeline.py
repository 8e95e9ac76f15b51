"""Virtual time: what happens when, and how messages get lost, doubled and late. One seed, one course."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

__all__ = ["Timeline"]


class Timeline:
    """A heap of calls. `now` moves only from one call to the next."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.now = 1000.0
        self.calm = False
        """No more faults."""
        self.lossy = self.chance.choice((0.0, 0.0, 0.01, 0.05))
        self.doubling = self.chance.choice((0.0, 0.0, 0.02, 0.1))
        self.slow_s = self.chance.choice((0.0005, 0.005, 0.05))
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._arrived: dict[tuple[int, int], float] = {}

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Have something called later."""
        self._number += 1
        heappush(self._heap, (self.now + seconds, self._number, call, args))

    def step(self) -> bool:
        """Make the next call; False where there is none."""
        if not self._heap:
            return False
        self.now, _, call, args = heappop(self._heap)
        call(*args)
        return True

    def send(self, connection: tuple[int, int], take: Callable[..., None], *args: Any) -> None:
        """Carry a message over a connection: in order, late, and under a storm not at all or twice."""
        if not self.calm and self.chance.random() < self.lossy:
            return
        times = 2 if not self.calm and self.chance.random() < self.doubling else 1
        for _ in range(times):
            at = self.now + self.slow_s * (0.2 + self.chance.random())
            # What was sent later arrives later.
            at = self._arrived[connection] = max(at, self._arrived.get(connection, 0.0))
            self.after(at - self.now, take, *args)
