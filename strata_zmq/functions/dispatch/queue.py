"""Tasks that wait for a worker: one queue for each need (labels and Python version), and nothing of who serves it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from strata_zmq.domain.task import Task, TaskLimits

__all__ = ["LANES_MAX", "Lane", "Need", "Queue", "need_of"]

Need = tuple[tuple[tuple[str, int], ...], str]
"""(labels in the order of their names, Python minor version)."""

_PLAIN: Need = ((), "")
_STALE_MIN = 64
LANES_MAX = 1000
"""How many different needs tasks may wait for at a time: every step looks at the head of each."""


def need_of(limits: TaskLimits) -> Need:
    """Return what a worker must have for a task with these limits."""
    labels = limits.labels
    if not labels and not limits.python:
        return _PLAIN
    return tuple(sorted((name, count) for name, count in labels.items() if count > 0)), limits.python


class Lane:
    """The waiting tasks of one need. Entries of tasks that have ended are `stale`, and skipped when they come up."""

    __slots__ = ("labels", "need", "python", "stale", "tasks")

    def __init__(self, need: Need) -> None:
        self.need = need
        self.labels, self.python = need
        self.tasks: deque[Task] = deque()
        self.stale = 0

    def head(self) -> Task | None:
        """Return the task whose turn it is, None if none waits."""
        tasks = self.tasks
        while tasks:
            task = tasks[0]
            if task.state == "QUEUED":
                return task
            tasks.popleft()
            self.stale -= 1
        return None


class Queue:
    """All lanes. A task is in at most one lane, and in none while a worker has it."""

    def __init__(self) -> None:
        self._plain = Lane(_PLAIN)
        self._lanes: dict[Need, Lane] = {_PLAIN: self._plain}

    def lane(self, limits: TaskLimits) -> Lane:
        """Return the lane for tasks with these limits."""
        need = need_of(limits)
        lane = self._lanes.get(need)
        if lane is None:
            lane = self._lanes[need] = Lane(need)
        return lane

    def has_room(self, limits: TaskLimits) -> bool:
        """Whether one more task with these limits may wait: with others of its need, or beside not too many needs."""
        return len(self._lanes) < LANES_MAX or need_of(limits) in self._lanes

    def waiting(self) -> list[Lane]:
        """Return the lanes in which a task waits, that of the oldest one first; empty ones are dropped.

        Of two that are equally old the one with a need is first: it fits in fewer places.
        """
        if len(self._lanes) == 1:
            return [self._plain] if self._plain.head() is not None else []
        found: list[tuple[float, bool, Lane]] = []
        for lane in list(self._lanes.values()):
            head = lane.head()
            if head is not None:
                found.append((head.submitted_at, lane is self._plain, lane))
            elif lane is not self._plain:
                del self._lanes[lane.need]
        found.sort(key=lambda entry: entry[:2])
        return [lane for _, _, lane in found]

    def back(self, task: Task) -> None:
        """Let a task wait behind all others."""
        self.lane(task.limits).tasks.append(task)

    def front(self, tasks: Sequence[Task]) -> None:
        """Let tasks wait before all others, in their order."""
        for task in reversed(tasks):
            self.lane(task.limits).tasks.appendleft(task)

    def left(self, task: Task) -> None:
        """Note that a waiting task has ended: its entry is stale. Where too many are, they are cleared away."""
        lane = self.lane(task.limits)
        lane.stale += 1
        if lane.stale > _STALE_MIN and lane.stale * 2 > len(lane.tasks):
            lane.tasks = deque(entry for entry in lane.tasks if entry.state == "QUEUED")
            lane.stale = 0

    def each(self, wanted: Callable[[Task], bool]) -> list[Task]:
        """Return the waiting tasks of which `wanted` says so, lane by lane."""
        return [task for lane in self._lanes.values() for task in lane.tasks if task.state == "QUEUED" and wanted(task)]

    def all(self) -> Iterable[Task]:
        """Return all waiting tasks, lane by lane; for tests."""
        return self.each(lambda _: True)
