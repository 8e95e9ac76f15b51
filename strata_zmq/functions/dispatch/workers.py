"""Workers by session: what each holds, its leases, its labels; never which task it gets next."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from strata_zmq.domain.task import Task
from strata_zmq.functions.dispatch.config import CoreConfig
from strata_zmq.functions.dispatch.events import Attempt, Mode, WorkerEnlisted
from strata_zmq.functions.dispatch.queue import Lane

__all__ = ["Worker", "Workers"]

_GRACE = 0.25
"""The part of a lease by which leases are extended at least, when the dispatcher itself was away."""
_AWAY = 0.5
"""The part of a lease after which a pause between two steps counts as having been away. More than _GRACE: a core that
is woken only by the end of that grace would else never end a lease."""


class Worker:
    """One session of a worker."""

    __slots__ = (
        "expires_at",
        "free",
        "ghosts",
        "held",
        "labels",
        "mode",
        "moved_at",
        "nbytes",
        "python",
        "recall_until",
        "rests_until",
        "retiring",
        "session",
        "slots",
        "stalled",
        "started",
        "want",
        "worker_id",
    )

    def __init__(self, event: WorkerEnlisted, now: float, lease_s: float) -> None:
        self.session = event.session
        self.worker_id = event.worker_id
        self.slots = event.slots
        self.mode: Mode = event.mode
        self.python = event.python
        self.labels = dict(event.labels)
        self.free = dict(event.labels)
        """What is left of its labels."""
        self.held: dict[bytes, Task] = {}
        """Its tasks that have not ended, in the order of their assignment."""
        self.ghosts: dict[Attempt, Task] = {}
        """Attempts that are no longer their task's, and hold their place until the worker speaks of them."""
        self.started = 0
        """How many of `held` are RUNNING."""
        self.nbytes = 0
        """Bytes of payload of `held` and `ghosts`."""
        self.want = 0
        """How many tasks a pulling worker is ready for."""
        self.retiring = False
        self.stalled = False
        """Its prefetched tasks were asked back, and nothing has ended at it since: it gets none beyond its slots."""
        self.recall_until = inf
        """When a recall has to be answered; inf: none is open."""
        self.rests_until = -inf
        """It has refused tasks: until then it gets none."""
        self.moved_at = now
        self.expires_at = now + lease_s

    def take(self, task: Task) -> None:
        """Hold a task that this session has already, as told when it enlisted."""
        task.worker = self.session
        self.held[task.task_id] = task
        self.nbytes += task.nbytes
        if task.state == "RUNNING":
            self.started += 1
        self.use(task)

    def drop(self, task: Task) -> None:
        """Hold a task no longer; its place is free."""
        del self.held[task.task_id]
        self.nbytes -= task.nbytes
        if task.state == "RUNNING":
            self.started -= 1
        if self.labels:
            self.give_back(task)

    def haunt(self, task: Task) -> None:
        """Hold a task no longer, but keep its place: the worker may still be at it."""
        del self.held[task.task_id]
        if task.state == "RUNNING":
            self.started -= 1
        self.ghosts[(task.task_id, task.attempt)] = task

    def lay(self, attempt: Attempt) -> bool:
        """Free the place of an attempt that was kept; False if there is none."""
        task = self.ghosts.pop(attempt, None)
        if task is None:
            return False
        self.nbytes -= task.nbytes
        self.give_back(task)
        return True

    def fits(self, lane: Lane) -> bool:
        """Whether the worker has what a lane's tasks need, and free."""
        if lane.python and lane.python != self.python:
            return False
        free = self.free
        return all(free.get(name, 0) >= count for name, count in lane.labels)

    def use(self, task: Task) -> None:
        """Take what a task needs from the free labels."""
        free = self.free
        for name, count in task.limits.labels.items():
            if count > 0:
                free[name] = free.get(name, 0) - count

    def give_back(self, task: Task) -> None:
        """Give a task's labels back."""
        free = self.free
        for name, count in task.limits.labels.items():
            if count > 0:
                free[name] += count


class Workers:
    """All sessions, in the order in which they began."""

    def __init__(self, config: CoreConfig) -> None:
        self._lease_s = config.lease_s
        self.by_session: dict[int, Worker] = {}
        self._sessions: dict[str, int] = {}
        self._lease_at = inf
        self._stepped_at = -inf

    def enlist(self, event: WorkerEnlisted, now: float) -> Worker:
        """Begin a session."""
        worker = Worker(event, now, self._lease_s)
        self.by_session[event.session] = worker
        self._sessions[event.worker_id] = event.session
        self._lease_at = min(self._lease_at, worker.expires_at)
        return worker

    def end(self, session: int) -> Worker | None:
        """End a session; what it held is the caller's to place. None if there is none."""
        worker = self.by_session.pop(session, None)
        if worker is not None and self._sessions.get(worker.worker_id) == session:
            del self._sessions[worker.worker_id]
        return worker

    def session_of(self, worker_id: str) -> int | None:
        """Return the session of a worker's process."""
        return self._sessions.get(worker_id)

    def has_python(self, python: str) -> bool:
        """Whether no worker is there, or one with this Python version."""
        workers = self.by_session
        return not workers or any(worker.python == python for worker in workers.values())

    def note_step(self, now: float) -> None:
        """Begin a step: after a long pause the silence may be the dispatcher's own, and no lease ends at once."""
        away = now - self._stepped_at
        self._stepped_at = now
        if _AWAY * self._lease_s < away < inf:
            grace = now + _GRACE * self._lease_s
            for worker in self.by_session.values():
                worker.expires_at = max(worker.expires_at, grace)

    def expired(self, now: float) -> Sequence[Worker]:
        """Return those whose lease has run out by `now`; after a step's events, which renew leases."""
        if now < self._lease_at:
            return ()
        ended = [worker for worker in self.by_session.values() if worker.expires_at <= now]
        rest = [worker.expires_at for worker in self.by_session.values() if worker.expires_at > now]
        self._lease_at = min(rest, default=inf)
        return ended

    def next_wakeup(self) -> float:
        """Return when a lease may end, at the earliest; inf: none will."""
        return self._lease_at if self.by_session else inf
