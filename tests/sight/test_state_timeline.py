"""The timeline shows what each worker's seconds mostly went to, as reported, in memory that does not grow."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from strata_zmq.coordinator.api.state import timeline
from strata_zmq.coordinator.api.state.models import Release, Timeline
from strata_zmq.coordinator.api.state.operations import HISTORY_MAX_S
from strata_zmq.coordinator.api.state.timeline import PAINTED, PHASES, TimelineStore

REPORT = st.tuples(
    st.floats(0.05, 12.0),
    st.fixed_dictionaries({phase: st.floats(0.0, 1.0) for phase in PAINTED}),
)


def seconds_of(shown: Timeline, worker_id: str) -> list[str]:
    """Return the phases of one worker, second by second."""
    (row,) = [row for row in shown.rows if row.worker_id == worker_id]
    return [shown.phases[phase] for phase, count in row.runs for _ in range(count)]


def read(store: TimelineStore, seconds: int, end: float, *workers: str) -> Timeline:
    return store.read(seconds, end, workers, len(workers))


@settings(max_examples=80, deadline=None)
@given(st.floats(1000.0, 1001.0), st.lists(REPORT, min_size=1, max_size=20))
def test_a_second_has_the_phase_that_it_mostly_was_in_and_no_time_is_painted_twice(
    begin: float, reports: list[tuple[float, dict[str, float]]]
) -> None:
    store = TimelineStore()
    store.advance(begin)
    store.begin("w0", begin)
    truth: dict[int, dict[str, float]] = defaultdict(lambda: dict.fromkeys(PHASES, 0.0))
    at = begin
    for length, weights in reports:
        total = max(1.0, sum(weights.values()))
        spent = {phase: length * weights[phase] / total for phase in PAINTED}
        place = at
        for phase, seconds in [*spent.items(), ("idle", length - sum(spent.values()))]:
            left = seconds
            while left > 1e-12:
                part = min(left, int(place) + 1 - place)
                truth[int(place)][phase] += part
                place, left = place + part, left - part
                if abs(place - round(place)) < 1e-9:
                    place = float(round(place))
        at += length
        store.advance(at)
        store.paint("w0", at, spent)
    assume(int(at) > int(begin))
    shown = read(store, int(at) - int(begin), int(at), "w0")
    for second, phase in enumerate(seconds_of(shown, "w0"), start=int(begin)):
        spent_then = truth[second]
        assert spent_then[phase] >= max(spent_then.values()) - 1e-6, (second, spent_then, phase, begin, reports)
    assert sum(count for _, count in shown.rows[0].runs) == shown.steps == int(at) - int(begin)


def test_what_a_worker_has_not_reported_yet_is_unknown_and_what_it_was_not_there_for_absent() -> None:
    store = TimelineStore()
    store.advance(100.0)
    store.advance(105.0)
    store.begin("w0", 107.0, 103.0)
    store.advance(109.0)
    store.paint("w0", 109.0, {"training": 2.0})
    store.advance(111.0)
    shown = seconds_of(read(store, 12, 112.0, "w0"), "w0")
    assert shown == ["absent"] * 3 + ["unknown"] * 4 + ["training"] * 2 + ["unknown"] * 3


def test_a_worker_is_lost_from_its_last_report_until_it_is_back() -> None:
    store = TimelineStore()
    store.advance(100.0)
    store.begin("w0", 100.0)
    store.paint("w0", 102.0, {"training": 2.0})
    store.advance(106.0)
    store.end("w0", 105.0, "lost")
    store.advance(109.0)
    store.begin("w0", 110.0, 110.0)
    store.advance(111.0)
    store.paint("w0", 112.0, {"barrier": 2.0})
    shown = seconds_of(read(store, 12, 112.0, "w0"), "w0")
    assert shown == ["training"] * 2 + ["lost"] * 8 + ["barrier"] * 2


def test_one_that_has_left_is_absent_and_still_among_those_who_were_there() -> None:
    store = TimelineStore()
    store.advance(100.0)
    store.begin("w0", 100.0)
    store.paint("w0", 102.0, {"data": 2.0})
    store.end("w0", 102.0, "absent")
    store.advance(104.0)
    assert seconds_of(read(store, 5, 105.0, "w0"), "w0") == ["data"] * 2 + ["absent"] * 3
    assert store.names(101.0) == ["w0"]
    assert store.names(103.0) == []


def test_more_than_the_time_allows_is_scaled_to_it_and_what_is_past_is_not_painted_again() -> None:
    store = TimelineStore()
    store.advance(100.0)
    store.begin("w0", 100.0)
    store.paint("w0", 104.0, {"data": 10.0, "training": 10.0})
    store.paint("w0", 103.0, {"barrier": 3.0})
    assert seconds_of(read(store, 4, 104.0, "w0"), "w0") == ["data"] * 2 + ["training"] * 2


def test_an_hour_is_kept_and_nothing_older() -> None:
    store = TimelineStore()
    store.advance(10_000.0)
    store.begin("w0", 10_000.0)
    store.paint("w0", 10_010.0, {"training": 10.0})
    store.advance(10_000.0 + HISTORY_MAX_S + 4)
    shown = seconds_of(read(store, HISTORY_MAX_S, 10_000.0 + HISTORY_MAX_S + 5, "w0"), "w0")
    assert shown[:5] == ["training"] * 5
    assert set(shown[5:]) == {"unknown"}
    # Long before: nothing is known, and what is there now is not shown for it.
    assert set(seconds_of(read(store, 100, 9_000.0, "w0"), "w0")) == {"absent"}


def test_memory_is_bounded_and_whoever_has_been_away_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "WORKERS_MAX", 100)
    store = TimelineStore()
    for number in range(500):
        store.advance(1000.0 + number)
        store.begin(f"w{number}", 1000.0 + number)
        store.paint(f"w{number}", 1001.0 + number, {"training": 1.0})
        store.end(f"w{number}", 1001.0 + number, "absent")
    assert store._cells.shape == (100, HISTORY_MAX_S)
    assert store._cells.dtype == np.uint8
    assert len(store.names(0.0)) == 100
    assert seconds_of(read(store, 1, 1500.0, "w499"), "w499") == ["training"]
    for number in range(100):
        store.begin(f"stays{number}", 1501.0)
    store.begin("one too many", 1502.0)
    store.paint("one too many", 1503.0, {"training": 1.0})
    assert set(seconds_of(read(store, 3, 1504.0, "one too many"), "one too many")) == {"unknown"}


def test_a_long_time_of_many_workers_comes_in_coarser_steps_of_the_phase_that_most_of_each_was() -> None:
    store = TimelineStore()
    store.advance(10_000.0)
    names = [f"w{number}" for number in range(200)]
    for name in names:
        store.begin(name, 10_000.0)
        for at in range(10_006, 10_000 + HISTORY_MAX_S + 1, 6):
            store.paint(name, float(at), {"data": 2.0, "training": 4.0})
    shown = store.read(HISTORY_MAX_S, 10_000.0 + HISTORY_MAX_S, names, 200)
    assert (shown.step_s, shown.steps) == (2.0, HISTORY_MAX_S // 2)
    assert sum(count for row in shown.rows for _, count in row.runs) == 200 * shown.steps
    assert seconds_of(shown, "w7")[-6:] == ["data", "training", "training"] * 2


def test_the_ends_of_barriers_are_marked_where_they_lie_in_the_time_that_was_asked_for() -> None:
    store = TimelineStore()
    store.advance(100.0)
    ends = [
        Release(id=str(at), at=at * 1000, wait_ms=1.0, skew_max_ms=None, broken=False, slowest=[])
        for at in (89, 90, 99, 100)
    ]
    assert [one.id for one in store.read(10, 100.0, [], 0, ends).releases] == ["90", "99"]
