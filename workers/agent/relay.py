"""A relay between a host's workers and the coordinator, as values: their messages in, frames upward out, and back.

It has no socket, no clock and no chance of its own. It reads tags and lengths of what it forwards, never the rest, and
answers nothing itself: a session, a lease and a barrier are between a worker and the coordinator.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from random import Random

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REQUEST_BYTES, decode_downward, encode
from strata_zmq.protocol.folds import FOLD_PARTS_MAX
from strata_zmq.workers.conversation import Conversation

from .children import CHILDREN_MAX, Child, Children

__all__ = ["CHILD_BYTES_MAX", "Relay"]

log = logging.getLogger("strata.agent")

_ENVELOPE_BYTES = 96
_PART_BYTES = 16
CHILD_BYTES_MAX = MAX_REQUEST_BYTES - _ENVELOPE_BYTES - 2 * _PART_BYTES
"""The longest request of a child that fits into a frame upward."""

_WAITING_BYTES_MAX = 1024 * 1024
_FOLDS_KEPT = 128
_ARRIVAL_HOLD_S = 0.002
_HEARTBEAT_HOLD = 0.25
_SILENT_LEASES = 3.0
# A conversation numbers its own requests from 1: what is refused tells by its number what it was.
_FIRST_FOLD = 2**31
_NEVER = float("inf")


class Relay:
    """One host's relay.

    The driver hands in what children (`take_child`) and the coordinator (`take_frame`) say, sends the frame that
    `outgoing` returns and then says `sent`; it comes back at `next_due`. While `is_full` it hands in no children's.
    """

    def __init__(self, random: Random, *, job: str = "", children_max: int = CHILDREN_MAX) -> None:
        hello = wire.Hello(role="agent", job=job)
        self.conversation = Conversation(hello, random, heartbeat=lambda: wire.Heartbeat(state="IDLE"))
        """The relay's own session."""
        self.children = Children(children_max)
        self._numbers = itertools.count(_FIRST_FOLD)
        self._waiting: deque[wire.Part] = deque()
        self._waiting_bytes = 0
        self._due = self._hold_until = _NEVER
        self._outbox: deque[tuple[int, bytes]] = deque()
        """Frames to send, each with the number of its fold, or 0."""
        self._folds: dict[int, list[wire.Part]] = {}
        """The latest folds by number, oldest first: one that is refused is sent again."""
        self._refused: list[wire.Part] = []
        self._swept_at = -_NEVER

    # ---- children

    @property
    def is_full(self) -> bool:
        """Whether more waits to be sent than may."""
        return self._waiting_bytes > _WAITING_BYTES_MAX

    def take_child(self, connection: bytes, body: bytes, now: float) -> None:
        """Take one message of a child."""
        child = self.children.hear(connection, now)
        if child is None:
            log.warning(
                "a connection was left unanswered: %d are open, which is the limit; its worker goes to the "
                "coordinator itself",
                len(self.children),
            )
            return
        self._waiting.append(wire.Part(child.number, body))
        self._waiting_bytes += len(body) + _PART_BYTES
        tag = _tag(body)
        if tag == b"heartbeat":
            welcome = self.conversation.welcome
            due = now + (_HEARTBEAT_HOLD * welcome.heartbeat_s if welcome is not None else 0.0)
        elif tag == b"arrive":
            self.children.arrive(child)
            due = now
            if not self.children.complete:
                due = self._hold_until = min(self._hold_until, now + _ARRIVAL_HOLD_S)
        else:
            due = now
        self._due = min(self._due, due)

    def forget(self, connection: bytes) -> None:
        """Hear that a child's connection is gone."""
        self.children.forget(connection)

    # ---- upward

    def outgoing(self, now: float) -> bytes | None:
        """Return the next frame for the coordinator, if one is due; the same one until `sent`."""
        if not self._outbox:
            self._outbox.extend((0, encode(message)) for message in self.conversation.outgoing(now))
            if self.conversation.introduced:
                self._fold(now)
            self._sweep(now)
        return self._outbox[0][1] if self._outbox else None

    def sent(self) -> None:
        """Hear that the frame has been sent."""
        self._outbox.popleft()

    def next_due(self, now: float) -> float:
        """Return when `outgoing` has something to return, as far as is known now."""
        if self._outbox:
            return now
        due = self.conversation.next_due(now)
        if self.conversation.introduced:
            due = min(due, now if self._refused else self._due)
        return max(due, now)

    def reconnect(self, now: float) -> None:
        """Hear that the connection upward is a new one; what was under way on the old one is lost or answered."""
        for number, _ in self._outbox:
            self._refused += self._folds.pop(number, ())
        self._outbox.clear()
        self._folds.clear()
        self.conversation.start_over(now)

    # ---- downward

    def take_frame(self, data: bytes, now: float) -> list[tuple[bytes, bytes]]:
        """Take a frame of the coordinator; return what children are told, as (connection, message) in order."""
        try:
            message = decode_downward(data)
        except ProtocolError as error:
            log.warning("the coordinator sent what is not understood: %s", error)
            return []
        if isinstance(message, wire.Folded):
            return self._unfold(message)
        if isinstance(message, wire.ErrorReply) and message.seq in self._folds:
            # It comes before the answer to the hello that follows, and so do those of the folds after this one.
            self._refused += self._folds.pop(message.seq)
        self.conversation.take(message, now)
        return []

    # ---- the rest

    def _fold(self, now: float) -> None:
        """Put what waits into frames, what was refused first."""
        if not self._refused and now < self._due:
            return
        if now >= self._hold_until and not self.children.complete:
            self.children.stop_expecting()
        self._due = self._hold_until = _NEVER
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        waiting.extendleft(reversed(self._refused))
        self._refused = []
        parts: list[wire.Part] = []
        size = _ENVELOPE_BYTES
        for part in waiting:
            length = len(part.body) + _PART_BYTES
            if parts and (size + length > MAX_REQUEST_BYTES or len(parts) == FOLD_PARTS_MAX):
                self._send(parts)
                parts, size = [], _ENVELOPE_BYTES
            parts.append(part)
            size += length
        self._send(parts)

    def _send(self, parts: list[wire.Part]) -> None:
        welcome = self.conversation.welcome
        assert welcome is not None  # noqa: S101 - follows from `introduced`
        number = next(self._numbers)
        frame = encode(wire.Fold(term=welcome.term, session=welcome.session, seq=number, parts=parts))
        self._outbox.append((number, frame))
        self._folds[number] = parts
        if len(self._folds) > _FOLDS_KEPT:
            del self._folds[next(iter(self._folds))]

    def _unfold(self, folded: wire.Folded) -> list[tuple[bytes, bytes]]:
        replies = []
        for part in folded.parts:
            child = self._answered(part.child, _tag(part.body))
            if child is not None:
                replies.append((child.connection, part.body))
        for shared in folded.shared:
            tag = _tag(shared.head)
            for whom in shared.addressees:
                child = self._answered(whom.child, tag)
                if child is not None:
                    body = b"".join((shared.head, encode(whom.session), encode(whom.seq), shared.tail))
                    replies.append((child.connection, body))
        return replies

    def _answered(self, number: int, tag: bytes) -> Child | None:
        child = self.children.named(number)
        if child is not None and tag != b"heartbeat_ack":
            self.children.answer(child)
        return child

    def _sweep(self, now: float) -> None:
        """Now and then, forget who was silent for long."""
        welcome = self.conversation.welcome
        if welcome is not None and not now < self._swept_at + welcome.lease_s:
            self.children.forget_silent(now - _SILENT_LEASES * welcome.lease_s)
            self._swept_at = now


def _tag(message: bytes) -> bytes:
    """Return the tag of a message, its MessagePack array's first element; empty if it is none."""
    if not message:
        return b""
    first = message[0]
    start = 1 if first & 0xF0 == 0x90 else 3 if first == 0xDC else 5 if first == 0xDD else 0
    if not start or len(message) <= start or message[start] & 0xE0 != 0xA0:
        return b""
    return message[start + 1 : start + 1 + (message[start] & 0x1F)]
