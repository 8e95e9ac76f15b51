"""How what is shown is kept: tables that tell what changed, logs that tell what was added, histograms.

Of what they hold they know no more than its key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

from strata_zmq.protocol.sight import key_of
from strata_zmq.protocol.sight_rows import HistogramSight

__all__ = ["Histogram", "Log", "Table", "fitting"]

R = TypeVar("R")


class Table:
    """One table whose rows are made anew by `rows`, and those that its followers have been told.

    It is looked at again when it is `stale`, or each time with `always`, but not within `every_s`. `lasting` makes the
    rows of a snapshot, where they are others.
    """

    def __init__(
        self,
        name: str,
        rows: Callable[[], Iterable[Any]],
        *,
        lasting: Callable[[], Iterable[Any]] | None = None,
        always: bool = False,
        every_s: float = 0.0,
    ) -> None:
        self.name = name
        self.stale = True
        self._rows = rows
        self._lasting = lasting or rows
        self._always = always
        self._every_s = every_s
        self._looked_at = float("-inf")
        self._told: dict[str, Any] = {}
        """By key; None where not all followers have been told the same."""

    def begin(self) -> None:
        """Take the rows of this moment for told: followers begin with a snapshot."""
        self._told = self._keyed(self._rows())
        self.stale = False

    def snapshot(self) -> list[Any]:
        """Return the rows of this moment, for another follower.

        Where it is told another thing than the others were, the next change is told whatever it is: what has changed
        and changed back between two deltas is news to one of them.
        """
        rows, told = self._keyed(self._lasting()), self._told
        apart = [key for key, row in rows.items() if told.get(key) != row] + [key for key in told if key not in rows]
        if apart:
            self.stale = True
            told.update(dict.fromkeys(apart))
        return list(rows.values())

    def changes(self, now: float, most: int) -> tuple[list[Any], list[str]]:
        """Return rows that are new or different, at most `most`, and keys of rows that are gone. Now they are told."""
        if not (self.stale or self._always) or now < self._looked_at + self._every_s:
            return [], []
        self._looked_at = now
        rows, told = self._keyed(self._rows()), self._told
        gone = [key for key in told if key not in rows]
        for key in gone:
            del told[key]
        changed = [key for key, row in rows.items() if told.get(key) != row]
        self.stale = len(changed) > most
        del changed[most:]
        told.update((key, rows[key]) for key in changed)
        return [rows[key] for key in changed], gone

    def _keyed(self, rows: Iterable[Any]) -> dict[str, Any]:
        return {key_of(self.name, row): row for row in rows}


class Log(Generic[R]):
    """The latest `most` entries of a log, numbered from 1, and the number up to which its followers have been told."""

    def __init__(self, most: int) -> None:
        self.last = 0
        self._entries: deque[R] = deque(maxlen=most)
        self._told = 0

    def add(self, entry: R) -> None:
        """Add the entry of the number `last` + 1."""
        self.last += 1
        self._entries.append(entry)

    def begin(self) -> None:
        """Take everything for told."""
        self._told = self.last

    def told(self) -> list[R]:
        """Return those entries that have been told and are still kept."""
        waiting = min(self.last - self._told, len(self._entries))
        return list(islice(self._entries, len(self._entries) - waiting))

    def changes(self, most: int) -> tuple[list[R], int]:
        """Return the next entries to tell, at most `most`, and how many before them are forgotten already."""
        waiting = min(self.last - self._told, len(self._entries))
        missed = self.last - self._told - waiting
        first = len(self._entries) - waiting
        entries = list(islice(self._entries, first, min(first + most, len(self._entries))))
        self._told += missed + len(entries)
        return entries, missed


class Histogram:
    """Counts of durations by length; the last one is of those beyond all bounds. Seconds."""

    def __init__(self, name: str, label: str, bounds: Sequence[float]) -> None:
        self._name, self._label, self._bounds = name, label, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._count = 0
        self._sum_s = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration, so many times."""
        self._counts[bisect_left(self._bounds, seconds)] += times
        self._count += times
        self._sum_s += seconds * times

    def row(self) -> HistogramSight:
        """Return what has been counted."""
        return HistogramSight(
            name=self._name, label=self._label, count=self._count, sum_s=self._sum_s, buckets=list(self._counts)
        )


def fitting(rows: Iterable[R], bytes_max: int) -> list[R]:
    """Return the first rows, as many as take no more bytes on the wire."""
    kept: list[R] = []
    left = bytes_max
    for row in rows:
        left -= len(msgspec.msgpack.encode(row))
        if left < 0:
            break
        kept.append(row)
    return kept
