"""Calls that must not begin before their owner has said so: which of them are asked for, and which may begin by now.

Knows no planning and sends nothing. What may begin counts as begun if everybody dies, so little is asked for ahead: as
much as children that are free, or will be in a moment, can begin with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from strata_zmq.domain.service import SLOW_S, ServiceTime
from strata_zmq.functions.pool.options import Attempt
from strata_zmq.functions.pool.planner import PoolCall

__all__ = ["Gate", "ahead"]

_AHEAD_S = 0.005
"""So much work of each such child is asked for ahead: the answer comes after a way there, a commit, and a way back."""
_AHEAD_MAX = 64
_ASK_AGAIN_S = 2.0


class Gate:
    """`granted` are the calls that may begin and are at no child."""

    def __init__(self) -> None:
        self._waiting: dict[PoolCall, None] = {}
        self._asked: dict[Attempt, PoolCall] = {}
        self._ask_again_at = 0.0
        self.granted: dict[PoolCall, None] = {}

    @property
    def count(self) -> int:
        """How many calls wait here."""
        return len(self._waiting) + len(self._asked)

    def put(self, call: PoolCall) -> None:
        """Let a call wait until it may begin."""
        self._waiting[call] = None

    def remove(self, call: PoolCall) -> None:
        """Take one call out."""
        if call in self._waiting:
            del self._waiting[call]
        else:
            del self._asked[call.key]

    def newest(self, count: int) -> list[PoolCall]:
        """Take out up to `count` calls, newest first, those that were not asked for before the others."""
        taken = [*reversed(self._waiting), *reversed(self._asked.values())][:count]
        for call in taken:
            self.remove(call)
        return taken

    def next(self) -> PoolCall | None:
        """Return the call that would be asked for next."""
        return next(iter(self._waiting), None)

    def ask(self, most: int, now: float) -> list[Attempt]:
        """Return what to ask for, in order, so that `most` calls are asked for or granted; again what takes long."""
        attempts: list[Attempt] = []
        if self._asked and now >= self._ask_again_at:
            attempts += self._asked
        room = min(most - len(self._asked) - len(self.granted), len(self._waiting))
        while room > 0:
            call = next(iter(self._waiting))
            del self._waiting[call]
            self._asked[call.key] = call
            attempts.append(call.key)
            room -= 1
        if attempts:
            self._ask_again_at = now + _ASK_AGAIN_S
        return attempts

    def grant(self, attempts: Iterable[Attempt]) -> list[PoolCall]:
        """Take out the calls that may begin, in the order of `attempts`; others of these are nothing."""
        calls: list[PoolCall] = []
        for attempt in attempts:
            call = self._asked.pop(attempt, None)
            if call is not None:
                call.asks, call.granted = False, True
                self.granted[call] = None
                calls.append(call)
        return calls

    def next_wakeup(self) -> float | None:
        """Return when to ask again."""
        return self._ask_again_at if self._asked else None


def ahead(free: int, present: Collection[ServiceTime | None], service: ServiceTime | None) -> int:
    """Return how many calls of a function known as `service` can begin at once or in a moment.

    `free` children have nothing to do, others are in calls of functions known as `present`: those that are not known,
    or are not over in a moment, do not count.
    """
    soon = free + sum(1 for one in present if one is not None and one.expected_s <= SLOW_S)
    if service is None or service.expected_s >= _AHEAD_S:
        return soon
    return soon * min(_AHEAD_MAX, max(1, int(_AHEAD_S / max(service.expected_s, 1e-6))))
