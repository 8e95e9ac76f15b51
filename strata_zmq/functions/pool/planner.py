"""Which calls wait, in which order, and how many go into one packet; it knows no child and no clock.

Calls wait first in, first out, per need (how many devices they hold). A packet holds one call, or a few of a function
whose calls are so short that the way to the child would cost more than they do. What is not known is taken for long.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from strata_zmq.domain.service import ServiceTime
from strata_zmq.domain.task import CALL_IN_PAYLOAD, Cause, Runnable, TaskLimits

if TYPE_CHECKING:
    from strata_zmq.functions.pool.child_handle import Child
    from strata_zmq.functions.pool.segments import SharedParts

__all__ = ["GROUP", "Planner", "PoolCall"]

GROUP = 5
"""Most calls in one packet. A child runs all of what it has read: at most GROUP - 1 calls wait behind a long one."""
_GROUP_S = 0.0002
"""Calls that take longer travel alone."""
_AHEAD_S = 0.001
"""Children get unread packets ahead for functions that take less."""
_GROUPED_BYTES_MAX = 8 * 1024
_FUNCTIONS_MAX = 10_000


class PoolCall:
    """One attempt in the pool, from `offer` to its outcome. `key` is (task id, attempt), copied from the task.

    `child` is who has it as its call number `n` (None: it waits). `told`: its start has been announced. `gone`: it has
    left its queue out of order. `parked`: the digest that it waits for. `stop_cause`: why it is to be ended. `strikes`
    counts children that died with it at hand and nobody to blame. `deprived`: its child cannot load it, because a value
    that it needs was taken back. `segment` is shared memory that the pool made for its body. `asks`: it may not begin
    before the owner says so; `granted`: the owner has said so.
    """

    __slots__ = (
        "asks",
        "body",
        "child",
        "deprived",
        "function",
        "gone",
        "granted",
        "key",
        "limits",
        "loading_since",
        "n",
        "need",
        "parked",
        "refs",
        "segment",
        "solo",
        "stop_cause",
        "strikes",
        "told",
    )

    def __init__(self, task: Runnable) -> None:
        self.key = (task.task_id, task.attempt)
        self.function = task.function
        self.refs = task.refs
        self.body = task.body
        self.limits: TaskLimits = task.limits
        self.asks = task.asks
        self.granted = False
        self.need = self.limits.labels.get("gpu", 0) if self.limits.labels else 0
        self.solo = not isinstance(task.body, bytes) or len(task.body) > _GROUPED_BYTES_MAX
        self.child: Child | None = None
        self.n = 0
        self.parked = b""
        self.deprived = False
        self.told = False
        self.gone = False
        self.stop_cause: Cause = ""
        self.strikes = 0
        self.loading_since = 0.0
        self.segment: SharedParts | None = None


class Planner:
    """The queues of a pool, and what is known of its functions' service times (the last 10,000 functions)."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[PoolCall]] = {0: deque()}
        self._services: OrderedDict[bytes, ServiceTime] = OrderedDict()
        self.waiting = 0
        """Calls in the queues."""

    def put(self, call: PoolCall) -> None:
        """Queue a call behind the others of its need."""
        queue = self._queues.get(call.need)
        if queue is None:
            queue = self._queues[call.need] = deque()
        queue.append(call)
        self.waiting += 1

    def put_front(self, calls: Iterable[PoolCall]) -> None:
        """Queue calls before all others of their need, in their order."""
        for call in reversed(list(calls)):
            self._queues.setdefault(call.need, deque()).appendleft(call)
            self.waiting += 1

    def needs(self) -> list[int]:
        """Return the needs for which calls wait, none first."""
        return sorted(need for need, queue in self._queues.items() if self._head(queue) is not None)

    def waits(self, need: int) -> int:
        """Return how many calls of one need wait, at most one too many for each that is gone."""
        queue = self._queues.get(need)
        return 0 if queue is None or self._head(queue) is None else len(queue)

    def drop(self, call: PoolCall) -> None:
        """Take a waiting call out; its place in the queue is passed over later."""
        call.gone = True
        self.waiting -= 1

    def take_out(self, digest: bytes) -> list[PoolCall]:
        """Take out the calls that name `digest`, in their order."""
        named: list[PoolCall] = []
        for need, queue in self._queues.items():
            kept: deque[PoolCall] = deque()
            for call in queue:
                if not call.gone:
                    (named if digest == call.function or digest in call.refs else kept).append(call)
            self._queues[need] = kept
        self.waiting -= len(named)
        return named

    def newest(self, count: int) -> list[PoolCall]:
        """Take the last `count` calls out, newest first."""
        taken: list[PoolCall] = []
        for need in sorted(self._queues, reverse=True):
            queue = self._queues[need]
            while queue and len(taken) < count:
                call = queue.pop()
                if not call.gone:
                    taken.append(call)
        self.waiting -= len(taken)
        return taken

    def packet(self, need: int, most: int) -> list[PoolCall]:
        """Take the calls of the next packet: one, or up to `most` short ones; [] where none waits."""
        queue = self._queues[need]
        first = self._head(queue)
        if first is None:
            return []
        queue.popleft()
        calls = [first]
        if most > 1 and not first.solo and self._expected(first.function) < _GROUP_S:
            while len(calls) < most and (call := self._head(queue)) is not None:
                if call.solo or (call.function != first.function and self._expected(call.function) >= _GROUP_S):
                    break
                calls.append(queue.popleft())
        self.waiting -= len(calls)
        return calls

    def may_go_ahead(self, need: int) -> bool:
        """Whether the next call is short enough to lie unread at a child that is busy."""
        head = self._head(self._queues[need])
        return head is not None and not head.solo and self._expected(head.function) < _AHEAD_S

    def learn(self, function: bytes, seconds: float) -> None:
        """Take one measured call; those whose callable travels in the payload have nothing in common."""
        service = self._services.get(function)
        if service is None:
            if function == CALL_IN_PAYLOAD:
                return
            service = self._services[function] = ServiceTime()
            if len(self._services) > _FUNCTIONS_MAX:
                self._services.popitem(last=False)
        service.add(seconds)

    def service(self, function: bytes) -> ServiceTime | None:
        """Return what is known of a function's service time."""
        return self._services.get(function)

    def _expected(self, function: bytes) -> float:
        service = self._services.get(function)
        return float("inf") if service is None else service.mean_s + 2 * service.deviation_s

    @staticmethod
    def _head(queue: deque[PoolCall]) -> PoolCall | None:
        while queue and queue[0].gone:
            queue.popleft()
        return queue[0] if queue else None
