"""How long requests wait for their answers, and shards for their owners: what the loop measures with its own clock.

Requests are counted while somebody looks on only. Of messages it knows no more than their kinds; the core shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from strata_zmq.protocol.sight_rows import REQUEST_BOUNDS_S, HistogramSight
from strata_zmq.protocol.sight_tables import Histogram

from .core.records import DatasetAdded, EpochBegan, GenerationChanged, HistoryRestored, Record
from .core.world import Received

__all__ = ["Meter", "deals_shards"]

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
        # As a rule a step is full of one kind: counting that is one pass in C, and a heartbeat pays 0.03 us for it.
        kinds = [type(event.message) for event in batch]
        while kinds:
            kind = kinds[0]
            count = kinds.count(kind)
            self._of(kind).add(seconds, count)
            kinds = [] if count == len(kinds) else [one for one in kinds if one is not kind]
        if assigned:
            self._assignment.add(seconds)

    def rows(self) -> list[HistogramSight]:
        """Return all that was counted so far."""
        return [histogram.row() for histogram in (*self._requests.values(), self._assignment)]

    def _of(self, kind: type) -> Histogram:
        histogram = self._requests.get(kind)
        if histogram is None:
            tag = str(kind.__struct_config__.tag)  # type: ignore[attr-defined]
            histogram = self._requests[kind] = Histogram("request", tag, REQUEST_BOUNDS_S)
        return histogram


def deals_shards(decided: Sequence[Record]) -> bool:
    """Whether one of these records gives shards to other workers."""
    return any(type(record) in _DEALING for record in decided)
