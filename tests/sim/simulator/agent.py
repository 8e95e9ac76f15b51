"""A host's agent in the simulation: the real relay between the host's workers and the coordinator.

It moves bytes as the real one's sockets do, and checks what nobody else can see: that what the coordinator refused as a
whole goes out again. What the relay does with a message is its own business.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_downward, decode_upward
from strata_zmq.workers.agent.relay import Relay

from .network import Link, Network
from .timeline import Timeline
from .transcript import Transcript

__all__ = ["Agent"]

HOP_S = 0.00005
"""From a worker to its host's agent, or back: nothing is lost there while both live."""
_BLOCKED_S = 0.05
_SILENCE_MIN_S = 1.0
_FOLDS_KEPT = 128
"""As many as the relay remembers."""

Receive = Callable[[bytes], None]


class Agent:
    """One life of an agent."""

    def __init__(
        self, name: str, timeline: Timeline, network: Network, rng: random.Random, transcript: Transcript
    ) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.relay = Relay(random.Random(rng.getrandbits(64)))
        self._timeline = timeline
        self._network = network
        self._transcript = transcript
        self._wake_at = float("inf")
        self._reopened_at = timeline.now
        self._children: dict[bytes, Receive] = {}
        self._inbox: deque[Callable[[], None]] = deque()
        self._folds: dict[int, list[wire.Part]] = {}
        """What went out on the present connection, by the number of its fold."""
        self._owed: Counter[tuple[int, bytes]] = Counter()
        self.link: Link = network.open(name, self._receive, lambda body: None)
        timeline.after(0.0, self._pump)

    @property
    def owes(self) -> bool:
        """Whether something that was refused as a whole has not gone out again."""
        return bool(self._owed)

    # ---- the host's workers

    def connect(self, connection: bytes, receive: Receive) -> None:
        """Let a worker in under the name that the agent's ROUTER gives its connection."""
        self._children[connection] = receive

    def disconnect(self, connection: bytes) -> None:
        """End a worker's connection."""
        self._children.pop(connection, None)

    def take(self, connection: bytes, body: bytes) -> None:
        """Take what a worker has sent; it is there a moment later."""
        self._timeline.after(HOP_S, self._when_running, lambda: self._take(connection, body))

    # ---- faults

    def kill(self) -> None:
        """End the process at once."""
        self.dead = True
        self._network.close(self.link)

    def pause(self) -> None:
        """Stop it (SIGSTOP)."""
        self.paused = True

    def resume(self) -> None:
        """Let it run on: what has arrived meanwhile first."""
        if self.dead or not self.paused:
            return
        self.paused = False
        while self._inbox:
            self._inbox.popleft()()
        self._pump()

    # ---- inside

    def _when_running(self, action: Callable[[], None]) -> None:
        if self.dead:
            return
        if self.paused:
            self._inbox.append(action)
        else:
            action()
            self._pump()

    def _take(self, connection: bytes, body: bytes) -> None:
        self.relay.take_child(connection, body, self._timeline.now)

    def _receive(self, body: bytes) -> None:
        self._when_running(lambda: self._take_frame(body))

    def _take_frame(self, body: bytes) -> None:
        try:
            message = decode_downward(body)
        except ProtocolError:
            message = None
        if isinstance(message, wire.ErrorReply) and message.seq in self._folds:
            self._owed.update((part.child, part.body) for part in self._folds.pop(message.seq))
        for connection, reply in self.relay.take_frame(body, self._timeline.now):
            self._timeline.after(HOP_S, self._deliver, connection, reply)

    def _deliver(self, connection: bytes, body: bytes) -> None:
        if self.dead:
            return
        receive = self._children.get(connection)
        if receive is None:
            self.relay.forget(connection)
            return
        receive(body)

    def _pump(self) -> None:
        if self.dead or self.paused:
            return
        now = self._timeline.now
        blocked = False
        while (frame := self.relay.outgoing(now)) is not None:
            if not self._network.send(self.link, frame):
                blocked = True
                break
            self.relay.sent()
            self._note(frame)
        self._reopen_if_silent(now)
        due = min(now + _BLOCKED_S if blocked else self.relay.next_due(now), now + _SILENCE_MIN_S)
        if due < self._wake_at:
            self._wake_at = max(due, now + 1e-6)
            self._timeline.at(self._wake_at, self._wake, self._wake_at)

    def _wake(self, at: float) -> None:
        if at == self._wake_at:
            self._wake_at = float("inf")
        self._pump()

    def _note(self, frame: bytes) -> None:
        message = decode_upward(frame)
        if isinstance(message, wire.Fold):
            self._folds[message.seq] = message.parts
            if len(self._folds) > _FOLDS_KEPT:
                del self._folds[next(iter(self._folds))]
            self._owed -= Counter((part.child, part.body) for part in message.parts)

    def _reopen_if_silent(self, now: float) -> None:
        """Do as the real agent's sockets do where a connection that is up gives no answers."""
        conversation = self.relay.conversation
        limit_s = max(_SILENCE_MIN_S, 2 * conversation.welcome.heartbeat_s if conversation.welcome is not None else 0.0)
        if min(conversation.unanswered_s(now), now - self._reopened_at) < limit_s:
            return
        self._transcript.tell(self._timeline.now, self.name, "tries another connection")
        self._reopened_at = now
        self._network.reset(self.link)
        self._folds.clear()
        self.relay.reconnect(now)
