"""One barrier's rule, for every order and repetition of arrivals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.barrier import SLOWEST_MAX, Barrier, BarrierKey, Terms, quantile
from strata_zmq.errors import InvalidArgumentError

KEY = BarrierKey(1, "step", 7)
NAMES = [f"w{number}" for number in range(8)]


def opened(expected: int) -> Barrier[str]:
    return Barrier(KEY, Terms(expected), expected, opened_at=0.0)


@given(arrivals=st.lists(st.sampled_from(NAMES), max_size=40), expected=st.integers(1, 8))
def test_it_is_complete_when_as_many_different_workers_have_arrived_and_not_before(arrivals, expected) -> None:
    barrier = opened(expected)
    for now, worker in enumerate(arrivals):
        barrier.arrive(worker, f"{worker} at {now}", float(now))
        different = list(dict.fromkeys(arrivals[: now + 1]))
        assert barrier.complete == (len(different) >= expected)
        assert list(barrier.arrivals) == different
        assert barrier.missing(NAMES) == tuple(name for name in NAMES if name not in different)


@given(arrivals=st.lists(st.sampled_from(NAMES), min_size=1, max_size=40))
def test_lags_rise_from_zero_and_count_the_first_time_that_each_one_came(arrivals) -> None:
    barrier = opened(8)
    for now, worker in enumerate(arrivals):
        barrier.arrive(worker, "", 100.0 + now)
    first = {worker: arrivals.index(worker) for worker in arrivals}
    assert barrier.lags_s() == [place - first[arrivals[0]] for place in sorted(first.values())]
    latecomers = sorted(first, key=lambda worker: -first[worker])
    assert barrier.slowest() == latecomers[:-1][:SLOWEST_MAX]


def test_who_withdraws_is_missing_again_and_comes_back_last() -> None:
    barrier = opened(2)
    barrier.arrive("w0", "", 1.0)
    barrier.arrive("w1", "", 2.0)
    barrier.withdraw("w0")
    assert not barrier.complete
    assert barrier.missing(["w0", "w1"]) == ("w0",)
    barrier.arrive("w0", "", 5.0)
    assert list(barrier.arrivals) == ["w1", "w0"]
    assert barrier.lags_s() == [0.0, 3.0]


def test_a_barrier_of_nobody_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected is 0; it takes 1 or more"):
        opened(0)


@given(values=st.lists(st.integers(0, 100), min_size=1, max_size=50), percent=st.integers(0, 100))
def test_a_quantile_is_the_least_value_that_so_many_do_not_exceed(values, percent) -> None:
    found = quantile(sorted(values), percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    smaller = [value for value in values if value < found]
    assert not smaller or sum(value <= max(smaller) for value in values) * 100 < percent * len(values)
