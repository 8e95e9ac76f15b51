"""Charts have a point for every second of the last hour, and none for a second in which nothing was measured."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from sightkit import Stage, job, release

from strata_zmq.coordinator.api.state.history import SERIES, HistoryStore
from strata_zmq.coordinator.api.state.models import History
from strata_zmq.coordinator.api.state.operations import HISTORY_MAX_S
from strata_zmq.coordinator.api.state.rates import Window, bucket_quantile, quantile


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, 3 * HISTORY_MAX_S), st.floats(-1e9, 1e9), min_size=1, max_size=50),
    st.integers(1, HISTORY_MAX_S),
)
def test_a_window_has_the_points_of_its_seconds_and_null_between_them(points: dict[int, float], seconds: int) -> None:
    store = HistoryStore()
    for at, value in sorted(points.items()):
        store.append(1000.0 + at + 0.9, {"samples_per_s": value})
    last = max(points)
    shown = store.read(seconds, 1000.0 + last + 1.5)
    assert shown.start == (1000 + last + 1 - seconds) * 1000
    wanted = [points.get(at) for at in range(last + 1 - seconds, last + 1)]
    assert shown.series["samples_per_s"] == wanted
    assert set(shown.series["goodput_percent"]) == {None}
    assert len(store.read(HISTORY_MAX_S, 0.0).series["samples_per_s"]) == HISTORY_MAX_S


def test_every_published_series_is_there_by_its_name() -> None:
    assert History.__doc__ is not None
    named = History.__doc__.partition("Names:")[2].replace(".", " ").replace("\n", " ").replace(",", " ").split()
    assert list(SERIES) == named
    stage = Stage()
    stage.turn()
    points = stage.hub.board.figures.points
    told = points(
        stage.hub.board.metrics.model, stage.hub.board.barrier_statistics.model, stage.hub.board.goodput.model, 0
    )
    assert set(told) == set(SERIES)


def test_what_is_no_number_is_no_point() -> None:
    store = HistoryStore()
    store.append(1000.0, {"samples_per_s": math.inf, "barriers_per_s": math.nan, "requests_per_s": 0.0})
    series = store.read(1, 1001.0).series
    assert (series["samples_per_s"], series["barriers_per_s"], series["requests_per_s"]) == ([None], [None], [0.0])


def test_while_the_core_is_gone_charts_have_a_hole_and_not_a_last_value() -> None:
    stage = Stage(now=1000.75)
    feed = stage.coordinator
    feed.begin(job=job())
    for second in range(1, 6):
        feed.say(job=job(requests=10 * second), releases=[release(second, ended_at=stage.now)])
        stage.turn(1)
    feed.connected = False
    stage.turn(3)
    feed.say(job=job(requests=200))
    stage.turn(3)
    series = stage.hub.history.read(10, stage.now).series
    assert [one is not None for one in series["active_workers"]] == [True] * 5 + [False] * 3 + [True] * 2
    assert [one is not None for one in series["barrier_p50_ms"]] == [True] * 5 + [False] * 5
    # A rate needs two moments.
    assert [one is not None for one in series["requests_per_s"]] == [False] + [True] * 4 + [False] * 4 + [True]


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_a_value_that_was_measured_with_so_many_at_most_it(values: list[float], share: float) -> None:
    told = quantile(values, share)
    if not values:
        assert told is None
    else:
        assert told in values
        assert sum(one <= told for one in values) >= share * len(values) - 1e-9
        assert sum(one < told for one in values) < share * len(values) + 1e-9


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 9.0]), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_of_a_histogram_is_the_bound_of_its_bucket(values: list[float], share: float) -> None:
    bounds = (1.0, 2.0, 4.0)
    counts = [0, 0, 0, 0]
    for value in values:
        counts[sum(value > bound for bound in bounds)] += 1
    exact = quantile(values, share)
    assert exact is not None
    assert bucket_quantile(bounds, counts, share) == next((bound for bound in bounds if exact <= bound), 4.0)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert bucket_quantile((1.0,), [0, 0], 0.5) is None
    assert bucket_quantile((1.0,), None, 0.5) is None


def test_a_window_gives_what_rose_within_it_and_begins_anew_where_a_counter_falls() -> None:
    window = Window(60.0)
    for second in range(100):
        window.sample(1000.0 + second, {"n": 3.0 * second}, {"b": [second, 2 * second]}, life="a")
    assert window.change("n") == (180.0, 60.0)
    assert window.change("n", 10.0) == (30.0, 10.0)
    assert window.rate("n", 10.0) == 3.0
    assert window.buckets("b", 10.0) == [10, 20]
    assert window.change("other") is None
    window.sample(1100.0, {"n": 1.0}, {"b": [0, 0]}, life="a")
    assert (window.rate("n", 10.0), window.buckets("b", 10.0)) == (None, None)
    window.sample(1101.0, {"n": 9.0}, life="b")
    assert window.change("n") is None
