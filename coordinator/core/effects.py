"""What a step hands to the shell: what to journal, what to send, what to announce. It performs nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from strata_zmq.protocol.messages import Broadcast, Reply, SightDelta

    from .records import Record

__all__ = ["Effects", "Fanout", "HangReport", "Happening", "Stacks"]


@dataclass(frozen=True, slots=True)
class Fanout:
    """One answer to many requests: the replies differ in the header's `session` and `seq` only, which are 0 here."""

    template: Reply
    recipients: list[tuple[bytes, int, int]]
    """Connection, session and seq, in the order in which to send."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that people may want to know and that no record tells: when in the step (how many records were before
    it), what kind of thing, and what it is of.
    """

    place: int
    kind: str
    text: str
    subject: str = ""
    worker_id: str = ""


@dataclass(frozen=True, slots=True)
class Stacks:
    """What one worker's threads were doing; where it has not said so, `silence` tells what is known."""

    worker_id: str
    text: str
    silence: str = ""


@dataclass(frozen=True, slots=True)
class HangReport:
    """A hang as it is written down for people: `told` in a sentence, who is waited for, where, and by whom.

    `found_at` is Unix time; `waiters` are some of `waiter_count`. The first of `stacks` is of the one that hangs.
    """

    told: str
    worker_id: str
    where: str
    found_at: float
    still_s: float
    waiter_count: int
    waiters: list[str]
    stacks: list[Stacks] = field(default_factory=list)


@dataclass(slots=True)
class Effects:
    """The core's output. The order is contract: persist the records, then send, then broadcast, then show."""

    records: list[Record] = field(default_factory=list)
    outbox: list[tuple[bytes, Reply] | Fanout] = field(default_factory=list)
    broadcasts: list[Broadcast] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """For the log."""
    happenings: list[Happening] = field(default_factory=list)
    hangs: list[HangReport] = field(default_factory=list)
    """To be written down."""
    shown: SightDelta | None = None
    """For those who look on."""

    @property
    def sends(self) -> list[tuple[bytes, Reply]]:
        """The replies one by one, each with its connection. The shell has no need to make them all."""
        sends: list[tuple[bytes, Reply]] = []
        for item in self.outbox:
            if isinstance(item, Fanout):
                sends += [
                    (connection, msgspec.structs.replace(item.template, session=session, seq=seq))
                    for connection, session, seq in item.recipients
                ]
            else:
                sends.append(item)
        return sends
