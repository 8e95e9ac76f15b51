"""Who was given up is told apart from who has left, with the process that it was, until its name is taken up again."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REPLY_BYTES, encode

LEASE_S = 8.0


@pytest.fixture
def trio(make_job):
    job = make_job(initial_workers=3)
    return job, *job.workers("w0", "w1", "w2")


def lost(job) -> list[tuple[str, str, int]]:
    return [(row.worker_id, row.incarnation, row.pid) for row in job.status().lost]


def outlive(job, *members) -> None:
    """Let a lease pass in which only these are heard."""
    for _ in range(int(LEASE_S) + 1):
        job.wait(1.0)
        for member in members:
            member.heartbeat()


def test_a_worker_whose_lease_is_over_is_lost_and_one_that_left_is_not(trio) -> None:
    job, w0, w1, w2 = trio
    w2.ask(wire.Deregister()).got(wire.Done)
    outlive(job, w0)
    assert lost(job) == [("w1", w1.incarnation, 1000)]
    (row,) = job.status().lost
    assert row.hostname == "host"
    assert row.reason.startswith("its lease is over, it was not heard for 8")
    job.wait(2.0)
    assert job.status().lost[0].lost_s == pytest.approx(row.lost_s + 2.0)


def test_who_comes_back_and_who_succeeds_it_ends_the_loss(trio) -> None:
    """Both under the same name; the process that was lost is another one then."""
    job, w0, w1, w2 = trio
    outlive(job, w0)
    assert {name for name, _, _ in lost(job)} == {"w1", "w2"}
    w1.register().got(wire.Registered)
    assert lost(job) == [("w2", w2.incarnation, 1000)]
    job.worker("w2", pid=2000)
    assert lost(job) == []


def test_the_reason_tells_a_hang_and_a_reported_death_from_silence(make_job) -> None:
    job = make_job(initial_workers=3, hang_s=20.0, evict_hung=True)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    w0.arrive(timeout_s=600.0)
    w2.arrive(timeout_s=600.0)
    for _ in range(30):
        job.wait(1.0)
        for member in (w0, w2) if job.status().lost else (w0, w1, w2):
            member.heartbeat()
    job.lose(w0)
    assert [(row.worker_id, row.reason) for row in job.status().lost] == [
        ("w0", "its process was reported dead"),
        ("w1", "its training loop hangs"),
    ]


def test_the_loss_of_a_member_outlives_the_coordinator(trio) -> None:
    """Its supervisor may not have heard of it before."""
    job, w0, w1, _ = trio
    outlive(job, w0)
    before = lost(job)
    assert len(before) == 2
    job.restart()
    assert sorted(lost(job)) == sorted(before)
    assert {row.reason for row in job.status().lost} == {"it was given up before the coordinator was restarted"}
    w1.hello()
    w1.register().got(wire.Registered)
    assert [name for name, _, _ in lost(job)] == ["w2"]
    job.wait(LEASE_S + 1)
    job.restart()
    assert "w2" in {name for name, _, _ in lost(job)}


def test_however_many_are_lost_and_whatever_they_said_of_themselves_status_fits_one_frame(make_job) -> None:
    job = make_job()
    for first in range(0, 1500, 500):
        clients = [job.client("worker") for _ in range(500)]
        job.step(
            *(
                client.event(
                    wire.RegisterWorker(worker_id=f"w{first + n}", incarnation="i", pid=1, hostname="h" * 4096)
                )
                for n, client in enumerate(clients)
            )
        )
        for n in range(500):
            job.supervisor().ask(wire.ReportLost(worker_id=f"w{first + n}", pid=1))
    rows = job.status().lost
    assert 100 < len(rows) <= 1000
    assert rows[0].worker_id == "w1499"
    assert len(job.history.lost) <= 1000
    assert len(encode(job.status())) < MAX_REPLY_BYTES


# ---- the stop -------------------------------------------------------------------------------------------------------


def stopped(job, *members) -> None:
    """Have the members agree to stop at a commit point."""
    calls = [member.commit(values=[wire.Value("strata.stop", "any", 1.0)]) for member in members]
    for call in calls:
        call.got(wire.Released)


@pytest.fixture
def run_of_two(make_job):
    """A job whose members belong to the run "one"."""
    job = make_job(initial_workers=2)
    members = [job.worker(name, run="one") for name in ("w0", "w1")]
    for member in members:
        member.join().got(wire.Membership)
    return job, *members


def test_a_later_life_of_a_run_that_has_agreed_to_stop_is_told_so(run_of_two) -> None:
    """Also after a restart of the coordinator, and however late it comes."""
    job, w0, w1 = run_of_two
    again = job.client("worker")
    again.name, again.incarnation = "w1", "again"
    stopped(job, w0, w1)
    assert job.status().stopped_runs == ["one"]
    job.lose(w1)
    w0.ask(wire.Deregister()).got(wire.Done)
    assert again.register(run="one").got(wire.Registered).stopped
    job.restart()
    again.hello()
    assert again.register(run="one").got(wire.Registered).stopped
    assert job.status().stopped_runs == ["one"]


def test_another_run_goes_on_where_the_stopped_one_ended(run_of_two) -> None:
    job, w0, w1 = run_of_two
    stopped(job, w0, w1)
    for member in (w0, w1):
        member.ask(wire.Deregister()).got(wire.Done)
    other = [job.client("worker") for _ in range(2)]
    for name, client in zip(("w0", "w1"), other, strict=True):
        client.name, client.incarnation = name, f"two-{name}"
        assert not client.register(run="two").got(wire.Registered).stopped
    nameless = job.client("worker")
    nameless.name, nameless.incarnation = "w2", "by hand"
    assert not nameless.register().got(wire.Registered).stopped


def test_a_member_that_was_fenced_while_the_others_agreed_is_told_by_its_generation(trio) -> None:
    """No run has to have a name for that."""
    job, w0, w1, w2 = trio
    outlive(job, w0, w1)
    for member in (w0, w1):
        member.join().got(wire.Membership)
    stopped(job, w0, w1)
    assert w2.generation == 1
    assert w2.register().got(wire.Registered).stopped


def test_a_commit_point_that_nobody_wants_to_stop_at_stops_nobody(run_of_two) -> None:
    job, w0, w1 = run_of_two
    calls = [member.commit(values=[wire.Value("strata.stop", "any", 0.0)]) for member in (w0, w1)]
    for call in calls:
        call.got(wire.Released)
    assert job.status().stopped_runs == []
    assert not w1.register(run="one").got(wire.Registered).stopped
