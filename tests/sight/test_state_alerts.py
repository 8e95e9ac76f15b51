"""Goodput and alerts follow the rules that docs/sight.md states, to the second, and never guess."""

from __future__ import annotations

from typing import Any

import pytest
from sightkit import Stage, checkpoint, functions, job, lost, open_barrier, release, worker

from strata_zmq.coordinator.api.state.goodput import WorkerTimes
from strata_zmq.coordinator.api.state.timeline import TimelineStore
from strata_zmq.protocol.fields import DATA_WAIT_BOUNDS_S, Spent
from strata_zmq.protocol.sight_rows import HangSight


def alerts(stage: Stage) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in stage.dashboard()["alerts"]}


def report(stage: Stage, seconds: float, *spent: tuple[str, Spent], **fields: Any) -> None:
    """Let so much time pass, and have workers report what they have spent since they began."""
    stage.turn(seconds)
    rows = [
        worker(name, rank, heard_at=stage.now, registered_at=stage.now, spent=total, **fields)
        for rank, (name, total) in enumerate(spent)
    ]
    stage.coordinator.say(workers=rows)


def train(stage: Stage, seconds: int, *, share: float = 0.8, names: tuple[str, ...] = ("w0",)) -> None:
    """Have workers train so much of their time, in reports of five seconds."""
    for at in range(0, seconds + 1, 5):
        spent = Spent(training_s=share * at, data_s=0.1 * at, barrier_s=(0.9 - share) * at, samples=100 * at)
        report(stage, 5, *((name, spent) for name in names))
    stage.turn(1)


# ---- goodput


def test_goodput_is_the_share_of_the_last_minute_of_all_reported_time() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    train(stage, 120, share=0.8, names=("w0", "w1"))
    told = stage.dashboard()["goodput"]
    assert told["percent"] == pytest.approx(80)
    assert told["data_share"] == pytest.approx(0.1)
    assert told["barrier_share"] == pytest.approx(0.1)
    assert (told["checkpoint_share"], told["lost_share"]) == (0.0, 0.0)
    assert (told["measured_workers"], told["workers"], told["window_s"]) == (2, 2, 60.0)


def test_without_a_report_goodput_is_unknown_and_a_worker_that_reports_none_is_not_counted() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(), workers=[worker("w0")])
    stage.turn(70)
    assert stage.dashboard()["goodput"]["percent"] is None
    stage.coordinator.say(workers=[worker("foreign", 1)])
    train(stage, 60)
    told = stage.dashboard()["goodput"]
    assert told["percent"] == pytest.approx(80)
    assert (told["measured_workers"], told["workers"]) == (1, 2)


def test_a_lost_workers_time_counts_since_its_last_report_until_another_has_its_place() -> None:
    times = WorkerTimes(TimelineStore())
    for at in range(61):
        for rank, name in enumerate(("w0", "w1")):
            times.heard(worker(name, rank, heard_at=1000.0 + at, spent=Spent(training_s=float(at))), 1.0)
        times.sample(1000.0 + at, 2, 0, live=True)
    assert times.goodput(2).percent == pytest.approx(100)
    times.lost(lost("w1", 1070.0))
    for at in range(61, 91):
        times.heard(worker("w0", heard_at=1000.0 + at, spent=Spent(training_s=float(at))), 1.0)
        times.sample(1000.0 + at, 1, 1, live=True)
    # A minute of w0; half a minute of w1, and what was lost of it: ten seconds until it was given up, thirty since.
    told = times.goodput(2)
    assert told.percent == pytest.approx(100 * 90 / 130, abs=1)
    assert told.lost_share == pytest.approx(40 / 130, abs=0.01)
    for at in range(91, 152):
        for rank, name in enumerate(("w0", "w2")):
            times.heard(worker(name, rank, heard_at=1000.0 + at, spent=Spent(training_s=float(at))), 1.0)
        times.sample(1000.0 + at, 2, 1, live=True)
    assert times.goodput(3).lost_share == 0.0


