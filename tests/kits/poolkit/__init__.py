"""A pool of children with somebody who owns it: packs calls, turns the pool until something has happened."""

from __future__ import annotations

import itertools
import multiprocessing
import select
import time
from collections.abc import Callable, Collection
from typing import Any

import pytest

from strata_zmq.domain.task import NO_LIMITS, Outcome, Task, TaskLimits
from strata_zmq.functions.codec import Codec, load_result
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.pool.options import PoolOptions, PoolTurn
from strata_zmq.functions.pool.pool import ChildPool

__all__ = ["Owner", "context"]


def context(method: str) -> Any:
    """Return multiprocessing's context of a start method."""
    return multiprocessing.get_context(method)


class Owner:
    """Owns one pool, as an engine or a worker does; use it in a `with`, so that children end even when a test fails."""

    def __init__(self, children: int = 2, method: str = "fork", **options: Any) -> None:
        self.pool = ChildPool(PoolOptions(children, context=context(method), **options))
        self.outcomes: dict[Attempt, Outcome] = {}
        self.doubled: list[Attempt] = []
        self.started: list[Attempt] = []
        self.asking: list[Attempt] = []
        self.returned: list[Attempt] = []
        self.lacking: list[bytes] = []
        self.broken = ""
        self.before: Callable[[list[Attempt]], Collection[Attempt]] | None = None
        self._codec = Codec(by_value=False)
        self._ids = itertools.count(1)
        self._poll = select.poll()
        self._poll.register(self.pool.fileno(), select.POLLIN)

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close(kill=True)

    def task(self, fn: Callable[..., Any], *args: Any, limits: TaskLimits = NO_LIMITS, keep: bool = True) -> Task:
        """Return the first attempt of a new task that calls `fn`; the callable is kept unless told otherwise."""
        function, packed, body, refs = self._codec.pack_call(fn, args, {})
        if keep and packed is not None:
            self.pool.keep(packed.digest, packed.payload)
        task = Task(next(self._ids).to_bytes(16, "big"), "test", function, body, 0, limits, refs)
        task.attempt = 1
        return task

    def offer(self, *tasks: Task) -> list[Attempt]:
        """Offer tasks, and return their keys."""
        self.pool.offer(tasks, time.monotonic())
        return [(task.task_id, task.attempt) for task in tasks]

    def submit(self, fn: Callable[..., Any], *args: Any, limits: TaskLimits = NO_LIMITS) -> Attempt:
        """Offer one call."""
        return self.offer(self.task(fn, *args, limits=limits))[0]

    def turn(self) -> PoolTurn:
        """Turn the pool once, and note what happened."""
        turn = self.pool.turn(time.monotonic(), self.before)
        for outcome in turn.outcomes:
            key = (outcome.task_id, outcome.attempt)
            if key in self.outcomes:
                self.doubled.append(key)
            self.outcomes[key] = outcome
        self.started += turn.started
        self.asking += turn.asking
        self.returned += turn.returned
        self.lacking += turn.lacking
        self.broken = self.broken or turn.broken
        return turn

    def until(self, happened: Callable[[], Any], timeout_s: float = 40.0) -> None:
        """Turn the pool, sleeping in between as its owner would, until `happened()`."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.turn()
            if happened():
                return
            now = time.monotonic()
            if now >= deadline:
                pytest.fail(f"not within {timeout_s:g} s: {happened}; {len(self.outcomes)} outcomes")
            # What happens outside the pool is not told by its descriptor: look again soon.
            wake = min(deadline, now + 0.02, self.pool.next_wakeup() or deadline)
            self._poll.poll(max(0.0, wake - now) * 1000)

    def outcome(self, key: Attempt, timeout_s: float = 40.0) -> Outcome:
        """Wait for the end of one attempt."""
        self.until(lambda: key in self.outcomes, timeout_s)
        return self.outcomes[key]

    def ended(self, keys: Collection[Attempt], timeout_s: float = 40.0) -> list[Outcome]:
        """Wait for the ends of attempts; none of them may have ended twice."""
        self.until(lambda: all(key in self.outcomes for key in keys), timeout_s)
        assert not self.doubled
        return [self.outcomes[key] for key in keys]

    def call(self, fn: Callable[..., Any], *args: Any, limits: TaskLimits = NO_LIMITS) -> Any:
        """Run one call to its end, and return what it returned or raise what it raised."""
        return load_result(self.outcome(self.submit(fn, *args, limits=limits)))
