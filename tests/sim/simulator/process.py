"""A simulated process that talks to the coordinator: the real conversation over a simulated connection.

It runs programs: generators that yield `Ask` or `Sleep` and get replies back, or errors thrown in. It knows nothing of
what they do.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from strata_zmq.errors import DeadlineExceededError, StrataError, UnavailableError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_broadcast, decode_reply, encode
from strata_zmq.workers.conversation import Conversation, Ticket
from strata_zmq.workers.operations import Ask
from strata_zmq.workers.route import Route

from .agent import Agent
from .faulty import require
from .network import Link, Network
from .timeline import Timeline
from .transcript import Transcript

__all__ = ["Process", "Program", "Sleep"]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do something else for so many seconds."""

    seconds: float


Program = Generator[Ask | Sleep, Any, Any]


class Process:
    """One process life: a link, a conversation, and programs. Its clock is its own."""

    def __init__(
        self,
        name: str,
        hello: wire.Hello,
        timeline: Timeline,
        network: Network,
        rng: random.Random,
        transcript: Transcript,
        *,
        introduce: Callable[[], Any] | None = None,
        heartbeat: Callable[[], wire.Heartbeat] | None = None,
        on_message: Callable[[wire.Reply], None] | None = None,
        on_command: Callable[[str], None] | None = None,
        on_broadcast: Callable[[wire.Broadcast], None] | None = None,
        host: Callable[[], Agent | None] | None = None,
    ) -> None:
        """`host` returns the agent on this process's host as it is now; None where there never is one."""
        self.name = name
        self.dead = False
        self.paused = False
        self.failure: StrataError | None = None
        """Why the process gave up, if it did."""
        self.on_exit: Callable[[], None] | None = None
        self.on_ask: Callable[[wire.Request], None] = lambda request: None
        """Hears of every request that a program begins."""
        self._timeline = timeline
        self._network = network
        self._transcript = transcript
        self._clock_offset = rng.uniform(0.0, 1e6)
        self._wake_at = float("inf")
        self._inbox: deque[tuple[Callable[[bytes], None], bytes]] = deque()
        self._asleep: deque[Callable[[], None]] = deque()
        self.conversation = Conversation(
            hello,
            random.Random(rng.getrandbits(64)),
            introduce=introduce,
            heartbeat=heartbeat,
            on_message=on_message,
            on_command=on_command,
            on_broadcast=on_broadcast,
        )
        self._sessions: set[int] = set()
        self._heartbeat_s = 0.0
        self._host = host
        self._agent: Agent | None = None
        """The life of the host's agent that it is connected to."""
        self._local = b""
        self._number = network.number()
        self._connections = 0
        ways = ("agent", "coordinator") if host is not None else ("coordinator",)
        self._route = Route(ways, random.Random(rng.getrandbits(64)) if host is not None else rng, self.now)
        self.link: Link = network.open(name, self._receive, self._listen)
        timeline.after(0.0, self._pump)

    @property
    def now(self) -> float:
        """The process's own clock."""
        return self._timeline.now + self._clock_offset

    def spawn(self, program: Program) -> None:
        """Run a program beside the others."""
        self._timeline.after(0.0, self._advance, program, None, None)

    def kill(self) -> None:
        """End the process at once; nobody is told."""
        self.dead = True
        self._network.close(self.link)
        self._leave_agent()

    def pause(self) -> None:
        """Stop it (SIGSTOP)."""
        self.paused = True

    def resume(self) -> None:
        """Let it run on (SIGCONT): timers first, then what has arrived meanwhile."""
        if self.dead or not self.paused:
            return
        self.paused = False
        while self._asleep and not self.paused:
            self._asleep.popleft()()
        while self._inbox and not self.dead:
            take, body = self._inbox.popleft()
            take(body)
        self._pump()

    # ---- the conversation

    def _receive(self, body: bytes) -> None:
        if self.dead:
            return
        if self.paused:
            self._inbox.append((self._receive, body))
            return
        reply = decode_reply(body)
        if isinstance(reply, wire.Welcome):
            self._sessions.add(reply.session)
            self._heartbeat_s = reply.heartbeat_s
        known = not reply.session or reply.session in self._sessions
        require(known, f"{self.name} gets what another process was told: {reply}")
        self.conversation.take(reply, self.now)
        self._pump()

    def _listen(self, body: bytes) -> None:
        if self.dead:
            return
        if self.paused:
            self._inbox.append((self._listen, body))
            return
        self.conversation.listen(decode_broadcast(body), self.now)
        self._pump()

    def _pump(self) -> None:
        if self.dead or self.paused:
            return
        now = self.now
        conversation = self.conversation
        if conversation.failure is not None:
            self._give_up(conversation.failure)
            return
        if self._host is not None:
            self._find_way(now)
        for message in conversation.outgoing(now):
            if not self._send(encode(message)):
                conversation.unsent(message, now)
        due = min(conversation.next_due(now), self._route.next_due(now)) - self._clock_offset
        if due < self._wake_at:
            self._wake_at = max(due, self._timeline.now + 1e-6)
            self._timeline.at(self._wake_at, self._wake, self._wake_at)

    def _wake(self, at: float) -> None:
        if at == self._wake_at:
            self._wake_at = float("inf")
        self._pump()

    # ---- its way to the coordinator

    def _send(self, body: bytes) -> bool:
        if self._route.endpoint == "coordinator":
            return self._network.send(self.link, body)
        if self._agent is None:
            return False
        self._agent.take(self._local, body)
        return True

    def _find_way(self, now: float) -> None:
        """Do as the real client does with its sockets when it is told to change, or sees a connection come or go."""
        conversation = self.conversation
        if self._agent is not None and self._agent.dead:
            self._leave_agent()
        if self._agent is not None or (self._route.endpoint == "coordinator" and self.link.connection):
            self._route.connected()
        else:
            self._route.disconnected(now)
        if self._route.check(
            now,
            introduced=conversation.introduced,
            silent_s=conversation.unanswered_s(now),
            heartbeat_s=self._heartbeat_s,
        ):
            self._transcript.tell(self._timeline.now, self.name, f"goes over the {self._route.endpoint}")
            self._leave_agent()
            self._network.reset(self.link)
            conversation.start_over(now)
        if self._route.endpoint == "agent" and self._agent is None:
            self._join_agent(now)

    def _join_agent(self, now: float) -> None:
        agent = self._host() if self._host is not None else None
        if agent is None or agent.dead:
            return
        self._connections += 1
        local = b"%d:%d" % (self._number, self._connections)
        self._agent, self._local = agent, local
        agent.connect(local, lambda body: self._receive_locally(local, body))
        if self._connections > 1 and self.conversation.welcome is not None:
            # The connection is the session: another one begins another.
            self.conversation.start_over(now)

    def _leave_agent(self) -> None:
        if self._agent is not None:
            self._agent.disconnect(self._local)
        self._agent, self._local = None, b""

    def _receive_locally(self, local: bytes, body: bytes) -> None:
        if local == self._local:
            self._transcript.note(self._timeline.now, "<", self.name, body, body)
            self._receive(body)

    # ---- programs

    def _advance(self, program: Program, value: Any, error: StrataError | None) -> None:
        if self.dead:
            program.close()
            return
        if self.paused:
            self._asleep.append(lambda: self._advance(program, value, error))
            return
        try:
            wanted = program.send(value) if error is None else program.throw(error)
        except StopIteration:
            return
        except StrataError as failure:
            self._give_up(failure)
            return
        if isinstance(wanted, Sleep):
            self._timeline.after(wanted.seconds, self._advance, program, None, None)
        else:
            self._ask(program, wanted)

    def _ask(self, program: Program, wanted: Ask) -> None:
        def done(ticket: Ticket) -> None:
            self._timeline.after(0.0, self._advance, program, ticket.reply, ticket.error)

        self.on_ask(wanted.request)
        ticket = self.conversation.submit(wanted.request, done)
        self._timeline.after(wanted.timeout_s + wanted.patience_s, self._expire, program, ticket)
        self._pump()

    def _expire(self, program: Program, ticket: Ticket) -> None:
        if self.dead:
            return
        if self.paused:
            self._asleep.append(lambda: self._expire(program, ticket))
        elif self.conversation.cancel(ticket):
            error = DeadlineExceededError("the coordinator did not answer in time", missing=("coordinator",))
            self._advance(program, None, error)

    def _give_up(self, failure: StrataError) -> None:
        if self.dead:
            return
        self._transcript.tell(self._timeline.now, self.name, f"gives up: {failure.code}: {failure}")
        self.failure = failure
        self.conversation.stop(UnavailableError("the process ends"))
        self.kill()
        if self.on_exit is not None:
            self.on_exit()