def test_what_a_hanging_worker_says_to_train_is_lost_until_it_moves_again() -> None:
    """Its loop stands still within a step, and its account goes on; no figure, lane or share calls that work."""
    stage = Stage()
    stage.coordinator.begin(job=job(heartbeat_s=5.0))
    for at in range(0, 65, 5):
        report(stage, 5, ("w0", Spent(training_s=float(at))))
    stage.turn()
    assert stage.dashboard()["goodput"]["percent"] == pytest.approx(100)
    row = HangSight(
        worker_id="w0", rank=0, where="step 4", since=stage.now, found_at=stage.now, waiter_count=0, waiters=[]
    )
    stage.coordinator.say(hangs=[row])
    for at in range(65, 130, 5):
        report(stage, 5, ("w0", Spent(training_s=float(at))))
    stage.turn(1)
    told = stage.dashboard()["goodput"]
    assert (told["percent"], told["lost_share"]) == (pytest.approx(0, abs=1), pytest.approx(1, abs=0.01))
    assert stage.worker("w0")["training_share"] == pytest.approx(0, abs=0.01)
    shown = stage.hub.timeline_of(30, stage.now - 6, 0, 1, "")
    assert [shown.phases[phase] for phase, _ in shown.rows[0].runs] == ["lost"]
    stage.coordinator.say(gone={"hangs": ["w0"]})
    for at in range(130, 200, 5):
        report(stage, 5, ("w0", Spent(training_s=float(at))))
    stage.turn(1)
    assert stage.dashboard()["goodput"]["percent"] == pytest.approx(100, abs=1)
    assert stage.worker("w0")["training_share"] == pytest.approx(1, abs=0.01)


def test_a_worker_whose_row_goes_after_it_was_told_lost_is_lost_all_the_same() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    train(stage, 60)
    stage.coordinator.say(lost=[lost("w0", stage.now)])
    stage.turn()
    stage.coordinator.say(gone={"workers": ["w0"]})
    stage.turn(30)
    assert stage.worker("w0")["status"] == "failed"
    assert stage.dashboard()["goodput"]["lost_share"] > 0.3
    shown = stage.hub.timeline_of(10, stage.now, 0, 1, "")
    assert [shown.phases[phase] for phase, _ in shown.rows[0].runs] == ["lost"]


def test_shares_of_a_worker_are_of_its_last_minute_and_a_new_process_begins_anew() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    train(stage, 120, share=0.8)
    row = stage.worker("w0")
    assert (row["training_share"], row["data_share"]) == (pytest.approx(0.8), pytest.approx(0.1))
    assert (row["samples"], row["samples_per_s"]) == (12_000, pytest.approx(100))
    report(stage, 5, ("w0", Spent(training_s=1.0)), incarnation="i2")
    stage.turn()
    assert stage.worker("w0")["training_share"] is None
    report(stage, 4.75, ("w0", Spent(training_s=3.0)), incarnation="i2")
    stage.turn()
    assert stage.worker("w0")["training_share"] == pytest.approx(2 / 5)


def test_messages_between_two_reports_are_no_idle_time() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(heartbeat_s=5.0))
    total = 0.0
    report(stage, 5, ("w0", Spent()))
    for _ in range(14):
        for _ in range(4):
            report(stage, 1, ("w0", Spent(training_s=total)))  # heard, but no new report
        total += 5.0
        report(stage, 1, ("w0", Spent(training_s=total)))
    stage.turn(1)
    assert stage.dashboard()["goodput"]["percent"] == pytest.approx(100)


def test_waits_for_data_are_added_up_over_workers_that_come_and_go() -> None:
    stage = Stage(now=1000.75)
    stage.coordinator.begin(job=job())
    quick = [100] + [0] * len(DATA_WAIT_BOUNDS_S)
    slow = [100] + [0] * 5 + [2] + [0] * 3
    report(stage, 1, ("w0", Spent(data_waits=quick)))
    stage.turn(1)
    assert stage.dashboard()["metrics"]["data_wait_p99_ms"] == 1.0
    report(stage, 1, ("w0", Spent(data_waits=slow)), ("w1", Spent(data_waits=quick)))
    stage.turn()
    stage.coordinator.say(gone={"workers": ["w1"]})
    stage.turn(1)
    assert stage.hub.board.times.data_waits == [200] + [0] * 5 + [2] + [0] * 3


