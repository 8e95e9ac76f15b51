"""How long requests wait for their answers, and shards for their owners: what the loop measures with its own clock.

It counts per step, not per request, and knows of messages no more than their kinds. The core only shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from strata_zmq.protocol.sight_rows import REQUEST_BOUNDS_S, HistogramSight

from .core.records import DatasetAdded, EpochBegan, GenerationChanged, HistoryRestored, Record
from .core.sight_tables import Histogram
from .core.world import Received

__all__ = ["Meter", "deals_shards"]

_message_of = attrgetter("message")
_DEALING = frozenset({GenerationChanged, DatasetAdded, EpochBegan, HistoryRestored})


class Meter:
    """Histograms since the process began."""

    def __init__(self) -> None:
        self._requests: dict[type, Histogram] = {}
        self._assignment = Histogram("assignment", "", REQUEST_BOUNDS_S)

    def note(self, batch: Sequence[Received], seconds: float, *, assigned: bool) -> None:
        """Take one step: what it has read, how long from reading the first to sending the last answer, and whether it
        has dealt shards anew. Each of its requests has waited for so long, at most.
        """
        # Counted without a loop in Python: a heartbeat pays 0.1 us for it.
        for kind, count in Counter(map(type, map(_message_of, batch))).items():
            histogram = self._requests.get(kind)
            if histogram is None:
                histogram = self._requests[kind] = Histogram("request", _tag_of(kind), REQUEST_BOUNDS_S)
            histogram.add(seconds, count)
        if assigned:
            self._assignment.add(seconds)

    def rows(self) -> list[HistogramSight]:
        """Return all that was counted so far."""
        return [histogram.row() for histogram in (*self._requests.values(), self._assignment)]


def deals_shards(decided: Sequence[Record]) -> bool:
    """Whether one of these records gives shards to other workers."""
    return any(type(record) in _DEALING for record in decided)


def _tag_of(kind: type) -> str:
    return str(kind.__struct_config__.tag)  # type: ignore[attr-defined]
