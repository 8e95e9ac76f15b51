"""Figures of a window: rates of counters, and quantiles of values and of histograms. It knows no clock.

Whoever samples says when. A counter that has fallen, or another life, begins a new window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil

__all__ = ["Window", "bucket_quantile", "quantile"]


class Window:
    """Samples of cumulative figures over the last `span_s` seconds: numbers, or lists of numbers."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._life = ""
        self._samples: deque[tuple[float, Mapping[str, float], Mapping[str, Sequence[int]]]] = deque()

    def clear(self) -> None:
        """Begin anew: what comes next continues nothing."""
        self._samples.clear()

    def sample(
        self,
        at: float,
        numbers: Mapping[str, float],
        lists: Mapping[str, Sequence[int]] | None = None,
        *,
        life: str = "",
    ) -> None:
        """Take the figures of this moment; `life` is whose counters they are."""
        if life != self._life or (self._samples and at <= self._samples[-1][0]):
            self._samples.clear()
            self._life = life
        self._samples.append((at, numbers, lists or {}))
        # The one at the far end of the window stays: differences are taken from it.
        while len(self._samples) > 2 and self._samples[1][0] <= at - self._span_s:
            self._samples.popleft()

    def change(self, name: str, seconds: float = 0.0) -> tuple[float, float] | None:
        """Return (how much `name` rose, in how many seconds) within the last `seconds` (0: the whole window).

        None while there are not two samples of it, and where it has fallen.
        """
        pair = self._pair(seconds)
        if pair is None or name not in pair[0][1] or name not in pair[1][1]:
            return None
        (before_at, before, _), (now_at, now, _) = pair
        risen = now[name] - before[name]
        return None if risen < 0 else (risen, now_at - before_at)

    def rate(self, name: str, seconds: float) -> float | None:
        """Return by how much `name` rose a second, or None as `change` does."""
        change = self.change(name, seconds)
        return None if change is None else change[0] / change[1]

    def buckets(self, name: str, seconds: float = 0.0) -> list[int] | None:
        """Return how much each place of the list `name` rose, or None as `change` does; one that came in between rose
        from nothing.
        """
        pair = self._pair(seconds)
        if pair is None or name not in pair[1][2]:
            return None
        now = pair[1][2][name]
        before = pair[0][2].get(name, ())
        risen = [value - (before[place] if place < len(before) else 0) for place, value in enumerate(now)]
        return None if any(one < 0 for one in risen) else risen

    def _pair(
        self, seconds: float
    ) -> tuple[tuple[float, Mapping[str, float], Mapping[str, Sequence[int]]], ...] | None:
        if len(self._samples) < 2:
            return None
        last = self._samples[-1]
        since = last[0] - (seconds or self._span_s)
        first = self._samples[0]
        for sample in self._samples:
            if sample[0] > since + 1e-6:
                break
            first = sample
        return None if first is last else (first, last)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of all are at most (nearest rank), or None of none."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def bucket_quantile(bounds: Sequence[float], counts: Sequence[int] | None, share: float) -> float | None:
    """Return the upper bound of the bucket that this quantile falls into, never a value in between.

    Of those beyond the last bound only that is known, so it is the answer: they took at least so long.
    """
    total = sum(counts or ())
    if counts is None or total == 0:
        return None
    wanted, seen = ceil(share * total), 0
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return bounds[-1]
