"""How the values of many ranks become one: a rule per operation, the same for every order in which they come."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction

from strata_zmq.errors import InvalidArgumentError

__all__ = ["OPERATIONS", "reduce"]


def reduce(op: str, values: Sequence[float]) -> float:
    """Return `values`, at least one, reduced by `op`, one of OPERATIONS.

    `sum` is the exact sum, rounded once; `mean` is that divided by the count. NaN among the values gives NaN, and so do
    both infinities in a sum; a sum too large for a float is infinite, and its mean is not. `any` and `all` are 1.0 or
    0.0, and take 0 for no and everything else, NaN too, for yes. A zero is never negative: -0.0 and 0.0 are equal, so
    which of them comes out would depend on the order.
    """
    try:
        operation = OPERATIONS[op]
    except KeyError:
        raise InvalidArgumentError(f"op is {op!r}: it is one of {', '.join(OPERATIONS)}") from None
    if not values:
        raise InvalidArgumentError(f"{op} of no values: there has to be one at least")
    return operation(values) + 0.0


def _sum(values: Sequence[float]) -> float:
    return _scaled_sum(values, 1)


def _mean(values: Sequence[float]) -> float:
    return _scaled_sum(values, len(values))


def _scaled_sum(values: Sequence[float], divisor: int) -> float:
    infinite = [value for value in values if not math.isfinite(value)]
    if infinite:
        return sum(infinite)
    if max(map(abs, values)) <= sys.float_info.max / (2 * len(values)):
        return math.fsum(values) / divisor
    # fsum gives up when it overflows on the way, which depends on the order; fractions do not overflow.
    exact = sum(map(Fraction, values)) / divisor
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _min(values: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else min(values)


def _max(values: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else max(values)


def _any(values: Sequence[float]) -> float:
    return float(any(values))


def _all(values: Sequence[float]) -> float:
    return float(all(values))


OPERATIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": _sum,
    "mean": _mean,
    "min": _min,
    "max": _max,
    "any": _any,
    "all": _all,
}
"""What a value may be reduced by."""
