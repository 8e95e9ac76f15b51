"""A coordinator that may be the sick one declares nobody lost; who is silent all the same is lost in the end."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire


@pytest.fixture
def four(make_job):
    job = make_job(initial_workers=4)
    return job, job.workers("w0", "w1", "w2", "w3")


def test_when_most_of_four_fall_silent_together_nobody_is_lost_for_one_more_lease(four) -> None:
    job, (w0, *_) = four
    writer = job.writer()
    for _ in range(8):
        job.wait(1.0)
        w0.heartbeat()
    status = job.status()
    assert "3 of 4 workers are silent at once" in status.frozen
    assert status.counters["freezes"] == 1
    for _ in range(7):
        job.wait(1.0)
        w0.heartbeat()
    assert job.history.member_ids == ("w0", "w1", "w2", "w3")
    assert job.status().writers == ["writer"]
    job.wait(1.0)
    assert job.history.member_ids == ("w0",)
    assert job.status().frozen == ""
    writer.heartbeat().refused("fenced")


def test_who_is_heard_again_during_the_freeze_stays(four) -> None:
    job, workers = four
    job.wait(10.0)
    for worker in workers[1:]:
        worker.heartbeat().got(wire.HeartbeatAck)
    job.wait(7.0)
    assert job.history.member_ids == ("w1", "w2", "w3")


def test_a_second_silence_is_frozen_anew(four) -> None:
    job, workers = four
    for _ in range(2):
        job.wait(9.0)
        for worker in workers:
            worker.heartbeat().got(wire.HeartbeatAck)
    assert job.status().counters["freezes"] == 2
    assert job.history.generation == 1


def test_one_silent_worker_among_four_is_lost_as_always(four) -> None:
    job, workers = four
    for _ in range(8):
        job.wait(1.0)
        for worker in workers[1:]:
            worker.heartbeat()
    assert job.history.member_ids == ("w1", "w2", "w3")


def test_workers_whose_successors_knock_are_gone_and_the_coordinator_can_hear(four) -> None:
    """A host that was restarted: its old processes say no more, the new ones ask for the same names."""
    job, _ = four
    for name in ("w0", "w1", "w2"):
        successor = job.client("worker")
        successor.name, successor.incarnation = name, "another life"
        successor.register().refused("already_exists")
    job.wait(8.0)
    assert job.history.member_ids == ()
    assert "freezes" not in job.status().counters


def test_a_freeze_lasts_as_much_longer_as_the_coordinator_did_not_run(four) -> None:
    job, workers = four
    job.wait(9.0)
    job.stall(30.0)
    job.step()
    for worker in workers:
        worker.heartbeat().got(wire.HeartbeatAck)
    assert job.history.generation == 1


def test_nobody_is_lost_while_requests_are_left_unread_but_for_one_lease_at_most(trio) -> None:
    """What waits unread may be the heartbeat that would have renewed."""
    job, w0, w1, w2 = trio
    watcher = job.client()
    job.wait(7.5)

    def busy(seconds: float) -> str:
        for _ in range(int(seconds * 4)):
            job.now += 0.25
            asked = watcher.event(wire.GetStatus())
            job.step(w0.event(wire.Heartbeat()), asked, backlog=True)
        return watcher.calls[asked.message.seq].got(wire.Status).frozen

    assert "left unread for 4.0 s" in busy(4.0)
    assert job.history.member_ids == ("w0", "w1", "w2")
    w1.heartbeat().got(wire.HeartbeatAck)
    w2.heartbeat().got(wire.HeartbeatAck)
    busy(8.0)
    assert job.history.member_ids == ("w0", "w1", "w2")
    busy(0.5)
    assert job.history.member_ids == ("w0",)


def test_requests_that_waited_through_a_stall_renew_before_any_lease_ends(trio) -> None:
    """A slow disk shows as a late step: what came meanwhile is in its batch."""
    job, *workers = trio
    job.wait(7.75)
    job.stall(2.5)
    job.step(*(worker.event(wire.Heartbeat()) for worker in workers))
    job.wait(7.5)
    assert job.history.member_ids == ("w0", "w1", "w2")
    assert "late_steps" not in job.status().counters


def test_the_log_is_told_of_a_late_step_and_of_a_lost_lease(trio) -> None:
    job, *_ = trio
    job.stall(5.0)
    assert job.step().notes == ["this coordinator did not run for 5.0 s: every lease is extended by that"]
    notes = []
    for _ in range(54):
        job.stall(0.25)
        notes += job.step().notes
    assert notes[0] == "worker w0 is lost: not heard for 13.0 s, its lease is 8 s"
    assert notes[-1] == "no generation: 0 of 1 workers are registered", "with nobody left it is a beginning again"
