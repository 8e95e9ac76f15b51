"""What a coordinator shows: a snapshot is whole, and whoever follows the deltas hears of everything that changes."""

from __future__ import annotations

from lookkit import Onlooker

from strata_zmq.coordinator.config import CoordinatorConfig
from strata_zmq.coordinator.shown_settings import shown_settings
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.sight import FLUSH_S, LEASE_S

SECRET = "only the supervisor knows"  # noqa: S105 - a test's


def test_a_snapshot_shows_the_job_its_workers_and_what_happened(trio) -> None:
    job, *_ = trio
    picture = Onlooker(job).picture
    assert (picture.job.job, picture.job.generation, picture.job.world_size) == ("job", 1, 3)
    assert {name: (row.rank, row.state, row.pid) for name, row in picture.tables["workers"].items()} == {
        "w0": (0, "INITIALIZING", 1000),
        "w1": (1, "INITIALIZING", 1000),
        "w2": (2, "INITIALIZING", 1000),
    }
    assert [event.kind for event in picture.logs["events"]] == ["term_started", *["worker_joined"] * 3, "generation"]
    assert [event.number for event in picture.logs["events"]] == [1, 2, 3, 4, 5]


def test_settings_are_shown_with_where_they_come_from_and_without_the_token(make_job) -> None:
    config = CoordinatorConfig(fixed=3, lease_s=12.0, supervisor_token=SECRET, sources={"lease_s": "option"})
    job = make_job(settings=shown_settings(config))
    shown = {row.name: (row.value, row.source) for row in Onlooker(job).picture.tables["settings"].values()}
    assert shown["lease_s"] == ("12.0", "option")
    assert shown["min_workers"] == ("3", "derived")
    assert shown["hang_s"] == ("60.0", "default")
    assert shown["supervisor_token"] == ("set", "default")
    assert SECRET not in str(shown)


def test_who_follows_sees_how_workers_are(trio) -> None:
    job, w0, *_ = trio
    onlooker = Onlooker(job)
    spent = wire.Spent(training_s=2.5, samples=100, data_waits=[1, 2])
    w0.heartbeat(state="TRAINING", step=7, progress=3, task="digits", spent=spent)
    row = onlooker.rows("workers")["w0"]
    assert (row.state, row.step, row.progress, row.task, row.spent) == ("TRAINING", 7, 3, "digits", spent)
    w0.heartbeat(state="TRAINING", step=8)
    assert onlooker.rows("workers")["w0"].spent == spent, "who does not tell has told before"


def test_who_follows_sees_who_leaves_and_who_is_lost_and_that_it_is_back(trio) -> None:
    job, _, w1, w2 = trio
    onlooker = Onlooker(job)
    w1.ask(wire.Deregister(reason="done"))
    job.lose(w2)
    assert set(onlooker.rows("workers")) == {"w0"}
    assert {name: row.reason for name, row in onlooker.rows("lost").items()} == {"w2": "its process was reported dead"}
    assert onlooker.events("worker_left", "worker_lost") == [
        "worker w1 left: done",
        "worker w2 is lost: its process was reported dead",
    ]
    job.worker("w2")
    assert onlooker.rows("lost") == {}
    assert set(onlooker.rows("workers")) == {"w0", "w2"}


def test_a_worker_that_is_lost_and_talks_on_was_lost_for_the_same_reason(trio) -> None:
    job, w0, w1, w2 = trio
    for _ in range(20):
        job.wait(1.0)
        w0.heartbeat()
        w1.heartbeat()
    (before,) = job.status().lost
    assert before.reason.startswith("its lease is over, it was not heard for")
    w2.heartbeat().refused("fenced")
    (after,) = job.status().lost
    assert after.reason == before.reason


def test_a_storage_writer_is_shown_while_it_lives(saving) -> None:
    job, workers, writer = saving
    onlooker = Onlooker(job)
    info = wire.WriterInfo("writer", writer.incarnation, "ipc:///data", "ipc:///control", "boot")
    writer.ask(wire.RegisterWriter(writer=info, pid=7, hostname="store", store="/data"))
    row = onlooker.rows("writers")["writer"]
    assert (row.pid, row.hostname, row.store) == (7, "store", "/data")
    for _ in range(20):
        job.wait(1.0)
        for worker in workers:
            worker.heartbeat()
        job.client().ask(wire.GetSight(renew=True)).got(wire.Done)
    assert onlooker.rows("writers") == {}


def test_deltas_come_at_most_four_times_a_second_and_once_where_nothing_changes(trio) -> None:
    job, *members = trio
    Onlooker(job)
    for _ in range(40):
        for member in members:
            member.heartbeat()
        job.wait(0.1)
    assert 10 <= len(job.shown) <= 4.0 / FLUSH_S
    del job.shown[:]
    job.wait(4.0)
    assert 4 <= len(job.shown) <= 5
    assert all(delta.changes == wire.Changes() for delta in job.shown[1:])


def test_nothing_is_made_where_nobody_looks_and_who_comes_back_late_sees_that_something_is_missing(trio) -> None:
    job, *_ = trio
    job.wait(20.0)
    assert job.shown == []
    Onlooker(job)
    job.wait(LEASE_S / 2)
    job.client().ask(wire.GetSight(renew=True)).got(wire.Done)
    job.wait(3 * LEASE_S)
    assert LEASE_S < len(job.shown) < 2 * LEASE_S / FLUSH_S
    *_, last = job.shown
    job.client().ask(wire.GetSight(renew=True)).got(wire.Done)
    job.wait(1.25)
    assert job.shown[job.shown.index(last) + 1].number > last.number + 1


def test_another_life_of_the_coordinator_is_told_apart(make_job) -> None:
    job = make_job(life="one")
    first = Onlooker(job).picture.life
    job.restart()
    assert Onlooker(job).picture.life != first, "another term"
    job.restart(life="two")
    assert Onlooker(job).picture.life.endswith("two"), "another process"


def test_asking_again_at_once_gives_the_same_snapshot_and_the_next_delta_has_what_is_new(trio) -> None:
    job, w0, *_ = trio
    Onlooker(job)
    w0.heartbeat(state="TRAINING", step=5)
    late = Onlooker(job)
    assert late.picture.tables["workers"]["w0"].step == 0
    assert late.rows("workers")["w0"].step == 5
