"""What cores and clocks may say that cannot be: it is shown as what it is or not at all, and nothing else suffers."""

from __future__ import annotations

import pytest
from sightkit import Stage, checkpoint, job, open_barrier, release, worker

from strata_zmq.coordinator.api.state import board
from strata_zmq.coordinator.api.state.history import HistoryStore
from strata_zmq.coordinator.api.state.timeline import TimelineStore
from strata_zmq.protocol.fields import Spent

DATE_MAX_MS = 8_640_000_000_000_000
DAY_S = 86_400.0
YEAR_S = 365 * DAY_S


@pytest.mark.parametrize(("created_at", "shown"), [(1e300, DATE_MAX_MS), (-1e300, -DATE_MAX_MS), (990.5, 990_500)])
def test_a_time_that_is_no_date_to_a_browser_is_shown_as_one(created_at: float, shown: int) -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(), checkpoints=[checkpoint("a", created_at=created_at)])
    stage.turn()
    assert stage.dashboard()["checkpoints"][0]["created_at"] == shown


def test_a_barrier_that_was_opened_again_and_is_gone_without_a_word_costs_no_turn() -> None:
    stage = Stage()
    core = stage.coordinator
    core.begin(job=job(), releases=[release(1)])
    stage.turn()
    core.say(barriers=[open_barrier("1/step/1")])
    stage.turn()
    core.say(gone={"barriers": ["1/step/1"]})
    stage.turn()
    core.say(releases=[release(number) for number in range(2, 2 + board.BARRIERS_MAX)])
    stage.turn()
    shown = stage.dashboard()["barriers"]
    assert len(shown) == board.BARRIERS_MAX
    assert "1/step/1" not in {row["id"] for row in shown}


def test_counts_of_a_worker_that_go_back_are_no_rate() -> None:
    stage = Stage()
    core = stage.coordinator
    core.begin(job=job(), workers=[worker("w0", heard_at=stage.now, spent=Spent(training_s=10.0, samples=1000))])
    stage.turn(10)
    core.say(workers=[worker("w0", heard_at=stage.now, spent=Spent(training_s=5.0, samples=10))])
    stage.turn(1)
    shown = stage.worker("w0")
    assert shown["samples_per_s"] is None
    assert shown["training_share"] == 0.0


def told(store: TimelineStore, seconds: int, end: float) -> list[str]:
    page = store.read(seconds, end, ["w0"], 1)
    return [page.phases[phase] for phase, count in page.rows[0].runs for _ in range(count)]


def test_a_cores_clock_that_jumps_by_years_is_not_painted_second_by_second_and_the_time_after_is() -> None:
    store = TimelineStore()
    store.advance(1000.0)
    store.begin("w0", 1000.0)
    store.paint("w0", 1000.0 + 1000 * YEAR_S, {"training": 1e9})  # second by second it would take hours
    for at in range(1001, 1007):  # it was set right again
        store.advance(float(at))
        store.paint("w0", float(at), {"training": 1.0})
    assert told(store, 4, 1006.0) == ["training"] * 4


def test_the_timeline_and_the_charts_go_on_behind_a_clock_that_was_a_day_ahead_for_a_while() -> None:
    timeline, history = TimelineStore(), HistoryStore()
    for at in (1000.0, 1000.0 + DAY_S, 1001.0, 1002.0, 1003.0):
        timeline.advance(at)
        history.append(at, {"samples_per_s": at})
        if at == 1000.0:
            timeline.begin("w0", at)
        timeline.paint("w0", at, {"training": 1.0})
    assert told(timeline, 1, 1003.0) == ["training"]
    assert history.read(2, 1004.0).series["samples_per_s"] == [1002.0, 1003.0]


def test_goodput_goes_on_behind_a_cores_clock_that_was_set_back() -> None:
    stage = Stage()
    core = stage.coordinator
    core.begin(job=job(), workers=[worker("w0", heard_at=stage.now + DAY_S, spent=Spent(training_s=10.0))])
    stage.turn(1)
    core.begin("b", job=job(), workers=[worker("w0", heard_at=stage.now, spent=Spent(training_s=11.0))])
    stage.turn(1)
    for second in range(1, 6):
        core.say(workers=[worker("w0", heard_at=stage.now, spent=Spent(training_s=11.0 + second))])
        stage.turn(1)
    assert stage.dashboard()["goodput"]["percent"] == pytest.approx(100.0, abs=1.0)
    assert stage.worker("w0")["training_share"] == pytest.approx(1.0)
