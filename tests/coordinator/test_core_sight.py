"""What a coordinator shows: a snapshot is whole, and whoever follows the deltas sees what a new snapshot would show."""

from __future__ import annotations

from strata_zmq.coordinator.api.state.picture import Picture
from strata_zmq.protocol import messages as wire


class Onlooker:
    """A client that has asked for a snapshot and follows what is shown after it."""

    def __init__(self, job) -> None:
        self.job = job
        self.client = job.client()
        self.picture = Picture()
        self.begin()

    def begin(self) -> None:
        sight = self.client.ask(wire.GetSight()).got(wire.Sight)
        self.picture.begin(sight.life, sight.number, sight.at, sight.state)

    def follow(self) -> Picture:
        """Take the deltas so far, the one that is due included."""
        self.job.wait(1.25)
        for delta in self.job.shown:
            self.picture.follow(delta)
        return self.picture


def test_a_snapshot_shows_the_job_its_workers_its_settings_and_what_happened(trio) -> None:
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


def test_who_follows_sees_a_heartbeat_a_worker_that_leaves_and_one_that_is_lost(trio) -> None:
    job, w0, w1, w2 = trio
    onlooker = Onlooker(job)
    spent = wire.Spent(training_s=2.5, samples=100, data_waits=[1, 2])
    w0.heartbeat(state="TRAINING", step=7, progress=3, task="digits", spent=spent)
    w1.ask(wire.Deregister(reason="done"))
    job.lose(w2)
    picture = onlooker.follow()
    assert set(picture.tables["workers"]) == {"w0"}
    row = picture.tables["workers"]["w0"]
    assert (row.state, row.step, row.progress, row.task, row.spent) == ("TRAINING", 7, 3, "digits", spent)
    assert set(picture.tables["lost"]) == {"w2"}
    kinds = [event.kind for event in picture.logs["events"]]
    assert kinds[5:] == ["worker_left", "worker_lost", "generation", "generation"] or kinds[5:] == [
        "worker_left",
        "generation",
        "worker_lost",
        "generation",
    ]


def test_nothing_is_shown_where_nobody_looks_and_the_numbers_tell_who_looked_before(trio) -> None:
    job, *_ = trio
    job.wait(20.0)
    assert job.shown == []
    onlooker = Onlooker(job)
    onlooker.follow()
    first = len(job.shown)
    assert first >= 1
    job.wait(30.0)
    assert len(job.shown) < first + 60
    told = len(job.shown)
    job.wait(30.0)
    assert len(job.shown) == told
    job.client().ask(wire.GetSight(renew=True)).got(wire.Done)
    job.wait(1.25)
    assert job.shown[told].number > job.shown[told - 1].number + 1
