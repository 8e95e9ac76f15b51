"""One answer tells a worker where it goes on: checkpoint, step, epoch, rank and shards."""

from __future__ import annotations

import pytest

from strata_zmq.coordinator.core import resume
from strata_zmq.protocol import messages as wire


def test_before_the_first_checkpoint_it_is_the_beginning(trio) -> None:
    job, w0, _, _ = trio
    job.dataset(total=90, shard_size=10)
    told = w0.ask(wire.ResumeFrom()).got(wire.Resume)
    assert (told.checkpoint, told.step, told.epoch, told.commit_index) == (None, 0, 0, 0)
    assert (told.generation, told.rank, told.world_size) == (1, 0, 3)
    assert told.assignments == {"data": w0.shards().shards}


def test_it_names_the_newest_checkpoint_and_the_shards_of_every_dataset(saving) -> None:
    job, workers, writer = saving
    job.dataset(total=90, shard_size=10)
    job.dataset(total=50, shard_size=10, dataset_id="more")
    for step in (10, 20):
        for worker in workers:
            worker.durable(worker.begin(step).got(wire.CheckpointOpened).checkpoint_id)
        order = writer.asked_to_commit()
        summary = wire.CheckpointSummary(order.checkpoint_id, step, 0, 300, 1.0)
        writer.confirm(summary, *job.history.checkpoints, order.checkpoint_id)
    for worker in workers:
        worker.advance()
    told = [worker.ask(wire.ResumeFrom()).got(wire.Resume) for worker in workers]
    assert {(one.checkpoint.step, one.step, one.epoch) for one in told} == {(20, 20, 1)}
    assert [one.rank for one in told] == [0, 1, 2]
    for dataset, shards in (("data", 9), ("more", 5)):
        assert sorted(shard for one in told for shard in one.assignments[dataset]) == list(range(shards))


def test_who_is_no_member_yet_has_no_rank_and_no_shards(make_job) -> None:
    job = make_job(initial_workers=2)
    job.dataset()
    told = job.worker("w0").ask(wire.ResumeFrom()).got(wire.Resume)
    assert (told.rank, told.world_size, told.assignments) == (-1, 0, {})


def test_more_shards_than_one_answer_holds_are_asked_for_dataset_by_dataset(job, monkeypatch) -> None:
    monkeypatch.setattr(resume, "SHARDS_MAX", 9)
    job.dataset(total=100, shard_size=10)
    (worker,) = job.workers("w0")
    worker.ask(wire.ResumeFrom()).refused("resource_exhausted", "10 shards", "GET_SHARDS")


@pytest.mark.parametrize("created_at", [float("nan"), float("inf")])
def test_a_checkpoint_without_a_time_is_refused(saving, created_at: float) -> None:
    job, _, writer = saving
    summary = wire.CheckpointSummary("c", 1, 0, 1, created_at)
    writer.confirm(summary).refused("invalid_argument", "created_at", "'c'")
    writer.offer(summary).refused("invalid_argument", "created_at", "'c'")
    assert job.history.checkpoints == {}
