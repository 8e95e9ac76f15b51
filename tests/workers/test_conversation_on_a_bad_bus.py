"""Whatever a bad bus does to the messages, and however often the coordinator restarts, each request has one outcome."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.conversation import Conversation, Ticket


class Coordinator:
    """A coordinator that knows sessions and answers everything; a restart forgets the sessions."""

    def __init__(self) -> None:
        self.term = 1
        self.sessions = itertools.count(100)
        self.open: set[int] = set()

    def restart(self) -> None:
        self.term += 1
        self.open.clear()

    def reply_to(self, request: Any) -> Any:
        if isinstance(request, wire.Hello):
            self.open.add(session := next(self.sessions))
            return wire.Welcome(
                proto=1, term=self.term, session=session, seq=request.seq, lease_s=30.0, heartbeat_s=5.0
            )
        fields = {"term": self.term, "session": request.session, "seq": request.seq}
        if request.session not in self.open:
            return wire.ErrorReply(code="unknown_session", message="say hello", **fields)
        if isinstance(request, wire.RegisterWorker):
            return wire.Registered(worker_id="w", **fields)
        return (wire.HeartbeatAck if isinstance(request, wire.Heartbeat) else wire.Done)(**fields)


class Bus:
    """Simulated time, and a bus between one client and its coordinator that is bad until it heals."""

    heals_at = 20.0

    def __init__(self, seed: int, loss: float, twice: float, delay_s: float) -> None:
        self.rng = Random(seed)
        self.coordinator = Coordinator()
        self.conversation = Conversation(
            wire.Hello(role="worker"),
            Random(seed),
            introduce=lambda: wire.RegisterWorker(worker_id="w", incarnation="life"),
            heartbeat=wire.Heartbeat,
        )
        self._loss, self._twice, self._delay_s = loss, twice, delay_s
        self._events: list[tuple[float, int, Callable[[float], object]]] = []
        self._order = itertools.count()

    def at(self, when: float, call: Callable[[float], object]) -> None:
        heapq.heappush(self._events, (when, next(self._order), call))

    def at_any_time(self, call: Callable[[float], object]) -> None:
        self.at(self.rng.uniform(0, self.heals_at), call)

    def run(self, until: float) -> None:
        now = 0.0
        while now < until:
            for message in self.conversation.outgoing(now):
                self._carry(now, lambda then, message=message: self._answer(message, then))
            due = self.conversation.next_due(now)
            assert due > now, "it wants to be asked at once, again and again"
            now = min(due, self._events[0][0] if self._events else due)
            while self._events and self._events[0][0] <= now:
                heapq.heappop(self._events)[2](now)

    def _answer(self, message: Any, now: float) -> None:
        reply = self.coordinator.reply_to(message)
        self._carry(now, lambda then: self.conversation.take(reply, then))

    def _carry(self, now: float, call: Callable[[float], object]) -> None:
        bad = now < self.heals_at
        copies = 0 if bad and self.rng.random() < self._loss else 2 if bad and self.rng.random() < self._twice else 1
        for _ in range(copies):
            self.at(now + 0.001 + (self.rng.uniform(0, self._delay_s) if bad else 0.0), call)


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.floats(0, 0.6), st.floats(0, 0.3), st.floats(0, 3), st.integers(0, 3))
def test_every_request_has_exactly_one_outcome(
    seed: int, loss: float, twice: float, delay_s: float, restarts: int
) -> None:
    """Messages are lost, doubled, reordered and late, the coordinator restarts: when that is over, all is answered."""
    bus, outcomes = Bus(seed, loss, twice, delay_s), Counter[int]()

    def submit(number: int) -> None:
        def done(ticket: Ticket) -> None:
            assert ticket.error is None
            outcomes[number] += 1

        bus.conversation.submit(wire.GetStatus(), done)

    for number in range(40):
        bus.at_any_time(lambda _, number=number: submit(number))
    for _ in range(restarts):
        bus.at_any_time(lambda _: bus.coordinator.restart())
    bus.run(until=bus.heals_at + 10)
    assert outcomes == dict.fromkeys(range(40), 1)
    assert bus.conversation.outstanding == 0
