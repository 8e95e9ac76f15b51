"""Who wants to be told the end of which task, and until when; nothing of what is told."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from math import inf

__all__ = ["Watches"]

_SLACK = 1024


class Watches:
    """Clients by the task that they watch. A watch that has come to nothing is swept when half of them may have."""

    def __init__(self) -> None:
        self._by_task: dict[bytes, dict[str, float]] = {}
        self._ends: list[tuple[float, int, str, tuple[bytes, ...]]] = []
        self._number = 0
        self._swept = 0

    def __bool__(self) -> bool:
        return bool(self._by_task)

    def add(self, client: str, task_ids: Iterable[bytes], until: float) -> None:
        """Let a client watch tasks; a watch that it has already is not shortened."""
        ids = tuple(task_ids)
        if not ids:
            return
        for task_id in ids:
            clients = self._by_task.setdefault(task_id, {})
            clients[client] = max(until, clients.get(client, until))
        self._number += 1
        heappush(self._ends, (until, self._number, client, ids))
        if len(self._ends) > 2 * self._swept + _SLACK:
            self._ends = [entry for entry in self._ends if self._says(entry[2], entry[3])]
            heapify(self._ends)
            self._swept = len(self._ends)

    def pop(self, task_id: bytes) -> Iterable[str]:
        """Return who watched a task; nobody does any longer."""
        return self._by_task.pop(task_id, ())

    def expire(self, now: float) -> None:
        """End the watches that are over by now."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            _, _, client, ids = heappop(ends)
            for task_id in ids:
                clients = self._by_task.get(task_id)
                if clients is not None and clients.get(client, inf) <= now:
                    del clients[client]
                    if not clients:
                        del self._by_task[task_id]

    def next_wakeup(self) -> float:
        """Return when a watch is over, at the earliest; inf: there is none."""
        return self._ends[0][0] if self._ends and self._by_task else inf

    def _says(self, client: str, ids: tuple[bytes, ...]) -> bool:
        return any(client in self._by_task.get(task_id, ()) for task_id in ids)
