"""When something is due: a heap whose entries are looked at again when their time comes, never taken out before."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Literal

from strata_zmq.domain.task import FINAL, Task

__all__ = ["Deadlines", "Due"]

Due = Literal["queue", "total", "attempt", "keep"]
"""A first start, an end, the end of a started attempt, a result's time to go."""

_SLACK = 1024


class Deadlines:
    """Times of tasks. An entry that no longer says anything is skipped; when half of them may be so, they are swept."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Due, Task, int]] = []
        self._number = 0
        self._swept = 0

    def add(self, at: float, due: Due, task: Task) -> None:
        """Note a time of a task's present attempt."""
        heap = self._heap
        self._number += 1
        heappush(heap, (at, self._number, due, task, task.attempt))
        if len(heap) > 2 * self._swept + _SLACK:
            heap[:] = [entry for entry in heap if _says(entry[2], entry[3], entry[4])]
            heapify(heap)
            self._swept = len(heap)

    def pass_by(self, now: float, take: Callable[[Due, Task], None]) -> None:
        """Call `take` with everything that is due by `now` and still says something, earliest first."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, due, task, attempt = heappop(heap)
            if _says(due, task, attempt):
                take(due, task)

    def next(self) -> float | None:
        """Return the earliest time that still says something."""
        heap = self._heap
        while heap:
            at, _, due, task, attempt = heap[0]
            if _says(due, task, attempt):
                return at
            heappop(heap)
        return None


def _says(due: Due, task: Task, attempt: int) -> bool:
    state = task.state
    if due == "keep":
        return state in FINAL and state != "EXPIRED"
    if due == "queue":
        # A task that was requeued after a start has spent from a budget.
        return state == "QUEUED" and task.budget is None
    if due == "attempt":
        return state == "RUNNING" and task.attempt == attempt
    return state not in FINAL
