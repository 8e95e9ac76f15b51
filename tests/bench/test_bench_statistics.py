"""Medians, intervals and percentiles: what the report's numbers mean."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.bench.statistics import P99_MIN, figure, percentile, relative_spread

finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(finite, min_size=1, max_size=60))
def test_the_interval_encloses_the_median_and_lies_within_the_rounds(values: list[float]) -> None:
    found = figure(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.median == median(values)
    assert found.values == tuple(values)


@pytest.mark.parametrize(
    ("count", "rank", "coverage"),
    # Conover's table of order-statistic intervals for the median at 95 %.
    [(6, 1, 0.96875), (9, 2, 0.9609), (15, 4, 0.9648), (25, 8, 0.9567)],
)
def test_the_interval_is_the_tabulated_pair_of_order_statistics(count: int, rank: int, coverage: float) -> None:
    found = figure([float(value) for value in range(count)])
    assert (found.low, found.high) == (rank - 1, count - rank)
    assert found.coverage == pytest.approx(coverage, abs=1e-4)


def test_with_fewer_than_six_rounds_the_interval_is_the_whole_range_and_says_what_it_is_worth() -> None:
    found = figure([5.0, 1.0, 3.0])
    assert (found.low, found.high) == (1.0, 5.0)
    assert found.coverage == pytest.approx(0.75)


def test_the_interval_covers_the_true_median_as_often_as_it_claims() -> None:
    chance = np.random.default_rng(7)
    runs = [figure(list(chance.lognormal(size=9))) for _ in range(2000)]
    covered = sum(found.low <= 1.0 <= found.high for found in runs) / len(runs)
    assert covered == pytest.approx(runs[0].coverage, abs=0.015)


def test_a_p99_is_the_smallest_value_that_ninety_nine_in_a_hundred_do_not_exceed() -> None:
    assert percentile([float(value) for value in range(1, 101)], 0.99) == 99.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_no_p99_is_given_from_fewer_operations_than_it_needs() -> None:
    assert figure([1.0], [1.0] * (P99_MIN - 1)).p99 is None
    assert figure([1.0], [1.0] * P99_MIN).p99 == 1.0


def test_spread_is_the_intervals_width_over_the_median() -> None:
    assert relative_spread(figure([9.0, 10.0, 11.0])) == pytest.approx(0.2)
    assert relative_spread(figure([0.0, 0.0])) == 0.0


def test_a_figure_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        figure([])
