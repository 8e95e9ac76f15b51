"""Simulated workers on real sockets, all in one loop: it connects, moves messages, and lets workers come and go.

It decides who dies and when, from its plan's seed; how a worker behaves is `worker.py`'s business.
"""

from __future__ import annotations

import heapq
import signal
import time
import uuid
from collections.abc import Callable
from random import Random
from typing import Any

import zmq

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.codec import decode_broadcast, decode_reply, encode
from strata_zmq.protocol.messages import ErrorReply, Released
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import parse_endpoint, seen_over
from strata_zmq.transport.sockets import REPLIES, connect, open_socket, raise_file_limit
from strata_zmq.workers.connection import TOPICS

from .plan import FleetPlan
from .worker import SimulatedWorker

__all__ = ["Fleet", "run_fleet"]

_NEVER = float("inf")
# What every worker hears when others come and go, or the coordinator is restarted.
_EXPECTED = {"generation_changed", "barrier_broken", "stale_generation", "fenced", "unknown_session"}
_RECEIVE_MAX = 64
_POLL_MAX_S = 0.5
_FAREWELL_S = 3.0
_REFUSED_S = 1.0
_REPORT_S = 5.0
_FILES_SPARE, _FILES_PER_WORKER = 256, 4


class _Berth:
    """One worker's place in the fleet: its socket while it is connected, and when it is due."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: SimulatedWorker | None = None
        self.socket: zmq.Socket[bytes] | None = None
        self.due = _NEVER


class Fleet:
    """`plan.workers` simulated workers of one job. To be closed; for one thread."""

    def __init__(self, plan: FleetPlan, coordinator_url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = plan
        self.endpoint = parse_endpoint(coordinator_url)
        self.lives = 0
        """How many process lives have begun."""
        self.errors = 0
        """How many requests were refused, for other reasons than that the membership has changed."""
        self.commits = 0
        """How many commit points this fleet has been released from."""
        self.last_error = ""
        self._clock = clock
        self._random = Random(plan.seed)  # noqa: S311 - a simulation
        self._keys = CurveKeys.from_environment()
        raise_file_limit(_FILES_SPARE + _FILES_PER_WORKER * plan.workers)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 64 + 2 * plan.workers)
        self._poller = zmq.Poller()
        self._subscriber: zmq.Socket[bytes] | None = None
        self._berths = [_Berth(index) for index in range(plan.workers)]
        self._berth_of: dict[Any, _Berth] = {}
        self._dues: list[tuple[float, int]] = []
        self._returns: list[tuple[float, int]] = []
        self._commit_index = 0
        now = clock()
        self._churn_at = self._after(now, plan.churn)
        self._hang_at = self._after(now, plan.hangs)
        for berth in self._berths:
            # A herd of connections is spread over a second per thousand.
            heapq.heappush(self._returns, (now + berth.index / 1000, berth.index))

    # ---- what is known

    @property
    def connected(self) -> int:
        """How many workers the coordinator has taken in."""
        return sum(1 for berth in self._berths if berth.worker is not None and berth.worker.conversation.introduced)

    @property
    def members(self) -> int:
        """How many workers have adopted the newest generation that any of them has."""
        adopted = [berth.worker.session.generation for berth in self._berths if berth.worker is not None]
        return adopted.count(self.generation) if self.generation else 0

    @property
    def generation(self) -> int:
        """The newest generation that a worker has adopted; 0 before the first."""
        return max((berth.worker.session.generation for berth in self._berths if berth.worker is not None), default=0)

    @property
    def ended(self) -> bool:
        """Whether everybody has left on a command, and nobody will come back."""
        return not self._returns and all(berth.worker is None for berth in self._berths)

    # ---- the loop

    def turn(self, patience_s: float = _POLL_MAX_S) -> None:
        """Do what is due, then wait at most `patience_s` seconds for messages and take them."""
        now = self._clock()
        self._let_fate_in(now)
        self._board(now)
        while self._dues and self._dues[0][0] <= now:
            due, index = heapq.heappop(self._dues)
            berth = self._berths[index]
            if due == berth.due:
                berth.due = _NEVER  # this entry is used up: the same time again has to be a new one
                self._tend(berth, now)
        wait_s = max(0.0, min(self._next_due() - now, patience_s))
        ready = self._poller.poll(int(wait_s * 1000) + 1)
        now = self._clock()
        for socket, _ in ready:
            if self._subscriber is not None and socket is self._subscriber:
                self._listen(self._subscriber, now)
            else:
                self._receive(self._berth_of[socket], now)

    def close(self) -> None:
        """Let every worker leave, for a bounded time, and close all sockets."""
        self._returns.clear()
        self._churn_at = self._hang_at = _NEVER
        for berth in self._berths:
            if berth.worker is not None:
                berth.worker.leave()
                self._schedule(berth, self._clock())
        deadline = self._clock() + _FAREWELL_S
        while any(b.worker is not None and b.worker.conversation.introduced for b in self._berths):
            left_s = deadline - self._clock()
            if left_s <= 0:
                break
            self.turn(min(left_s, 0.1))
        self._context.destroy(linger=0)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_due(self) -> float:
        fates = (self._churn_at, self._hang_at)
        return min(*fates, *(heap[0][0] for heap in (self._dues, self._returns) if heap))

    def _tend(self, berth: _Berth, now: float) -> None:
        worker, socket = berth.worker, berth.socket
        if worker is None or socket is None:
            return
        messages = worker.outgoing(now)
        for position, message in enumerate(messages):
            try:
                socket.send(encode(message), zmq.DONTWAIT)
            except zmq.Again:
                for one in messages[position:]:
                    worker.conversation.unsent(one, now)
                break
        if worker.failure is not None or worker.finished:
            self._note(str(worker.failure) if worker.failure is not None else "")
            returns = not worker.finished
            self._sink(berth)
            if returns:
                heapq.heappush(self._returns, (now + _REFUSED_S, berth.index))
        else:
            self._schedule(berth, worker.next_due(now))

    def _receive(self, berth: _Berth, now: float) -> None:
        worker, socket = berth.worker, berth.socket
        if worker is None or socket is None:
            return
        for _ in range(_RECEIVE_MAX):
            try:
                body = socket.recv_multipart(zmq.DONTWAIT)[0]
            except zmq.Again:
                break
            try:
                reply = decode_reply(body)
            except ProtocolError as error:
                self._note(str(error))
                continue
            if isinstance(reply, ErrorReply) and reply.code not in _EXPECTED:
                self._note(reply.message)
            elif isinstance(reply, Released) and reply.commit_index > self._commit_index:
                self._commit_index = reply.commit_index
                self.commits += 1
            worker.conversation.take(reply, now)
        self._hear_broadcasts(worker)
        self._schedule(berth, now)

    def _listen(self, subscriber: zmq.Socket[bytes], now: float) -> None:
        while True:
            try:
                frames = subscriber.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                broadcast = decode_broadcast(frames[-1])
            except ProtocolError as error:
                self._note(str(error))
                continue
            for berth in self._berths:
                if berth.worker is not None:
                    berth.worker.conversation.listen(broadcast, now)
                    self._schedule(berth, berth.worker.next_due(now))

    def _hear_broadcasts(self, worker: SimulatedWorker) -> None:
        """One ear for all of them: what PUB announces is the same for everybody."""
        welcome = worker.conversation.welcome
        if self._subscriber is None and welcome is not None and welcome.broadcast_endpoint:
            self._subscriber = open_socket(self._context, zmq.SUB, REPLIES, keys=self._keys)
            for topic in TOPICS:
                self._subscriber.setsockopt(zmq.SUBSCRIBE, topic)
            connect(self._subscriber, seen_over(welcome.broadcast_endpoint, self.endpoint), field="broadcast endpoint")
            self._poller.register(self._subscriber, zmq.POLLIN)

    def _schedule(self, berth: _Berth, due: float) -> None:
        if due != berth.due:
            berth.due = due
            if due < _NEVER:
                heapq.heappush(self._dues, (due, berth.index))

    # ---- who comes and goes

    def _board(self, now: float) -> None:
        """Begin the lives that are due."""
        while self._returns and self._returns[0][0] <= now:
            _, index = heapq.heappop(self._returns)
            berth = self._berths[index]
            self._sink(berth)
            self.lives += 1
            random = Random(f"{self.plan.seed}/{index}/{self.lives}")  # noqa: S311 - a simulation
            berth.worker = SimulatedWorker(self.plan.name(index), uuid.uuid4().hex, self.plan, random, self._clock)
            berth.socket = open_socket(self._context, zmq.DEALER, REPLIES, keys=self._keys)
            connect(berth.socket, self.endpoint)
            self._poller.register(berth.socket, zmq.POLLIN)
            self._berth_of[berth.socket] = berth
            self._schedule(berth, now)

    def _sink(self, berth: _Berth) -> None:
        """End a life; what it had not sent is lost."""
        if berth.worker is not None and berth.socket is not None:
            berth.worker.give_up()
            self._poller.unregister(berth.socket)
            del self._berth_of[berth.socket]
            berth.socket.close(linger=0)
        berth.worker, berth.socket, berth.due = None, None, _NEVER

    def _let_fate_in(self, now: float) -> None:
        if now >= self._churn_at:
            self._churn_at = self._after(now, self.plan.churn)
            berth = self._random.choice(self._berths)
            if berth.worker is not None:
                if self._random.random() < 0.5:
                    self._sink(berth)
                else:
                    berth.worker.leave()
                    self._tend(berth, now)
                heapq.heappush(self._returns, (now + self.plan.away_s, berth.index))
        if now >= self._hang_at:
            self._hang_at = self._after(now, self.plan.hangs)
            berth = self._random.choice(self._berths)
            if berth.worker is not None:
                berth.worker.freeze(now + self.plan.hang_s)

    def _after(self, now: float, per_minute: float) -> float:
        """Draw when the next event of a Poisson process happens."""
        return now + self._random.expovariate(per_minute / 60) if per_minute else _NEVER

    def _note(self, text: str) -> None:
        if text:
            self.errors += 1
            self.last_error = text


def run_fleet(
    plan: FleetPlan, coordinator_url: str, *, duration_s: float = 0.0, say: Callable[[str], None] = print
) -> int:
    """Run a fleet until SIGINT or SIGTERM, for `duration_s` seconds (0: without an end), or until all were stopped.

    `say` gets a line every few seconds. Returns the exit status: 1 if the coordinator never took a worker in.
    """
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    began = reported = time.monotonic()
    commits, taken = 0, False
    try:
        with Fleet(plan, coordinator_url) as fleet:
            while not (stopping or fleet.ended):
                now = time.monotonic()
                if duration_s and now - began >= duration_s:
                    break
                fleet.turn()
                if now - reported >= _REPORT_S:
                    say(_line(fleet, (fleet.commits - commits) / (now - reported)))
                    commits, reported = fleet.commits, now
                taken = taken or fleet.generation > 0
            say(_line(fleet, fleet.commits / max(time.monotonic() - began, 1e-9)))
            if not taken:
                say("no worker became a member: is a coordinator running there, and does it wait for more workers?")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if taken else 1


def _line(fleet: Fleet, commits_per_s: float) -> str:
    parts = [
        f"{fleet.connected} of {fleet.plan.workers} workers connected to {fleet.endpoint}",
        f"{fleet.members} in generation {fleet.generation}",
        f"{fleet.commits} commit points ({commits_per_s:.1f}/s)",
        f"{fleet.lives} lives",
    ]
    if fleet.errors:
        parts.append(f"{fleet.errors} errors, the last: {fleet.last_error}")
    return ", ".join(parts)