# ---- alerts


def test_an_alert_says_what_since_when_and_what_to_do() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    stage.turn(1)
    assert alerts(stage) == {}
    heard = stage.coordinator.heard_at
    stage.coordinator.connected = False
    stage.turn(5)
    (row,) = alerts(stage).values()
    assert (row["id"], row["level"], row["since"]) == ("coordinator_gone:", "error", round(heard * 1000))
    assert "tcp://127.0.0.1:50051" in row["text"]
    assert row["way_out"]
    stage.coordinator.say()
    stage.turn(1)
    assert alerts(stage) == {}


def test_before_the_coordinator_was_ever_heard_nothing_is_alarming() -> None:
    stage = Stage(dispatcher=True)
    stage.turn(20)
    assert alerts(stage) == {}


def test_each_hang_is_an_error_since_the_worker_stopped_moving() -> None:
    stage = Stage()
    row = HangSight(worker_id="w0", rank=0, where="step 4", since=990.0, found_at=995.0, waiter_count=2, waiters=[])
    stage.coordinator.begin(job=job(), workers=[worker("w0")], hangs=[row])
    stage.turn(1)
    told = alerts(stage)["hang:w0"]
    assert (told["level"], told["subject"], told["since"]) == ("error", "w0", 990_000)


def test_a_lost_worker_is_a_warning_for_ten_minutes_and_an_error_while_the_job_waits() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(), lost=[lost("w0", 1000.0)])
    stage.turn(1)
    assert alerts(stage)["worker_lost:w0"]["level"] == "warning"
    stage.coordinator.say(job=job(pending="waiting for 1 more", have=1, need=2))
    stage.turn(1)
    assert alerts(stage)["worker_lost:w0"]["level"] == "error"
    stage.coordinator.say(job=job())
    stage.turn(590)
    stage.coordinator.say()
    stage.turn(1)
    assert "worker_lost:w0" in alerts(stage)
    stage.turn(15)
    stage.coordinator.say()
    stage.turn(1)
    assert "worker_lost:w0" not in alerts(stage)


def test_a_job_that_waits_for_workers_is_told_after_five_seconds() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(pending="waiting for 1 more", have=1, need=2))
    stage.turn(5)
    assert alerts(stage) == {}
    stage.turn(2)
    told = alerts(stage)["quorum_pending:"]
    assert "1 are there, 2 are needed" in told["text"]
    assert told["since"] == pytest.approx(1_000_000, abs=1300)


@pytest.mark.parametrize(
    ("gaps", "limit_s"), [((), 600), ((60,) * 5, 600), ((400,) * 5, 1200), ((300, 300, 300, 2000, 300), 900)]
)
def test_the_last_durable_checkpoint_is_old_after_ten_minutes_or_three_median_gaps(
    gaps: tuple[int, ...], limit_s: int
) -> None:
    last = 1_000_000.0
    times = [last]
    for gap in reversed(gaps):
        times.append(times[-1] - gap)
    stage = Stage(now=last + limit_s - 3)
    rows = [checkpoint(f"c{at}", created_at=at, durable_at=at) for at in times]
    stage.coordinator.begin(job=job(), checkpoints=[*rows, checkpoint("now", status="writing", created_at=last + 1)])
    stage.turn(1)
    assert alerts(stage) == {}
    stage.turn(5)
    stage.coordinator.say()
    stage.turn(1)
    told = alerts(stage)["checkpoint_old:"]
    assert (told["level"], told["since"]) == ("warning", round((last + limit_s) * 1000))


def test_a_job_that_has_never_saved_has_no_old_checkpoint() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    stage.turn(1000)
    stage.coordinator.say()
    stage.turn(1)
    assert alerts(stage) == {}


