"""Credit from measured service time: deep for short functions, nothing behind long and unknown ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.service import DEPTH_MAX, HORIZON_S, SLOW_S, ServiceTime, credit

SECONDS = st.floats(1e-7, 10.0)


def measured(*seconds: float) -> ServiceTime:
    service = ServiceTime()
    for each in seconds:
        service.add(each)
    return service


def test_the_first_sample_is_the_mean() -> None:
    service = measured(0.25)
    assert (service.mean_s, service.deviation_s, service.samples) == (0.25, 0.0, 1)


@given(st.lists(SECONDS, max_size=20), st.lists(SECONDS, min_size=1, max_size=20))
def test_a_batch_of_samples_counts_as_one_after_the_other(before: list[float], batch: list[float]) -> None:
    one = measured(*before, *batch)
    other = measured(*before)
    other.add_all(batch)
    assert (other.mean_s, other.deviation_s, other.samples) == (
        pytest.approx(one.mean_s),
        pytest.approx(one.deviation_s, abs=1e-12),
        one.samples,
    )


def test_no_samples_change_nothing() -> None:
    service = ServiceTime()
    service.add_all([])
    assert service == ServiceTime()


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_the_expectation_is_no_less_than_the_mean_and_lies_among_the_samples(seconds: list[float]) -> None:
    service = measured(*seconds)
    assert min(seconds) * 0.999 <= service.mean_s <= max(seconds) * 1.001
    assert service.expected_s >= service.mean_s


@given(st.integers(1, 64), st.lists(SECONDS, max_size=20))
def test_credit_covers_the_slots_and_no_more_than_its_span_of_time_behind_them(
    slots: int, seconds: list[float]
) -> None:
    service = measured(*seconds)
    most = credit(slots, service)
    assert slots <= most <= slots + DEPTH_MAX
    if most > slots:
        assert (most - slots) * service.expected_s <= HORIZON_S * slots * 1.001


def test_a_function_that_nobody_has_measured_has_no_depth() -> None:
    assert credit(4, None) == credit(4, ServiceTime()) == 4


def test_a_function_that_takes_longer_than_the_way_has_no_depth() -> None:
    assert credit(4, measured(SLOW_S * 1.01)) == 4
    assert credit(4, measured(SLOW_S)) > 4


def test_one_long_call_among_short_ones_takes_the_depth_away_for_a_while() -> None:
    service = measured(*[0.0001] * 50)
    assert credit(1, service) > 100
    service.add(0.5)
    assert credit(1, service) == 1
    for _ in range(100):
        service.add(0.0001)
    assert credit(1, service) > 100
