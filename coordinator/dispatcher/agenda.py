"""What one pass of the dispatcher's loop has gathered for the core, and what has to wait until the core has decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from strata_zmq.functions.dispatch.events import Attempt, Event
from strata_zmq.protocol.functions import Cancel, Fetch, GetCounts, GetFunctionsSight, ListTasks, Watch

__all__ = ["Agenda", "Query"]

Query = Fetch | Watch | ListTasks | GetCounts | GetFunctionsSight | Cancel


@dataclass(slots=True)
class Agenda:
    """Filled while messages are read; `next_events` open the next pass."""

    events: list[Event] = field(default_factory=list)
    next_events: list[Event] = field(default_factory=list)
    attached: list[tuple[str, int]] = field(default_factory=list)
    """Clients that have attached, with the seq of their message."""
    enlisted: list[tuple[int, Sequence[Attempt]]] = field(default_factory=list)
    """Sessions that have begun, with the attempts that the worker says it holds."""
    queries: list[tuple[str, Query]] = field(default_factory=list)
    """What clients ask, to be answered from the state that is decided and durable."""
    digests: set[bytes] = field(default_factory=set)
    """Callables and values that the records of this pass need."""

    def turn_over(self) -> None:
        """Begin the next pass."""
        self.events = self.next_events
        self.next_events = []
        self.attached.clear()
        self.enlisted.clear()
        self.queries.clear()
        self.digests.clear()
