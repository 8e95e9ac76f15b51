"""Who waits for which call of a local engine: resolvers by task id, and the shared memory that their calls hold.

It decides nothing about calls and runs none; one thread delivers, others only add.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from strata_zmq.domain.task import FINAL, Outcome, Task
from strata_zmq.errors import ResultExpiredError, from_wire
from strata_zmq.functions.calls import Resolver
from strata_zmq.functions.dispatch.effects import Verdicts
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.pool.segments import SegmentPool, SharedParts

__all__ = ["Waiting"]

_FORGET_BYTES = 256 * 1024
"""So much of results that have arrived may be held by the core until its next step."""
_RESULT_BYTES = 256
"""What a result costs beside its body."""
_LAST_MAX = 8
"""So many results may be delivered before the core is told of them, ..."""
_LAST_BYTES = 64 * 1024
"""... each as long as this."""


class Waiting:
    """The resolvers of calls that have not ended.

    `live` has one for each, `parts` the shared memory of those with large buffers; callers add to both. `seen` are
    calls whose result has arrived: the core may forget them.
    """

    def __init__(self, segments: SegmentPool) -> None:
        self.live: dict[bytes, Resolver] = {}
        self.parts: dict[bytes, SharedParts] = {}
        self.seen: list[bytes] = []
        self._seen_bytes = 0
        self._segments = segments
        self._followers: dict[bytes, list[Resolver]] = {}

    @property
    def over(self) -> bool:
        """Whether nobody waits for anything."""
        return not (self.live or self._followers)

    @property
    def much_seen(self) -> bool:
        """Whether what the core may forget is too much to wait for its next step."""
        return self._seen_bytes >= _FORGET_BYTES

    def take_seen(self) -> list[bytes]:
        """Return the calls whose result has arrived since the last time."""
        seen, self.seen, self._seen_bytes = self.seen, [], 0
        return seen

    def begin(self, attempts: list[Attempt]) -> Collection[Attempt]:
        """Say that these are about to start; return those that were cancelled meanwhile and must not."""
        live = self.live.get
        cancelled = []
        for attempt in attempts:
            resolver = live(attempt[0])
            if resolver is None or not resolver.begin():
                cancelled.append(attempt)
        return cancelled

    def deliver(self, tasks: Sequence[Task]) -> None:
        """Resolve the calls of tasks that have ended."""
        take = self.live.pop
        for task in tasks:
            task_id = task.task_id
            resolver = take(task_id, None)
            outcome = task.outcome
            if self.parts:
                self.release((task_id,))
            if outcome is not None:
                if resolver is not None:
                    resolver.resolve(outcome)
                if self._followers:
                    for follower in self._followers.pop(task_id, ()):
                        follower.resolve(outcome)
                body = outcome.body
                self._seen_bytes += _RESULT_BYTES + (len(body) if type(body) is bytes else _FORGET_BYTES)
            self.seen.append(task_id)

    def deliver_last(self, outcomes: list[Outcome]) -> bool:
        """Resolve the calls of these outcomes if no other is left and nothing is to be decided about them.

        False, and nothing is resolved, where there is: an exception may be tried again, a large result costs memory.
        """
        live = self.live
        if not outcomes or len(outcomes) != len(live) or len(outcomes) > _LAST_MAX or self._followers or self.parts:
            return False
        for outcome in outcomes:
            body = outcome.body
            if outcome.kind != "ok" or outcome.task_id not in live:
                return False
            if type(body) is not bytes or len(body) > _LAST_BYTES:
                return False
        for outcome in outcomes:
            live.pop(outcome.task_id).resolve(outcome)
        return True

    def settle(self, verdict: Verdicts, submitted: Sequence[Task], find: Callable[[bytes], Task | None]) -> None:
        """Settle the calls that are no new tasks: refused ones, and those whose key stands for another."""
        for refusal in verdict.refused:
            resolver = self._take(submitted[refusal.index])
            if resolver is not None:
                resolver.fail(from_wire(refusal.code, refusal.message))
        for index, existing in verdict.existing:
            resolver = self._take(submitted[index])
            if resolver is not None:
                self._follow(resolver, existing, find(existing), submitted[index].key)

    def fail_all(self, error: BaseException) -> None:
        """Fail whoever waits."""
        left = [*self.live.values(), *(one for many in self._followers.values() for one in many)]
        self.live.clear()
        self._followers.clear()
        for resolver in left:
            resolver.fail(error)

    def release(self, task_ids: Collection[bytes]) -> None:
        """Give the memory of these calls' buffers back."""
        for task_id in task_ids:
            parts = self.parts.pop(task_id, None)
            if parts is not None:
                self._segments.give_back(parts)

    def _take(self, task: Task) -> Resolver | None:
        self.release((task.task_id,))
        return self.live.pop(task.task_id, None)

    def _follow(self, resolver: Resolver, existing: bytes, task: Task | None, key: str) -> None:
        if task is not None and task.state not in FINAL:
            self._followers.setdefault(existing, []).append(resolver)
        elif task is not None and task.outcome is not None and task.state != "EXPIRED":
            resolver.resolve(task.outcome)
        else:
            resolver.fail(
                ResultExpiredError(
                    f"key {key!r}: the call that it stands for has ended and its result is gone; keep_s in its limits"
                    " says how long it can be asked for again"
                )
            )
