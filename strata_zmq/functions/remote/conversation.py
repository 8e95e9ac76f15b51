"""A client's conversation with a dispatcher, as values: what is to be sent next, and what an answer means.

It knows neither sockets nor a clock: the time is brought in, so that the threaded and the asyncio face, and a test that
loses every third frame, run the same rules. Every request can be said twice, so it is said again until an answer or its
asker ends it: after a while without one, and on every new connection.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from strata_zmq.errors import StrataError, from_wire
from strata_zmq.functions.wire import Buffer
from strata_zmq.protocol.functions import (
    Answers,
    Attach,
    AttachedReply,
    Beat,
    BeatAck,
    Cancel,
    Cancelling,
    ClientReply,
    Complaint,
    Counts,
    Detach,
    Fetch,
    GetCounts,
    ListTasks,
    Page,
    PutBlobs,
    RegisterFunction,
    Results,
    Seen,
    Stored,
    Submit,
    SubmittedReply,
    TaskRow,
    Watch,
    decode_at_client,
    encode_function,
)

__all__ = ["Answer", "Attached", "ClientConversation", "Ended", "Frames", "Refused", "Replied", "Request", "Ticket"]

log = logging.getLogger("strata.functions")

Frames = list[Buffer]
"""One message: the control frame, and the payload frames behind it."""
Request = PutBlobs | RegisterFunction | Submit | Fetch | Watch | Cancel | ListTasks | GetCounts

_BEAT_S = 5.0
_ATTACH_AGAIN_S = 1.0
_AGAIN_FIRST_S = 2.0
_AGAIN_MAX_S = 16.0
_CONFIRMED_WITHIN_S = 0.05
_CONFIRMED_TOGETHER = 8
_SLOWEST_BYTES_PER_S = 10_000_000
"""A message with payloads is given the time that it takes to travel at this rate before it is said again."""
_ANSWERS: dict[type[Any], type[Any]] = {
    PutBlobs: Stored,
    RegisterFunction: Stored,
    Submit: SubmittedReply,
    Fetch: Answers,
    Watch: Answers,
    Cancel: Cancelling,
    ListTasks: Page,
    GetCounts: Counts,
}


class Ticket:
    """A request under way. `tag` is its asker's; `asked_at` is when it was asked, whatever was sent since."""

    __slots__ = ("again_at", "asked_at", "frames", "interval_s", "message", "nbytes", "seqs", "tag")

    def __init__(self, message: Request, frames: Sequence[Buffer], tag: object, now: float) -> None:
        self.message = message
        self.frames = frames
        self.tag = tag
        self.nbytes = sum(memoryview(frame).nbytes for frame in frames) if frames else 0
        self.asked_at = now
        self.again_at = 0.0
        self.interval_s = _AGAIN_FIRST_S + self.nbytes / _SLOWEST_BYTES_PER_S
        self.seqs: list[int] = []
        """The numbers under which it was sent; the last is the present one."""


@dataclass(frozen=True, slots=True)
class Attached:
    """The dispatcher has taken this client in. With `again` it had before: on an older connection, or in an older life
    of the dispatcher (`restarted`).
    """

    again: bool
    restarted: bool


@dataclass(frozen=True, slots=True)
class Replied:
    """The answer to a request."""

    ticket: Ticket
    message: ClientReply
    frames: Sequence[Buffer]


