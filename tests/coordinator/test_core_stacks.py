"""A hang is written down: who waits for whom, and what the threads of each were doing, or that they do not say so."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire

HANG_S = 20.0


@pytest.fixture
def stuck(make_job):
    """Three members, of which w0 and w2 wait for w1; `live(seconds)` lets time pass in which all heartbeats come."""
    job = make_job(initial_workers=3, hang_s=HANG_S, lease_s=60.0, heartbeat_s=2.0)
    members = job.workers("w0", "w1", "w2")
    for member in (members[0], members[2]):
        member.arrive(timeout_s=600.0)

    def live(seconds: float, silent=()) -> list:
        reports = []
        for _ in range(int(seconds * 2)):
            job.now += 0.5
            effects = job.step(
                *(member.event(wire.Heartbeat(state="TRAINING")) for member in members if member not in silent)
            )
            reports += effects.hangs
        return reports

    return job, members, live


def tell(member, text: str) -> None:
    member.ask(wire.ReportStacks(text=text, command_id=1)).got(wire.Done)


def test_a_hang_is_written_down_when_all_have_told_their_stacks(stuck) -> None:
    _, (w0, w1, w2), live = stuck
    assert live(HANG_S + 2) == []
    for member in (w0, w1, w2):
        assert member.heartbeat().got(wire.HeartbeatAck).commands == ["dump_stacks"]
        tell(member, f"of {member.name}")
    (report,) = live(1)
    assert (report.worker_id, report.where, report.waiter_count) == ("w1", "barrier 'step' step 1", 2)
    assert report.waiters == ["w0", "w2"]
    assert [(one.worker_id, one.text) for one in report.stacks] == [("w1", "of w1"), ("w0", "of w0"), ("w2", "of w2")]
    assert report.still_s >= HANG_S
    assert live(2 * HANG_S) == [], "once"


def test_who_does_not_answer_is_waited_for_two_heartbeats_and_named(stuck) -> None:
    _, (w0, w1, w2), live = stuck
    assert live(HANG_S + 2, silent=(w1,)) == []
    for member in (w0, w2):
        tell(member, "waits")
    (report,) = live(5, silent=(w1,))
    silence = {one.worker_id: one.silence for one in report.stacks}
    assert "has not told its stacks" in silence["w1"]
    assert "stopped" in silence["w1"]
    assert silence["w0"] == silence["w2"] == ""


def test_stacks_of_an_earlier_time_are_not_those_of_the_hang(stuck) -> None:
    _, (_, w1, _), live = stuck
    tell(w1, "long ago")
    (report,) = live(HANG_S + 8)
    assert report.stacks[0].worker_id == "w1"
    assert report.stacks[0].text == ""


def test_at_most_sixteen_of_those_who_wait_are_asked(make_job) -> None:
    job = make_job(initial_workers=30, hang_s=HANG_S, lease_s=60.0, heartbeat_s=2.0)
    members = job.workers(*(f"w{number:02d}" for number in range(30)))
    for member in members[1:]:
        member.arrive(timeout_s=600.0)
    reports = []
    for _ in range(30):
        job.now += 1.0
        reports += job.step(*(member.event(wire.Heartbeat(state="TRAINING")) for member in members)).hangs
    (report,) = reports
    assert [one.worker_id for one in report.stacks] == [f"w{number:02d}" for number in range(17)]
    assert (report.waiter_count, len(report.waiters)) == (29, 20)
    assert members[20].heartbeat().got(wire.HeartbeatAck).commands == []


def test_the_latest_stacks_of_sixty_four_workers_are_shown(make_job) -> None:
    job = make_job(initial_workers=70)
    members = job.workers(*(f"w{number:02d}" for number in range(70)))
    for member in members:
        tell(member, f"of {member.name}")
    tell(members[69], "again")
    rows = job.client().ask(wire.GetSight()).got(wire.Sight).state.stacks
    assert len(rows) == 64
    assert {row.worker_id: row.text for row in rows}["w69"] == "again"
    assert "w05" not in {row.worker_id for row in rows}


def test_stacks_are_the_connections_own_and_bounded(make_job) -> None:
    """Who is no worker has none to tell; more than the limit is cut, and never in the middle of a letter."""
    job = make_job(initial_workers=1)
    (w0,) = job.workers("w0")
    job.client().ask(wire.ReportStacks(text="x")).refused("stale_generation", "REGISTER_WORKER")
    tell(w0, "ä" * 10_000)
    (row,) = job.client().ask(wire.GetSight()).got(wire.Sight).state.stacks
    assert row.text == "ä" * (16384 // 2)
    assert row.worker_id == "w0"
