"""Owns the arithmetic on samples: medians, their intervals, p99; knows no clock and no case.

The interval of a median is the distribution-free order-statistic interval: for n independent values the k-th smallest
and the k-th largest enclose the true median with probability 1 - 2 * P(Binomial(n, 1/2) < k), and k is the largest
that still gives 95 %. Nothing is assumed about the shape of the noise and no random numbers are drawn. With fewer than
six values 95 % cannot be reached: the interval is then the whole range and `coverage` says what it is worth. (W. J.
Conover, Practical Nonparametric Statistics, section 3.2.)
"""

from __future__ import annotations

from math import ceil, comb
from statistics import median
from typing import TYPE_CHECKING

from .figures import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["P99_MIN", "figure", "percentile", "relative_spread"]

LEVEL = 0.95

P99_MIN = 100
"""Operations below which a 99th percentile is only the maximum under another name, so none is given."""


def figure(values: Sequence[float], latencies: Sequence[float] = ()) -> Figure:
    """Return the median of `values` with its interval, and the p99 of `latencies` if there are at least `P99_MIN`."""
    if not values:
        raise ValueError("a figure needs at least one value")
    ordered = sorted(values)
    count = len(ordered)
    rank = _interval_rank(count)
    p99 = percentile(latencies, 0.99) if len(latencies) >= P99_MIN else None
    return Figure(
        median=median(ordered),
        low=ordered[rank - 1],
        high=ordered[count - rank],
        coverage=_coverage(count, rank),
        values=tuple(values),
        p99=p99,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: the smallest value that at least `share` of the values do not exceed."""
    if not values or not 0 < share <= 1:
        raise ValueError(f"percentile needs values and a share in (0, 1], got {len(values)} values and {share}")
    ordered = sorted(values)
    # The subtraction keeps 0.99 * 100 from becoming rank 100 by a rounding error of the product.
    place: int = max(ceil(share * len(ordered) - 1e-9), 1)
    return ordered[place - 1]


def relative_spread(found: Figure) -> float:
    """Return the interval's width over the median: how far the rounds disagree (0 for one that is exact)."""
    if found.median == 0:
        return 0.0 if found.low == found.high else float("inf")
    return (found.high - found.low) / abs(found.median)


def _interval_rank(count: int) -> int:
    rank = 1
    while rank + 1 <= (count + 1) // 2 and _coverage(count, rank + 1) >= LEVEL:
        rank += 1
    return rank


def _coverage(count: int, rank: int) -> float:
    below: int = sum(comb(count, i) for i in range(rank))
    return max(1.0 - 2.0 * below / float(2**count), 0.0)
