"""A worker's state moves by the table only, and an error tells how it came to where it is."""

from __future__ import annotations

import pytest

from strata_zmq.domain.membership import STORY_MAX
from strata_zmq.protocol import messages as wire


def state_of(job, name: str) -> str:
    return next(row.state for row in job.status().workers if row.worker_id == name)


def test_a_newcomer_initializes_and_reports_what_it_does(job) -> None:
    worker = job.worker("w0")
    assert state_of(job, "w0") == "INITIALIZING"
    for state in ("IDLE", "LOADING_DATA", "TRAINING", "CHECKPOINTING", "RECOVERING", "TRAINING"):
        worker.heartbeat(state=state).got(wire.HeartbeatAck)
        assert state_of(job, "w0") == state


def test_a_reconnect_does_not_change_the_state(job) -> None:
    worker = job.worker("w0")
    worker.heartbeat(state="TRAINING")
    job.worker("w0", incarnation=worker.incarnation)
    assert state_of(job, "w0") == "TRAINING"


def test_who_was_lost_recovers_and_who_left_begins_anew(trio) -> None:
    job, w0, w1, _ = trio
    job.lose(w0)
    w0.register().got(wire.Registered)
    w1.ask(wire.Deregister()).got(wire.Done)
    w1.register().got(wire.Registered)
    assert (state_of(job, "w0"), state_of(job, "w1")) == ("RECOVERING", "INITIALIZING")


def test_a_restarted_coordinator_takes_its_members_for_recovering(trio) -> None:
    job, *_ = trio
    job.restart()
    assert {row.state for row in job.status().workers} == {"RECOVERING"}


@pytest.mark.parametrize("reported", ["UNKNOWN", "FAILED"])
def test_a_missing_cell_tells_the_story_and_changes_nothing(trio, reported: str) -> None:
    job, w0, _, _ = trio
    job.lose(w0)
    job.wait(1.0)
    w0.register().got(wire.Registered)
    job.wait(2.0)
    w0.heartbeat(state="TRAINING", step=3, progress=4)
    words = ["3.0 s ago lost -> FAILED", "2.0 s ago register -> RECOVERING", "0.0 s ago TRAINING -> TRAINING"]
    w0.heartbeat(state=reported, step=99, progress=99).refused("invalid_argument", "'w0' is TRAINING", *words)
    row = next(row for row in job.status().workers if row.worker_id == "w0")
    assert (row.state, row.step, row.progress) == ("TRAINING", 3, 4)


def test_a_story_is_bounded(job) -> None:
    worker = job.worker("w0")
    for _ in range(STORY_MAX):
        worker.heartbeat(state="TRAINING")
        worker.heartbeat(state="IDLE")
    told = worker.heartbeat(state="FAILED").refused("invalid_argument", "'w0' is IDLE").message
    assert told.count("s ago") == STORY_MAX


def test_a_long_list_of_workers_that_are_gone_is_not_kept_for_ever(make_job) -> None:
    """Only the stories of the latest are remembered; an older one begins anew."""
    job = make_job()
    job.worker("stays")
    for number in range(1001):
        job.lose(job.worker(f"w{number}"))
    job.worker("w0")
    job.worker("w1000")
    assert (state_of(job, "w0"), state_of(job, "w1000")) == ("INITIALIZING", "RECOVERING")


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        (wire.Resources(cpu_percent=float("nan")), "resources.cpu_percent is nan"),
        (wire.Resources(gpu_percent=[1.0, float("inf")]), "resources.gpu_percent holds inf"),
        (wire.Resources(gpu_celsius=[float("-inf")]), "resources.gpu_celsius holds -inf"),
    ],
)
def test_a_resource_that_is_no_number_is_refused_and_named(job, resources, named: str) -> None:
    worker = job.worker("w0")
    known = wire.Resources(cpu_percent=12.5)
    worker.heartbeat(resources=known).got(wire.HeartbeatAck)
    worker.heartbeat(resources=resources, step=7).refused("invalid_argument", named)
    row = job.status().workers[0]
    assert (row.resources, row.step) == (known, 0)


def test_metadata_and_progress_are_shown(job) -> None:
    worker = job.worker("w0", metadata={"zone": "a"})
    worker.heartbeat(progress=5)
    job.wait(3.0)
    worker.heartbeat(progress=5)
    row = job.status().workers[0]
    assert (row.metadata, row.progress, row.moved_s) == ({"zone": "a"}, 5, 3.0)
