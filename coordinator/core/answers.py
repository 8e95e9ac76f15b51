"""Costly requests: what a step spends on them, what is made once for all who ask, and who waits for the next step.

It does not know what they are. Without it one frame of a few kilobytes could ask for gigabytes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from strata_zmq.errors import ResourceExhaustedError, StrataError

from .connections import is_child, peer_of
from .world import Session, World

__all__ = ["COST_MAX", "REQUEST_COST", "Answers", "Each", "Recipients", "Shared"]

Recipients = list[tuple[bytes, int, int]]
"""Connection, session and seq of everybody who asked."""
Each = Callable[[Session, Any], int]
"""Answers one request and returns what that has cost, beside REQUEST_COST."""
Shared = Callable[[Recipients], None]
"""Gives many requests the same answer."""

COST_MAX = 200_000
"""What one step spends on large answers before the next requests wait. A unit is about 0.1 us: some 20 ms."""
REQUEST_COST = 100
"""Of any request in this lane, also one that is refused."""
WAITING_PEER_MAX = 4096
WAITING_MAX = 16_384
_ROWS_PER_UNIT = 10
"""Workers in a shared answer whose copy for one more connection takes a unit."""


class Answers:
    """Answers requests in their order while the step has something left to spend; then peers take turns.

    An agent and its children are one peer, so that no one of them keeps the others waiting by asking a lot.
    """

    def __init__(self, world: World, *, each: Mapping[type, Each], shared: Mapping[type, Shared]) -> None:
        self._world = world
        self._each = each
        self._shared = shared
        self._asked: dict[type, Recipients] = {}
        self._left = COST_MAX
        self._waiting: OrderedDict[bytes, deque[tuple[Session, Any]]] = OrderedDict()
        """By peer; the first one's turn is next."""
        self.waiting = 0
        """How many requests wait for the next step."""

    def begin(self) -> None:
        """Begin a step with what was left over by the one before."""
        self._left = COST_MAX
        world = self._world
        while self.waiting and self._left > 0:
            peer, queue = self._waiting.popitem(last=False)
            session, message = queue.popleft()
            if queue:
                self._waiting[peer] = queue
            self.waiting -= 1
            if world.sessions.get(session.connection) is not session:
                continue
            try:
                self._answer(session, message)
            except StrataError as error:
                world.fail(session, message.seq, error)

    def ask(self, session: Session, message: Any) -> None:
        """Answer a request in this step, or note it for the next one."""
        if self._left > 0:
            self._answer(session, message)
            return
        peer = peer_of(session.connection)
        queue = self._waiting.get(peer, ())
        for count, limit, whose in (
            (len(queue), WAITING_PEER_MAX, "this connection"),
            (self.waiting, WAITING_MAX, "this coordinator"),
        ):
            if count >= limit:
                raise ResourceExhaustedError(
                    f"{limit} requests with large answers wait for {whose}, which is the limit: ask again when those "
                    "are answered"
                )
        self._waiting.setdefault(peer, deque()).append((session, message))
        self.waiting += 1

    def close(self) -> None:
        """End a step: give those who share an answer theirs, as of now."""
        if self._asked:
            asked, self._asked = self._asked, {}
            for kind, recipients in asked.items():
                self._shared[kind](recipients)

    def _answer(self, session: Session, message: Any) -> None:
        kind = type(message)
        self._left -= REQUEST_COST
        if kind in self._shared:
            self._asked.setdefault(kind, []).append((session.connection, session.number, message.seq))
            if not is_child(session.connection):
                self._left -= len(self._world.workers) // _ROWS_PER_UNIT
        else:
            self._left -= self._each[kind](session, message)
