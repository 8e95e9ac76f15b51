"""A second set of books: who has which attempt, as events and effects tell it. The core's own are not looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from strata_zmq.domain.service import ServiceTime, credit
from strata_zmq.domain.task import Task
from strata_zmq.functions.dispatch import events as said
from strata_zmq.functions.dispatch.core import Core
from strata_zmq.functions.dispatch.effects import Effects
from strata_zmq.functions.dispatch.events import Attempt

__all__ = ["Books", "Post"]


class Post:
    """What one session has, and may have."""

    def __init__(self, event: said.WorkerEnlisted) -> None:
        self.worker_id = event.worker_id
        self.slots = event.slots
        self.mode = event.mode
        self.labels = dict(event.labels)
        self.python = event.python
        self.want = 0
        self.retiring = False
        self.attempts: dict[Attempt, Task] = {}
        self.used: Counter[str] = Counter()
        self.nbytes = 0

    def take(self, task: Task) -> None:
        self.attempts[(task.task_id, task.attempt)] = task
        self.used.update(task.limits.labels)
        self.nbytes += task.nbytes

    def drop(self, attempt: Attempt) -> bool:
        task = self.attempts.pop(attempt, None)
        if task is None:
            return False
        self.used.subtract(task.limits.labels)
        self.nbytes -= task.nbytes
        return True


class Books:
    """Sessions and what they have, from what is said to the core and by it."""

    def __init__(self) -> None:
        self.posts: dict[int, Post] = {}
        self.begun: set[Attempt] = set()
        """Attempts that a worker has told to have started, while it had them."""
        self.starts: Counter[bytes] = Counter()
        self.had: set[Attempt] = set()
        """What workers had when this step began."""
        self.recovered: set[bytes] = set()
        """Tasks that may have begun in an earlier life."""
        self.current: set[int] = set()
        """Outcomes of this step whose sender had the attempt, and whose attempt was its task's."""
        self._times: dict[bytes, ServiceTime] = {}
        self._ghosts: set[Attempt] = set()
        """What workers have and is no longer theirs, when a step ends: nothing is measured by it."""
        self._kept: list[object] = []

    def credit(self, slots: int, function: bytes) -> int:
        """Return the credit that measured times allow."""
        return credit(slots, self._times.get(function))

    def open(self, events: Sequence[said.Event], core: Core, counts: Counter[str]) -> None:
        """Take a step's events, in their order."""
        self.current = set()
        self._kept = []
        self.had = self.have()
        for event in events:
            if isinstance(event, said.WorkerEnlisted):
                self._enlist(event, core, counts)
            elif isinstance(event, said.WorkerLost):
                self.posts.pop(event.session, None)
            elif isinstance(event, said.Wanted | said.WorkerRetiring | said.Started | said.Finished | said.Returned):
                post = self.posts.get(event.session)
                if post is not None:
                    self._hear(post, event, counts)

    def have(self) -> set[Attempt]:
        """Return the attempts that workers have."""
        return {attempt for post in self.posts.values() for attempt in post.attempts}

    def close(self, effects: Effects) -> None:
        """Take the rest of a step: who is gone."""
        for session, _ in effects.lost:
            self.posts.pop(session, None)
        self._ghosts = {
            attempt
            for session, post in self.posts.items()
            for attempt, task in post.attempts.items()
            if task.attempt != attempt[1] or task.worker != session
        }

    def _hear(self, post: Post, event: said.Event, counts: Counter[str]) -> None:
        if isinstance(event, said.Wanted):
            post.want = event.count
        elif isinstance(event, said.WorkerRetiring):
            post.retiring = True
        elif isinstance(event, said.Started):
            for attempt in event.attempts:
                self._begin(post, attempt)
        elif isinstance(event, said.Returned):
            for attempt in event.attempts:
                counts["returned"] += post.drop(attempt)
        elif isinstance(event, said.Finished):
            self._finish(post, event, counts)

    def _finish(self, post: Post, event: said.Finished, counts: Counter[str]) -> None:
        times: dict[bytes, list[float]] = {}
        for outcome in event.outcomes:
            attempt = (outcome.task_id, outcome.attempt)
            task = post.attempts.get(attempt)
            if task is None:
                counts["late"] += 1
                continue
            if outcome.started:
                self._begin(post, attempt)
            post.drop(attempt)
            self.current.add(id(outcome))
            self._kept.append(outcome)
            mine = task.outcome is outcome or (outcome.kind == "error" and task.outcome is None)
            if outcome.service_s > 0 and outcome.kind != "failure" and mine and attempt not in self._ghosts:
                times.setdefault(task.function, []).append(outcome.service_s)
        for function, seconds in times.items():
            self._times.setdefault(function, ServiceTime()).add_all(seconds)

    def _begin(self, post: Post, attempt: Attempt) -> None:
        if attempt in post.attempts and attempt not in self.begun:
            self.begun.add(attempt)
            self.starts[attempt[0]] += 1

    def _enlist(self, event: said.WorkerEnlisted, core: Core, counts: Counter[str]) -> None:
        if event.session not in core._workers.by_session:
            # It came and went in this step.
            return
        for session in [key for key, post in self.posts.items() if post.worker_id == event.worker_id]:
            del self.posts[session]
        post = self.posts[event.session] = Post(event)
        # Of an attempt that is named twice the first word counts.
        phases = {(task_id, attempt): phase for task_id, attempt, phase in reversed(event.held)}
        for attempt in core.held_by(event.session):
            task = core.find(attempt[0])
            if task is not None and attempt in phases:
                post.take(task)
                counts["kept after a restart" if attempt[0] in self.recovered else "kept"] += 1
                if phases[attempt] != "waiting":
                    self._begin(post, attempt)