@dataclass(frozen=True, slots=True)
class Refused:
    """The dispatcher will not answer this request; asking again changes nothing, but where `retry_after_s` says so."""

    ticket: Ticket
    error: StrataError
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Tasks that have ended, as the dispatcher tells without being asked. The same end may be told several times."""

    rows: Sequence[TaskRow]
    frames: Sequence[Buffer]


Answer = Attached | Replied | Refused | Ended


class ClientConversation:
    """One client's side of the protocol. For one thread.

    Its driver says when there is a connection (`connected`, `disconnected`), sends what `due` returns in that order,
    gives every message to `take`, and comes back at `next_wakeup`. `now` is in seconds and never goes back.
    """

    def __init__(self, client_id: str, *, python: str = "", deliver: bool = True) -> None:
        self.client_id = client_id
        self.incarnation = ""
        """The dispatcher's present life; "" before it has answered."""
        self.pythons: Sequence[str] = ()
        """The Python versions of the workers that there were when it last took this client in."""
        self.attached = False
        self.heard_at = float("-inf")
        """When the dispatcher last said anything."""
        self.failure: StrataError | None = None
        """Why the conversation cannot be had at all; None while it can."""
        self._python = python
        self._deliver = deliver
        self._up = False
        self._numbers = itertools.count(1)
        self._tickets: dict[int, Ticket] = {}
        """By every number under which a request was sent and may still be answered."""
        self._open: dict[Ticket, None] = {}
        """Every request without an end, in the order of asking."""
        self._unsent: deque[Ticket] = deque()
        self._again_at = float("inf")
        """No request has to be said again before."""
        self._attach_seq = 0
        self._attach_at = 0.0
        self._beat_at = 0.0
        self._beat_s = _BEAT_S
        self._seen = 0
        """All RESULTS up to this number are here."""
        self._ahead: set[int] = set()
        """Those beyond a gap."""
        self._seen_at = float("inf")
        """When the next confirmation is due."""
        self._unconfirmed = 0
        """Messages of results that have come since the last one."""
        self._renumbered = False
        """The dispatcher may have begun to count anew, or to tell again what was not confirmed in time."""

    # ---- what its driver's owner says

    def ask(self, message: Request, frames: Sequence[Buffer], now: float, tag: object = None) -> Ticket:
        """Begin a request; `message.seq` is of no meaning. It ends with Replied, Refused or `forget`."""
        ticket = Ticket(message, frames, tag, now)
        self._open[ticket] = None
        self._unsent.append(ticket)
        return ticket

    def forget(self, ticket: Ticket) -> None:
        """Want no answer any more; the dispatcher may carry the request out all the same."""
        if self._open.pop(ticket, 0) is None:
            for number in ticket.seqs:
                self._tickets.pop(number, None)

    def replace(self, ticket: Ticket, message: Request, frames: Sequence[Buffer]) -> None:
        """Say this when the request is said again; answers to what was said before are of no meaning any more."""
        for number in ticket.seqs:
            self._tickets.pop(number, None)
        ticket.seqs.clear()
        ticket.message, ticket.frames = message, frames

    def open_requests(self) -> list[Ticket]:
        """Return every request without an end, in the order of asking."""
        return list(self._open)

    def goodbye(self, *, abandon: bool) -> Frames:
        """Return the last message of a client that goes."""
        return [encode_function(Detach(abandon))]

    # ---- what its driver does

    def connected(self, now: float) -> None:
        """There is a connection, perhaps a new one: the client attaches, whatever it was told on an older one."""
        self._up = True
        self._begin(now)

    def disconnected(self) -> None:
        """There is none any more: what was sent and not answered may be lost."""
        self._up = self.attached = False

    def due(self, now: float) -> list[Frames]:
        """Return the messages that have to be sent now, in order. They count as sent."""
        if not self._up or self.failure is not None:
            return []
        if not self.attached:
            if now < self._attach_at:
                return []
            self._attach_at = now + _ATTACH_AGAIN_S
            self._attach_seq = next(self._numbers)
            attach = Attach(
                self._attach_seq,
                self.client_id,
                python=self._python,
                deliver=self._deliver,
                incarnation=self.incarnation,
            )
            return [[encode_function(attach)]]
        messages: list[Frames] = []
        if now >= self._seen_at:
            self._seen_at, self._unconfirmed = float("inf"), 0
            messages.append([encode_function(Seen(self._seen))])
        if now >= self._again_at:
            self._gather_overdue(now)
        while self._unsent:
            ticket = self._unsent.popleft()
            if ticket in self._open:
                messages.append(self._sent(ticket, now))
        if now >= self._beat_at:
            self._beat_at = now + self._beat_s
            messages.append([encode_function(Beat())])
        return messages

    def take(self, frames: Sequence[Buffer], now: float) -> list[Answer]:
        """Return what a message of the dispatcher means; ProtocolError for one that is not understood.

        After a ProtocolError the conversation goes on: what was asked is said again.
        """
        message = decode_at_client(bytes(frames[0]))
        self.heard_at = now
        if isinstance(message, Results):
            self._count_results(message.number, now, large=len(frames) > 1)
            return [Ended(message.rows, frames[1:])] if message.rows else []
        if isinstance(message, BeatAck):
            return []
        if isinstance(message, AttachedReply):
            return self._welcome(message, now)
        if isinstance(message, Complaint):
            return self._complaint(message, now)
        ticket = self._tickets.get(message.seq)
        if ticket is None:
            return []
        if type(message) is not _ANSWERS[type(ticket.message)]:
            log.warning("the dispatcher answered %s with %s", type(ticket.message).__name__, type(message).__name__)
            return []
        if isinstance(message, SubmittedReply) and message.refused and message.seq != ticket.seqs[-1]:
            # What an earlier copy was refused, the later one may be granted: its answer counts.
            return []
        self.forget(ticket)
        return [Replied(ticket, message, frames[1:])]

    def next_wakeup(self) -> float | None:
        """Return when `due` has something to send, as far as is known now; None: only something new changes that."""
        if not self._up or self.failure is not None:
            return None
        if not self.attached:
            return self._attach_at
        if self._unsent:
            return self.heard_at
        return min(self._beat_at, self._again_at, self._seen_at)

    # ---- inside

    def _begin(self, now: float) -> None:
        self.attached = False
        self._attach_at = now

    def _sent(self, ticket: Ticket, now: float) -> Frames:
        number = next(self._numbers)
        ticket.seqs.append(number)
        self._tickets[number] = ticket
        ticket.again_at = now + ticket.interval_s
        self._again_at = min(self._again_at, ticket.again_at)
        return [encode_function(msgspec.structs.replace(ticket.message, seq=number)), *ticket.frames]

    def _gather_overdue(self, now: float) -> None:
        """Queue again what has had no answer for its interval, and find out when that is so next."""
        self._again_at = float("inf")
        for ticket in self._open:
            if not ticket.seqs or ticket.again_at == float("inf"):
                continue
            if now >= ticket.again_at:
                ticket.again_at = float("inf")
                # Twice the time, so that a slow dispatcher is not buried under copies.
                ticket.interval_s = min(2 * ticket.interval_s, max(_AGAIN_MAX_S, ticket.interval_s))
                self._unsent.append(ticket)
            else:
                self._again_at = min(self._again_at, ticket.again_at)

    def _welcome(self, message: AttachedReply, now: float) -> list[Answer]:
        if message.seq != self._attach_seq or self.attached:
            return []
        self.attached = True
        again, restarted = bool(self.incarnation), self.incarnation not in {"", message.incarnation}
        self.incarnation, self.pythons = message.incarnation, message.pythons
        self._ahead.clear()
        self._renumbered = again
        if restarted:
            self._seen = 0
        self._beat_s = min(_BEAT_S, message.lease_s / 3) if message.lease_s else _BEAT_S
        self._beat_at = now + self._beat_s
        # Nobody knows what of it has arrived.
        self._unsent = deque(self._open)
        self._again_at = float("inf")
        return [Attached(again, restarted)]

    def _complaint(self, message: Complaint, now: float) -> list[Answer]:
        if message.code == "unknown_session":
            if self.attached:
                self._begin(now)
            return []
        error = from_wire(message.code, message.message)
        if message.seq == self._attach_seq and not self.attached:
            self.failure = error
            return []
        ticket = self._tickets.get(message.seq)
        if ticket is None:
            log.warning("the dispatcher complains: %s: %s", message.code, message.message)
            return []
        self.forget(ticket)
        return [Refused(ticket, error, message.retry_after_s)]

    def _count_results(self, number: int, now: float, *, large: bool) -> None:
        """Confirm what came without a gap; what lies beyond one is not confirmed, so that all of it comes again.

        Several are confirmed together, soon; results that are kept in long frames, at once.
        """
        self._unconfirmed += 1
        at_once = large or self._unconfirmed >= _CONFIRMED_TOGETHER
        self._seen_at = now if at_once else min(self._seen_at, now + _CONFIRMED_WITHIN_S)
        if self._renumbered:
            # On a new connection all that is not confirmed comes first; who was away for long is counted for anew.
            self._seen, self._renumbered = min(self._seen, number - 1), False
        if number <= self._seen:
            return
        self._ahead.add(number)
        while self._seen + 1 in self._ahead:
            self._seen += 1
            self._ahead.remove(self._seen)
