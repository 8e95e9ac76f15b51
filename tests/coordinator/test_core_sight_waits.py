"""What is shown of waiting: who is missing where, how barriers ended, who was last, and who hangs."""

from __future__ import annotations

import pytest
from lookkit import Onlooker

from strata_zmq.protocol import messages as wire


def test_an_open_barrier_shows_who_is_missing_and_is_gone_once_it_is_released(trio) -> None:
    job, w0, w1, w2 = trio
    onlooker = Onlooker(job)
    w1.arrive("step", 5)
    (row,) = onlooker.rows("barriers").values()
    assert (row.barrier_id, row.arrived, row.total, row.missing) == ("1/step/5", 1, 3, ["w0", "w2"])
    w0.arrive("step", 5)
    (row,) = onlooker.rows("barriers").values()
    assert (row.arrived, row.missing) == (2, ["w2"])
    w2.arrive("step", 5).got(wire.Released)
    assert onlooker.rows("barriers") == {}


def test_a_release_tells_how_long_it_took_and_who_came_last_by_how_much(trio) -> None:
    job, w0, w1, w2 = trio
    onlooker = Onlooker(job)
    w2.arrive("step", 5)
    job.wait(0.5)
    w0.arrive("step", 5)
    job.wait(1.5)
    w1.arrive("step", 5)
    picture = onlooker.follow()
    (ended,) = picture.logs["releases"]
    assert (ended.number, ended.barrier_id, ended.released, ended.arrived) == (1, "1/step/5", True, 3)
    assert ended.wait_s == pytest.approx(2.0)
    assert ended.ended_at - ended.opened_at == pytest.approx(2.0)
    assert ended.lag.max_ms == pytest.approx(2000.0)
    assert [(name, pytest.approx(late)) for name, late in ended.slowest] == [("w1", 2.0), ("w0", 0.5)]
    assert {name: row.last_at_barriers for name, row in picture.tables["workers"].items()} == {
        "w0": 0,
        "w1": 1,
        "w2": 0,
    }
    histogram = picture.tables["histograms"]["barrier/"]
    assert (histogram.count, histogram.buckets[7]) == (1, 1), "between 1 and 3 s"
    assert histogram.sum_s == pytest.approx(2.0)


def test_of_those_who_come_together_nobody_is_the_last(trio) -> None:
    """What arrives in one step has no order; an agent's workers come like that."""
    job, w0, w1, w2 = trio
    onlooker = Onlooker(job)
    w2.arrive("step", 5)
    job.wait(0.5)
    w0.arrive("step", 5)
    w1.arrive("step", 5)
    picture = onlooker.follow()
    (ended,) = picture.logs["releases"]
    assert sorted(name for name, _ in ended.slowest) == ["w0", "w1"]
    assert {row.last_at_barriers for row in picture.tables["workers"].values()} == {0}


def test_a_barrier_that_breaks_is_told_as_one_that_was_not_released(trio) -> None:
    job, w0, _, w2 = trio
    onlooker = Onlooker(job)
    w0.arrive("step", 5)
    job.lose(w2)
    picture = onlooker.follow()
    (ended,) = picture.logs["releases"]
    assert (ended.released, ended.arrived, ended.lag) == (False, 1, None)
    (text,) = onlooker.events("barrier_broken")
    assert "barrier 'step' step 5 is broken" in text
    assert picture.tables["histograms"]["barrier/"].count == 0


def test_a_barrier_that_everybody_has_given_up_was_not_released_either(trio) -> None:
    job, w0, *others = trio
    onlooker = Onlooker(job)
    w0.arrive("step", 5, timeout_s=2.0)
    for _ in range(3):
        job.wait(1.0)
        for one in others:
            one.heartbeat()
    picture = onlooker.follow()
    (ended,) = picture.logs["releases"]
    assert (ended.released, ended.arrived, ended.total) == (False, 1, 3)
    assert picture.tables["barriers"] == {}


def test_who_hangs_is_shown_with_who_waits_for_it_until_it_moves(make_job) -> None:
    job = make_job(initial_workers=3, hang_s=10.0)
    w0, w1, w2 = members = job.workers("w0", "w1", "w2")
    onlooker = Onlooker(job)
    w0.arrive(timeout_s=600.0)
    w2.arrive(timeout_s=600.0)
    for _ in range(13):
        job.wait(1.0)
        job.client().ask(wire.GetSight(renew=True))
        for member in members:
            member.heartbeat(state="TRAINING")
    (row,) = onlooker.rows("hangs").values()
    assert (row.worker_id, row.rank, row.where) == ("w1", 1, "barrier 'step' step 1")
    assert (row.waiter_count, row.waiters) == (2, ["w0", "w2"])
    assert row.found_at - row.since >= 10.0
    (text,) = onlooker.events("hang")
    assert text.startswith("w1 (rank 1, TRAINING")
    w1.arrive().got(wire.Released)
    assert onlooker.rows("hangs") == {}


def test_a_freeze_of_leases_and_a_coordinator_that_did_not_run_are_told(make_job) -> None:
    job = make_job(initial_workers=4)
    w0, *_ = job.workers("w0", "w1", "w2", "w3")
    onlooker = Onlooker(job)
    for _ in range(9):
        job.wait(1.0)
        w0.heartbeat()
        job.client().ask(wire.GetSight(renew=True))
    picture = onlooker.follow()
    assert picture.job.frozen
    assert onlooker.events("leases_frozen") == [picture.job.frozen]
    job.stall(5.0)
    assert onlooker.events("coordinator_late")[0].startswith("this coordinator did not run for 5.")


def test_an_open_barrier_that_somebody_gives_up_shows_that_one_as_missing_again(trio) -> None:
    job, w0, w1, w2 = trio
    onlooker = Onlooker(job)
    w0.arrive("step", 5, timeout_s=2.0)
    w1.arrive("step", 5, timeout_s=60.0)
    (row,) = onlooker.rows("barriers").values()
    assert row.missing == ["w2"]
    job.wait(1.0)
    w2.heartbeat()
    (row,) = onlooker.rows("barriers").values()
    assert (row.arrived, row.missing) == (1, ["w0", "w2"])


def test_what_came_and_went_between_two_deltas_is_gone_for_who_began_meanwhile(trio) -> None:
    """Who followed before has heard neither of the one nor of the other."""
    job, *members = trio
    before = Onlooker(job)
    before.follow()
    job.now += 0.3
    job.step()
    members[0].arrive("step", 5)
    late = Onlooker(job)
    assert set(late.picture.tables["barriers"]) == {"1/step/5"}
    for member in members[1:]:
        member.arrive("step", 5)
    assert late.rows("barriers") == before.rows("barriers") == {}
