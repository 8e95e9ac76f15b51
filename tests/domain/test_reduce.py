"""What many ranks' values come to does not depend on who came first, and is defined for every float."""

from __future__ import annotations

import math
import random
import struct
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strata_zmq.domain.reduce import OPERATIONS, reduce
from strata_zmq.errors import InvalidArgumentError

ANY = st.lists(st.floats(), min_size=1, max_size=30)
FINITE = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30)
HUGE = 1.7e308


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


@given(values=ANY, seed=st.integers(), op=st.sampled_from(sorted(OPERATIONS)))
@example(values=[HUGE, HUGE, -HUGE], seed=0, op="sum")
@example(values=[HUGE, HUGE, -math.inf], seed=0, op="mean")
@example(values=[0.0, -0.0], seed=1, op="min")
def test_no_bit_depends_on_the_order_of_arrival(values, seed, op) -> None:
    shuffled = list(values)
    random.Random(seed).shuffle(shuffled)
    assert bits(reduce(op, values)) == bits(reduce(op, shuffled)) == bits(reduce(op, values[::-1]))


@given(values=FINITE)
@example(values=[HUGE, HUGE, -HUGE])
@example(values=[HUGE, HUGE])
@example(values=[-HUGE, -HUGE])
def test_a_sum_is_the_exact_one_rounded_once(values) -> None:
    exact = sum(map(Fraction, values))
    try:
        expected = float(exact)
    except OverflowError:
        expected = math.inf if exact > 0 else -math.inf
    assert reduce("sum", values) == expected


@given(values=FINITE)
@example(values=[HUGE, HUGE])
def test_a_mean_lies_between_the_least_and_the_greatest(values) -> None:
    mean = reduce("mean", values)
    assert math.isfinite(mean)
    slack = abs(mean) * 1e-15
    assert reduce("min", values) - slack <= mean <= reduce("max", values) + slack


@given(values=ANY)
def test_any_and_all_take_zero_for_no_and_everything_else_for_yes(values) -> None:
    assert reduce("any", values) == float(any(value != 0 for value in values))
    assert reduce("all", values) == float(all(value != 0 for value in values))


@given(values=ANY, op=st.sampled_from(sorted(OPERATIONS)))
def test_no_result_is_minus_zero(values, op) -> None:
    result = reduce(op, values)
    assert result != 0 or math.copysign(1.0, result) == 1.0


@pytest.mark.parametrize("op", ["sum", "mean", "min", "max"])
def test_one_rank_that_brings_nan_makes_the_result_nan(op) -> None:
    assert math.isnan(reduce(op, [1.0, math.nan, math.inf]))


def test_infinities_are_what_they_are() -> None:
    assert reduce("sum", [HUGE, math.inf]) == reduce("mean", [math.inf, 1.0]) == reduce("max", [1.0, math.inf])
    assert reduce("min", [1.0, -math.inf]) == -math.inf
    assert math.isnan(reduce("sum", [math.inf, -math.inf]))


def test_what_cannot_be_reduced_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'median'.*sum, mean"):
        reduce("median", [1.0])
    with pytest.raises(InvalidArgumentError, match="sum of no values"):
        reduce("sum", [])
