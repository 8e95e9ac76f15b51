"""A client's whole conversation with the coordinator, as values: what is to be sent next, and what an answer means.

It has no thread, no socket, no clock and no chance of its own: the time and a random generator are brought in, so that
a client on real sockets, a thousand simulated workers and a seeded simulation run the same rules. Every request is
idempotent, so that it is sent again until an answer, an error or a cancellation ends it, exactly once.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from strata_zmq.domain.lease import Lease
from strata_zmq.errors import InvalidArgumentError, ResourceExhaustedError, StrataError
from strata_zmq.protocol import messages as wire

from .outstanding import Outstanding, Ticket, check_request, error_of
from .view import ClusterView

__all__ = ["OUTSTANDING_MAX", "Conversation", "Ticket"]

log = logging.getLogger("strata.client")

OUTSTANDING_MAX = 4096
"""Most requests that one client has under way."""

_OPENING_FIRST_S = 0.25
_OPENING_MAX_S = 2.0
_UNSENT_S = 0.05
_HERD_S = 0.1
_VIEW_S = 1.0
_VIEW_SPREAD_S = 0.25
_HEARTBEATS_MAX = 16
_AT_ONCE = float("-inf")
_NEVER = float("inf")


@dataclass(slots=True)
class _Opening:
    """The hello or the introduction under way: its sequence number, and when it is sent (again)."""

    seq: int
    send_at: float = _AT_ONCE
    interval_s: float = _OPENING_FIRST_S
    sent_at: float = _NEVER
    """When it was sent for the first time."""
    message: Any = None


class Conversation:
    """One client's side of the protocol.

    The driver sends what `outgoing(now)` returns, gives back with `unsent` what the socket had no room for, and hands
    in every reply (`take`) and broadcast (`listen`); it comes back at `next_due`, or when `submit` was called. `now` is
    in seconds, on any clock that never goes back. None of it is thread-safe.

    `introduce` makes the message that follows every WELCOME (a registration) and `heartbeat` the one that renews the
    lease. `on_introduced` gets the answer to the introduction, `on_message` what nobody asked for (a commit to
    perform), `on_broadcast` what PUB announces and `on_command` each command, once. Callbacks may call `submit`.
    """

    def __init__(
        self,
        hello: wire.Hello,
        random: Random,
        *,
        introduce: Callable[[], wire.Request] | None = None,
        on_introduced: Callable[[wire.Reply], None] | None = None,
        heartbeat: Callable[[], wire.Heartbeat] | None = None,
        on_message: Callable[[wire.Reply], None] | None = None,
        on_broadcast: Callable[[wire.Broadcast], None] | None = None,
        on_command: Callable[[str], None] | None = None,
        outstanding_max: int = OUTSTANDING_MAX,
    ) -> None:
        self._hello = hello
        self._random = random
        self._introduce = introduce
        self._on_introduced = on_introduced
        self._heartbeat = heartbeat
        self._on_message = on_message
        self._on_broadcast = on_broadcast
        self._on_command = on_command
        self._outstanding_max = outstanding_max
        self._seqs = itertools.count(1)
        self._requests = Outstanding(random)
        self._opening = _Opening(next(self._seqs))
        self._heartbeats: dict[int, float] = {}
        """When each heartbeat was sent whose answer has not come yet, by sequence number."""
        self._heartbeat_at = _AT_ONCE
        self._blocked_until = _AT_ONCE
        self._asked_at = _NEVER
        self._term = 0
        self._lease: Lease | None = None
        self._view_at = _AT_ONCE
        self._view_ticket: Ticket | None = None
        self.welcome: wire.Welcome | None = None
        """What the coordinator said at the start of the present session; None while there is none."""
        self.introduced = False
        """Whether the coordinator has taken this client in: requests flow."""
        self.failure: StrataError | None = None
        """Why the conversation has ended; None while it goes on."""
        self.view = ClusterView()
        self.following = False
        """Whether `view` is kept up to date, with GET_VIEW after every gap."""
        self.commands_seen = 0
        """The number of the last command that was taken."""

    # ---- what the driver's owner says

    def submit(self, message: wire.Request, on_done: Callable[[Ticket], None] | None = None) -> Ticket:
        """Begin a request. What cannot be sent at all ends its ticket before this returns."""
        ticket = Ticket(msgspec.structs.replace(message, seq=next(self._seqs)), on_done)
        if self.failure is not None:
            ticket.end(error=self.failure)
        elif len(self._requests) >= self._outstanding_max:
            ticket.end(
                error=ResourceExhaustedError(
                    f"{self._outstanding_max} requests are unanswered, which is the limit: wait for some of them first"
                )
            )
        else:
            try:
                check_request(ticket.message)
            except InvalidArgumentError as error:
                ticket.end(error=error)
            else:
                self._requests.add(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> bool:
        """Forget a request; False if it has ended already. The coordinator may carry it out all the same."""
        if ticket.done:
            return False
        self._requests.pop(ticket.message.seq)
        ticket.done = ticket.cancelled = True
        return True

    def stop(self, error: StrataError) -> None:
        """End the conversation; what is still unanswered fails with `error`. Again is harmless."""
        if self.failure is not None:
            return
        self.failure = error
        for ticket in self._requests.clear():
            ticket.end(error=error)

    # ---- what the driver does

    def outgoing(self, now: float) -> list[Any]:
        """Return what has to be sent now, in order."""
        if self.failure is not None or now < self._blocked_until:
            return []
        if self.welcome is None or not self.introduced:
            messages = self._opening_messages(now)
        else:
            welcome = self.welcome
            self._ask_for_view(now)
            messages = [self._addressed(ticket.message, welcome) for ticket in self._requests.take_due(now)]
            if self._heartbeat is not None and now >= self._heartbeat_at:
                messages.append(self._beat(now, welcome, self._heartbeat()))
        if messages:
            self._asked_at = min(self._asked_at, now)
        return messages

    def unsent(self, message: Any, now: float) -> None:
        """Take back what the socket had no room for; nothing goes out for a moment, and the order stays."""
        self._blocked_until = now + _UNSENT_S
        if message.seq == self._opening.seq:
            self._opening.send_at, self._opening.interval_s = _AT_ONCE, _OPENING_FIRST_S
        elif self._heartbeats.pop(message.seq, None) is not None:
            self._heartbeat_at = _AT_ONCE
        else:
            self._requests.again(message.seq)

    def next_due(self, now: float) -> float:
        """Return when `outgoing` has something to return, as far as is known now; infinity if nothing is waiting."""
        if self.failure is not None:
            return _NEVER
        if not self.introduced:
            due = self._opening.send_at
        else:
            due = self._requests.next_due()
            if self._heartbeat is not None:
                due = min(due, self._heartbeat_at)
            if self._wants_view():
                due = min(due, self._view_at)
        return max(due, self._blocked_until, now)

    def take(self, reply: wire.Reply, now: float) -> None:
        """Take a message that came from the coordinator."""
        if self.failure is not None:
            return
        self._asked_at = _NEVER
        if isinstance(reply, wire.Welcome):
            self._take_welcome(reply, now)
        elif isinstance(reply, wire.ErrorReply) and reply.code == "unknown_session":
            if self._is_of_this_session(reply):
                self.start_over(now)
        elif reply.seq == 0:
            if isinstance(reply, wire.ErrorReply):
                log.warning("the coordinator refused a message: %s", reply.message)
            elif self._on_message is not None:
                self._on_message(reply)
        elif reply.seq == self._opening.seq:
            self._take_introduction(reply, now)
        else:
            self._take_answer(reply, now)

    def listen(self, broadcast: wire.Broadcast, now: float) -> None:
        """Take what PUB announced. A higher term says that the coordinator was restarted."""
        if self.failure is not None:
            return
        if broadcast.term > self._term and self.welcome is not None:
            self.start_over(now)
        self._term = max(self._term, broadcast.term)
        needed = self.view.needs_snapshot
        self.view.listen(broadcast)
        if self.view.needs_snapshot and not needed:
            self._view_at = max(self._view_at, now + self._random.uniform(0.0, _VIEW_SPREAD_S))
        if self._on_broadcast is not None:
            self._on_broadcast(broadcast)

    def start_over(self, now: float) -> None:
        """Say hello again: there is another connection under this client, or another life behind it.

        A small wait keeps a herd of clients from arriving in the same millisecond.
        """
        self._open(now + self._random.uniform(0.0, _HERD_S), _OPENING_FIRST_S)

    def hurry(self, now: float) -> None:
        """Send the next heartbeat soon: something suggests that the coordinator is another one by now."""
        self._heartbeat_at = min(self._heartbeat_at, now + self._random.uniform(0.0, _HERD_S))

    # ---- what is known

    @property
    def outstanding(self) -> int:
        """How many requests are unanswered."""
        return len(self._requests)

    @property
    def commit_deadline(self) -> float:
        """Until when this client may commit without hearing more, on the driver's clock: two thirds of its lease."""
        return _AT_ONCE if self._lease is None else self._lease.commit_deadline

    def unanswered_s(self, now: float) -> float:
        """Return for how long the coordinator has said nothing although it was asked."""
        return max(now - self._asked_at, 0.0)

    # ---- opening a session

    def _open(self, at: float, interval_s: float) -> None:
        self.welcome, self.introduced = None, False
        self._heartbeats.clear()
        self._opening = _Opening(next(self._seqs), at, interval_s)

    def _opening_messages(self, now: float) -> list[Any]:
        """Return the hello or the introduction, if it is time for it."""
        opening = self._opening
        if now < opening.send_at:
            return []
        if opening.message is None:
            message = self._hello if self.welcome is None or self._introduce is None else self._introduce()
            opening.message = msgspec.structs.replace(message, seq=opening.seq)
            try:
                check_request(opening.message)
            except InvalidArgumentError as error:
                self.stop(error)
                return []
        opening.sent_at = min(opening.sent_at, now)
        opening.send_at = now + self._jitter(opening.interval_s)
        opening.interval_s = min(opening.interval_s * 2, _OPENING_MAX_S)
        return [opening.message if self.welcome is None else self._addressed(opening.message, self.welcome)]

    def _take_welcome(self, reply: wire.Welcome, now: float) -> None:
        if self.welcome is not None or reply.seq != self._opening.seq:
            return  # the answer to one that was sent twice, or to an earlier attempt
        self.welcome = reply
        self._term = max(self._term, reply.term)
        self.view.begin(reply.term, reply.broadcast_seq)
        self._lease = Lease.grant(self._opening.sent_at, reply.lease_s)
        if self._introduce is None:
            self._become_ready(reply, now)
        else:
            self._opening = _Opening(next(self._seqs), interval_s=self._opening.interval_s)

    def _take_introduction(self, reply: wire.Reply, now: float) -> None:
        if self.introduced:
            return  # the answer to one that was sent twice
        if isinstance(reply, wire.ErrorReply):
            error = error_of(reply)
            if error.retryable:
                interval_s = self._opening.interval_s
                self._open(now + self._jitter(interval_s), interval_s)
            else:
                self.stop(error)
        elif self.welcome is not None:
            self._renew(self._opening.sent_at)
            if self._on_introduced is not None:
                self._on_introduced(reply)
            self._become_ready(self.welcome, now)

    def _become_ready(self, welcome: wire.Welcome, now: float) -> None:
        self.introduced = True
        self._requests.again_all()
        self._heartbeat_at = now + self._random.uniform(0.0, min(welcome.heartbeat_s, 1.0))

    # ---- the session

    def _beat(self, now: float, welcome: wire.Welcome, heartbeat: wire.Heartbeat) -> Any:
        self._heartbeat_at = now + welcome.heartbeat_s
        while len(self._heartbeats) >= _HEARTBEATS_MAX:
            del self._heartbeats[next(iter(self._heartbeats))]
        seq = next(self._seqs)
        self._heartbeats[seq] = now
        return self._addressed(msgspec.structs.replace(heartbeat, seq=seq), welcome)

    def _take_answer(self, reply: wire.Reply, now: float) -> None:
        beaten_at = self._heartbeats.pop(reply.seq, None)
        ticket = self._requests.pop(reply.seq)
        sent_at = beaten_at if ticket is None else ticket.sent_at
        if isinstance(reply, wire.ErrorReply):
            self._take_error(reply, now, of_heartbeat=beaten_at is not None)
        elif sent_at is not None and self._is_of_this_session(reply):
            self._renew(sent_at)
        if isinstance(reply, wire.HeartbeatAck):
            self._take_commands(reply)
        if ticket is not None:
            ticket.end(reply=reply)

    def _take_error(self, reply: wire.ErrorReply, now: float, *, of_heartbeat: bool) -> None:
        if of_heartbeat:
            log.warning("heartbeat: %s", reply.message)
        if reply.code == "fenced" and self._introduce is not None and self._is_of_this_session(reply):
            # Register again; the caller learns from its error that what it had not committed is void.
            self.start_over(now)

    def _take_commands(self, reply: wire.HeartbeatAck) -> None:
        first = reply.command_id - len(reply.commands) + 1
        for number, command in enumerate(reply.commands, start=first):
            if number > self.commands_seen:
                self.commands_seen = number
                # What was seen is told at once, so that it is not repeated for long.
                self._heartbeat_at = _AT_ONCE
                if self._on_command is not None:
                    self._on_command(command)

    def _ask_for_view(self, now: float) -> None:
        if self._wants_view() and now >= self._view_at:
            self._view_at = now + _VIEW_S
            ticket = self.submit(wire.GetView(), self._take_view)
            self._view_ticket = None if ticket.done else ticket

    def _wants_view(self) -> bool:
        return self.following and self._view_ticket is None and self.view.needs_snapshot

    def _take_view(self, ticket: Ticket) -> None:
        self._view_ticket = None
        if ticket.reply is not None:
            self.view.take(ticket.reply)

    # ---- small things

    def _is_of_this_session(self, reply: wire.Reply) -> bool:
        """Whether it is about this session, and not a late word about an earlier one."""
        return self.welcome is not None and reply.session == self.welcome.session

    def _renew(self, sent_at: float) -> None:
        if self._lease is not None and sent_at < _NEVER:
            self._lease = self._lease.renew(sent_at)

    def _jitter(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.8, 1.2)

    def _addressed(self, message: Any, welcome: wire.Welcome) -> Any:
        """Return the message with the header of the present session."""
        header: dict[str, Any] = {"session": welcome.session, "term": welcome.term, "job": welcome.job}
        if isinstance(message, wire.Heartbeat):
            header["commands_seen"] = self.commands_seen
        return msgspec.structs.replace(message, **header)
