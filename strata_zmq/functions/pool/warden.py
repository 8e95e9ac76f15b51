"""Ends calls that are over a limit or not wanted any more, and nobody else's: deadlines, memory, cancelled calls.

A child that is to be killed for one call is stopped first and looked at: if it has gone on to another call meanwhile,
it lives. Deadlines are looked at when they may be due, counted from what the child's black box says.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from strata_zmq.domain.task import Cause
from strata_zmq.functions.pool import limits
from strata_zmq.functions.pool.blackbox import IDLE, LOADING
from strata_zmq.functions.pool.child_handle import Child, Doom
from strata_zmq.functions.pool.planner import PoolCall

__all__ = ["Warden"]

_MEMORY_POLL_S = 0.05
_STOP_POLL_S = 0.005
"""How often a call that is to be stopped, but has not begun, is looked at."""


class Warden:
    """The limits of the calls that are handed out."""

    def __init__(self) -> None:
        self._deadlines: list[tuple[float, int, int, PoolCall]] = []
        self._armed = 0
        self._unwanted: list[PoolCall] = []
        self._look_again_at = 0.0
        self._memory_at = 0.0
        self._watched: set[Child] = set()

    def handed(self, child: Child, calls: Iterable[PoolCall], now: float) -> None:
        """Watch calls that a child has now."""
        for call in calls:
            if call.limits.attempt_s > 0:
                call.loading_since = 0.0
                self._arm(call, now + call.limits.attempt_s)
            if call.limits.memory_bytes or child.memory_bytes:
                self._watched.add(child)

    def stop(self, call: PoolCall, now: float) -> None:
        """End a call that a child has: now if it runs, or when it begins. Its result counts if it is there first."""
        call.stop_cause = "cancelled"
        child = call.child
        if child is not None and not self._end(child, call, "cancelled", "it was cancelled while it ran"):
            self._unwanted.append(call)
            self._look_again_at = now + _STOP_POLL_S

    def check(self, now: float) -> None:
        """End what is over its limits."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, n, call = heapq.heappop(self._deadlines)
            if call.child is not None and call.n == n:
                self._deadline(call.child, call, now)
        if self._unwanted and now >= self._look_again_at:
            again, self._unwanted = self._unwanted, []
            for call in again:
                if call.child is not None:
                    self.stop(call, now)
        if self._watched and now >= self._memory_at:
            self._memory_at = now + _MEMORY_POLL_S
            for child in list(self._watched):
                self._memory(child)

    def next_wakeup(self) -> float | None:
        """Return when `check` has something to look at, None while nothing is watched."""
        if not (self._deadlines or self._unwanted or self._watched):
            return None
        times = []
        if self._deadlines:
            times.append(self._deadlines[0][0])
        if self._unwanted:
            times.append(self._look_again_at)
        if self._watched:
            times.append(self._memory_at)
        return min(times, default=None)

    def gone(self, child: Child) -> None:
        """Forget a child."""
        self._watched.discard(child)

    def _arm(self, call: PoolCall, when: float) -> None:
        self._armed += 1
        heapq.heappush(self._deadlines, (when, self._armed, call.n, call))

    def _deadline(self, child: Child, call: PoolCall, now: float) -> None:
        allowed = call.limits.attempt_s
        look = child.box.look()
        if look.n < call.n or look.phase == IDLE:
            began = now  # another call is still before it, or its result is on the way
        elif look.phase == LOADING:
            began = call.loading_since = call.loading_since or now
        else:
            began = look.started_ns / 1e9
        if began + allowed > now:
            self._arm(call, began + allowed)
        elif not self._end(child, call, "deadline", f"exceeded deadline of {allowed:g} s"):
            self._arm(call, now + allowed)

    def _memory(self, child: Child) -> None:
        if not child.calls or child.ended_at or child.doom:
            self._watched.discard(child)
            return
        used = limits.memory_of(child.pid)
        call = child.current()
        bounds = (child.memory_bytes, call.limits.memory_bytes if call is not None else 0)
        allowed = min((bound for bound in bounds if bound), default=0)
        if allowed and used > allowed:
            text = f"{used} bytes of memory were in use, {allowed} are allowed; raise memory_bytes"
            self._end(child, call, "out_of_memory", text, used)

    def _end(self, child: Child, call: PoolCall | None, cause: Cause, text: str, rss_bytes: int = 0) -> bool:
        """Kill `child` if it is in `call` (None: whatever it does); False if it is not, or has ended by itself."""
        if child.doom or child.ended_at:
            return child.doom is not None and child.doom.call is call
        if not limits.freeze(child.pid, child.pidfd):
            return False
        current = child.current()
        if call is not None and call is not current:
            limits.thaw(child.pidfd)
            return False
        child.doom = Doom(current, cause, text, rss_bytes or limits.memory_of(child.pid))
        limits.kill(child.pidfd)
        return True