def test_a_checkpoint_that_was_given_up_is_told_for_ten_minutes() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    stage.coordinator.say(checkpoints=[checkpoint("c1", status="aborted", reason="w1 was lost", step=7)])
    stage.coordinator.say(gone={"checkpoints": ["c1"]})
    stage.turn(1)
    assert "step 7 was given up: w1 was lost" in alerts(stage)["checkpoint_aborted:c1"]["text"]
    stage.turn(600)
    assert alerts(stage) == {}


def test_a_barrier_is_slow_after_ten_seconds_or_ten_times_what_most_take() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(), barriers=[open_barrier("1/step/4", opened_at=1000.0)])
    stage.turn(10)
    stage.coordinator.say()
    stage.turn(0.25)
    assert alerts(stage) == {}
    stage.turn(1)
    stage.coordinator.say()
    stage.turn(1)
    told = alerts(stage)["barrier_slow:1/step/4"]
    assert "w1" in told["way_out"]
    assert told["since"] == 1_010_000
    slow = [release(number, wait_s=3.0, ended_at=stage.now) for number in range(1, 9)]
    stage.coordinator.say(releases=slow)
    stage.turn(2)
    assert alerts(stage) == {}
    stage.turn(20)
    stage.coordinator.say()
    stage.turn(1)
    assert alerts(stage)["barrier_slow:1/step/4"]["since"] == 1_030_000


def test_goodput_is_low_below_half_of_a_whole_minute_and_names_the_largest_part_of_the_rest() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job())
    train(stage, 45, share=0.3)
    assert alerts(stage) == {}
    train(stage, 60, share=0.3)
    told = alerts(stage)["goodput_low:"]
    assert "30 %" in told["text"]
    assert "waits at barriers (60 %)" in told["way_out"]
    train(stage, 120, share=0.6)
    assert alerts(stage) == {}


def test_frozen_leases_are_told_with_the_reason() -> None:
    stage = Stage()
    stage.coordinator.begin(job=job(frozen="9 of 10 workers fell silent at once"))
    stage.turn(1)
    assert "9 of 10 workers" in alerts(stage)["leases_frozen:"]["text"]


def test_a_dispatcher_that_was_heard_and_is_gone_is_an_error() -> None:
    stage = Stage(dispatcher=True)
    stage.dispatcher.begin(functions=functions())
    stage.turn(1)
    assert alerts(stage) == {}
    stage.dispatcher.connected = False
    stage.turn(1)
    assert alerts(stage)["dispatcher_gone:"]["level"] == "error"


@pytest.mark.parametrize(("ended", "failed", "told"), [(19, 19, False), (20, 1, False), (20, 2, True), (100, 5, False)])
def test_failures_of_functions_are_told_above_five_percent_of_twenty_ends_a_minute(
    ended: int, failed: int, *, told: bool
) -> None:
    stage = Stage(now=1000.75, dispatcher=True)
    stage.dispatcher.begin(functions=functions())
    stage.turn(2)
    stage.dispatcher.say(functions=functions(ended_total=ended, failed_total=failed))
    stage.turn(2)
    assert ("function_failures:" in alerts(stage)) is told
    stage.turn(70)
    stage.dispatcher.say()
    stage.turn(1)
    assert alerts(stage) == {}


def test_errors_come_before_warnings_and_what_was_true_when_the_core_went_is_not_told_as_of_now() -> None:
    stage = Stage()
    row = HangSight(worker_id="w0", rank=0, where="step 4", since=999.0, found_at=999.0, waiter_count=2, waiters=[])
    stage.coordinator.begin(job=job(), lost=[lost("w1", 990.0)], hangs=[row])
    stage.turn(1)
    assert [one["kind"] for one in stage.dashboard()["alerts"]] == ["hang", "worker_lost"]
    stage.coordinator.connected = False
    stage.turn(1)
    assert [one["kind"] for one in stage.dashboard()["alerts"]] == ["coordinator_gone"]
