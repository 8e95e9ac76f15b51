"""The requests that a client has under way: which are due to be sent (again), and how each one ends, once.

It knows no session: what a request carries in its header, and when requests may flow, is the conversation's business.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from strata_zmq.errors import InvalidArgumentError, ProtocolError, StrataError, from_wire
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REQUEST_BYTES, decode_request, encode

__all__ = ["Outstanding", "Ticket", "check_request", "error_of"]

_RETRY_FIRST_S = 1.0
_RETRY_MAX_S = 5.0
_HEADER_MAX = 256
_AT_ONCE = float("-inf")
_NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Ticket:
    """One request under way. It ends once: with a `reply`, with an `error`, or cancelled."""

    message: Any
    on_done: Callable[[Ticket], None] | None = None
    reply: Any = None
    error: StrataError | None = None
    done: bool = False
    cancelled: bool = False
    send_at: float = _AT_ONCE
    interval_s: float = _RETRY_FIRST_S
    sent_at: float = _NEVER
    """When it was sent for the first time."""

    def end(self, *, reply: wire.Reply | None = None, error: StrataError | None = None) -> None:
        """End it with what came, and tell who waits."""
        self.done = True
        if isinstance(reply, wire.ErrorReply):
            self.error = error_of(reply)
        else:
            self.reply, self.error = reply, error
        if self.on_done is not None:
            self.on_done(self)


class Outstanding:
    """The tickets by sequence number, and when each is due."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._tickets: dict[int, Ticket] = {}
        self._due: list[tuple[float, int]] = []
        """A heap of (when, seq); an entry whose ticket is due at another time by now is passed over."""

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, ticket: Ticket) -> None:
        """Take in a ticket, to be sent at once."""
        self._tickets[ticket.message.seq] = ticket
        self._schedule(ticket, _AT_ONCE)

    def pop(self, seq: int) -> Ticket | None:
        """Take a ticket out, if it is still there."""
        return self._tickets.pop(seq, None)

    def clear(self) -> list[Ticket]:
        """Take all out, in the order of their submission."""
        tickets, self._tickets = list(self._tickets.values()), {}
        self._due.clear()
        return tickets

    def take_due(self, now: float) -> list[Ticket]:
        """Return what is to be sent now; each is due again after a growing while, with jitter."""
        found = []
        while self._due and self._due[0][0] <= now:
            entry = heapq.heappop(self._due)
            if self._is_past(entry):
                continue
            ticket = self._tickets[entry[1]]
            found.append(ticket)
            ticket.sent_at = min(ticket.sent_at, now)
            self._schedule(ticket, now + ticket.interval_s * self._random.uniform(0.8, 1.2))
            ticket.interval_s = min(ticket.interval_s * 2, _RETRY_MAX_S)
        return found

    def again(self, seq: int) -> None:
        """Have one sent again at once: it did not leave."""
        ticket = self._tickets.get(seq)
        if ticket is not None:
            ticket.interval_s = _RETRY_FIRST_S
            self._schedule(ticket, _AT_ONCE)

    def again_all(self) -> None:
        """Have all sent again at once, in the order of their submission: there is a new session."""
        self._due.clear()
        for seq in self._tickets:
            self.again(seq)

    def next_due(self) -> float:
        """Return when the next is due; infinity if none is."""
        while self._due and self._is_past(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else _NEVER

    def _schedule(self, ticket: Ticket, at: float) -> None:
        ticket.send_at = at
        heapq.heappush(self._due, (at, ticket.message.seq))

    def _is_past(self, entry: tuple[float, int]) -> bool:
        ticket = self._tickets.get(entry[1])
        return ticket is None or ticket.send_at != entry[0]


def check_request(message: wire.Request) -> None:
    """Refuse here what the coordinator could not read, so that the caller learns of it at once."""
    tag = message.__struct_config__.tag
    try:
        data = encode(message)
    except (TypeError, OverflowError, UnicodeEncodeError) as error:
        raise InvalidArgumentError(f"{tag} cannot be sent: {error}") from None
    if len(data) + _HEADER_MAX > MAX_REQUEST_BYTES:
        raise InvalidArgumentError(
            f"{tag} takes {len(data)} bytes, the limit is {MAX_REQUEST_BYTES - _HEADER_MAX}: "
            "send less metadata or fewer ranges"
        )
    try:
        decode_request(data)
    except ProtocolError as error:
        # On the wire a field is a position behind the tag; to the caller it is a name.
        fields = message.__struct_fields__
        told = re.sub(r"\$\[(\d+)\]", lambda at: fields[int(at[1]) - 1], str(error))
        raise InvalidArgumentError(f"{tag} cannot be sent: {told}") from None


def error_of(reply: wire.ErrorReply) -> StrataError:
    """Return the error that a reply tells of."""
    return from_wire(
        reply.code,
        reply.message,
        missing=tuple(reply.missing),
        generation=reply.generation,
        joined=tuple(reply.joined),
        left=tuple(reply.left),
    )
