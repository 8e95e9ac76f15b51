"""What is shown of data and checkpoints: how far an epoch is, who owns what, and when each phase of a save ended."""

from __future__ import annotations

import pytest
from lookkit import Onlooker

from strata_zmq.protocol import messages as wire


def test_a_dataset_shows_how_far_it_is_and_who_owns_how_much(trio) -> None:
    job, *workers = trio
    onlooker = Onlooker(job)
    job.dataset(total=100, shard_size=10)
    row = onlooker.rows("datasets")["data"]
    assert (row.total_samples, row.shards, row.open_shards, row.committed, row.epoch) == (100, 10, 10, 0, 0)
    assert [name for name, _ in row.shards_by_worker] == ["w0", "w1", "w2"]
    assert sum(count for _, count in row.shards_by_worker) == 10
    assert {name: one.shards for name, one in onlooker.rows("workers").items()} == dict(row.shards_by_worker)
    owned = {worker: worker.shards().shards for worker in workers}
    for worker, shards in owned.items():
        worker.commit(job.seen(shards[0], 0, 10))
    picture = onlooker.follow()
    row = picture.tables["datasets"]["data"]
    assert (row.committed, row.open_shards) == (30, 7)
    assert (picture.job.committed_samples, picture.job.commit_index) == (30, 1)


def test_an_epochs_end_is_certified_and_begins_the_next(trio) -> None:
    job, *workers = trio
    onlooker = Onlooker(job)
    job.dataset(total=30, shard_size=10)
    for worker in workers:
        worker.commit(*(job.seen(shard, 0, 10) for shard in worker.shards().shards))
    for worker in workers:
        worker.advance()
    row = onlooker.rows("certificates")["data/0"]
    assert (row.samples, row.complete) == (30, True)
    assert int(row.checksum) > 0
    assert onlooker.rows("datasets")["data"].committed == 0
    assert onlooker.picture.job.epoch == 1
    assert onlooker.events("epoch") == ["epoch 1 began"]


def test_a_change_of_the_membership_shows_what_it_moved(trio) -> None:
    job, _, _, w2 = trio
    job.dataset(total=300, shard_size=10)
    onlooker = Onlooker(job)
    assert list(onlooker.rows("rebalances")) == ["1"]
    job.lose(w2)
    row = onlooker.rows("rebalances")["2"]
    assert (row.left, row.left_count, row.joined_count) == (["w2"], 1, 0)
    assert row.moved == row.lower_bound > 0
    assert row.at == pytest.approx(onlooker.picture.at, abs=2.0)
    assert onlooker.picture.job.moved_shards == row.moved
    assert {name: one.rank for name, one in onlooker.rows("workers").items()} == {"w0": 0, "w1": 1}
    assert sum(one.shards for one in onlooker.rows("workers").values()) == 30


def test_a_checkpoint_shows_each_phase_of_its_save(saving) -> None:
    job, workers, writer = saving
    onlooker = Onlooker(job)
    job.wait(1.0)
    began = job.now
    name = job.opened(workers)
    job.wait(1.0)
    for worker in workers:
        worker.staged(name).got(wire.Done)
    for worker in workers[:2]:
        worker.durable(name)
    row = onlooker.rows("checkpoints")[name]
    assert (row.status, row.staged, row.arrived, row.missing) == ("writing", 3, 2, ["w2"])
    assert (row.kind, row.worker_id, row.size_bytes) == ("FULL", "w0", 200)
    assert row.staged_at - row.began_at == pytest.approx(1.0)
    assert row.arrived_at is row.durable_at is None
    workers[2].durable(name)
    job.wait(0.5)
    writer.confirm(job.summary(name)).got(wire.Done)
    picture = onlooker.follow()
    row = picture.tables["checkpoints"][name]
    assert (row.status, row.size_bytes, row.missing) == ("durable", 300, [])
    assert row.began_at == pytest.approx(began)
    assert row.durable_at - row.arrived_at == pytest.approx(0.5)
    histograms = picture.tables["histograms"]
    for label, seconds in (
        ("stage", row.staged_at - row.began_at),
        ("drain", row.arrived_at - row.staged_at),
        ("commit", 0.5),
        ("total", row.durable_at - row.began_at),
    ):
        histogram = histograms[f"checkpoint/{label}"]
        assert (histogram.count, histogram.sum_s) == (1, pytest.approx(seconds)), label
    assert picture.job.checkpoint_bytes == 300, "its ranks have not told how much was new"
    assert onlooker.events("checkpoint_began", "checkpoint_durable") == [
        f"checkpoint {name} of step 10 began, of 3 ranks",
        f"checkpoint {name} is durable",
    ]


def test_only_what_was_new_counts_where_every_rank_has_told_it(saving) -> None:
    job, workers, writer = saving
    name = job.opened(workers)
    for worker in workers:
        worker.ask(
            wire.CheckpointArrive(checkpoint_id=name, index_key="key", digest="digest", size_bytes=100, written_bytes=7)
        )
    writer.confirm(job.summary(name))
    picture = Onlooker(job).picture
    assert picture.job.checkpoint_bytes == 21
    assert picture.tables["checkpoints"][name].written_bytes == 21


def test_a_checkpoint_that_is_given_up_is_told_once_with_the_reason(saving) -> None:
    job, workers, _ = saving
    onlooker = Onlooker(job)
    name = job.opened(workers)
    job.wait(1.25)
    workers[0].ask(wire.CheckpointFailed(checkpoint_id=name, code="storage", message="disk full")).got(wire.Done)
    job.wait(1.25)
    told = [row for delta in job.shown for row in delta.changes.checkpoints if row.status == "aborted"]
    assert [(row.checkpoint_id, row.reason) for row in told] == [(name, "rank 0 (w0): disk full")]
    assert onlooker.rows("checkpoints") == {}
    assert Onlooker(job).picture.tables["checkpoints"] == {}


def test_a_checkpoint_of_an_earlier_life_is_shown_without_times_that_nobody_has_seen(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    opened = job.opened(workers, step=11)
    job.restart()
    rows = Onlooker(job).picture.tables["checkpoints"]
    assert (rows[name].status, rows[name].kind, rows[name].began_at, rows[name].durable_at) == (
        "durable",
        "",
        None,
        None,
    )
    assert (rows[opened].status, rows[opened].kind, rows[opened].began_at) == ("writing", "FULL", None)


def test_history_that_goes_back_and_commands_are_events(saving) -> None:
    job, workers, writer = saving
    job.supervisor().ask(wire.SendCommand(command="stop", workers=["w1"], reason="enough")).got(wire.Done)
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    events = [(event.kind, event.subject, event.worker_id) for event in Onlooker(job).picture.logs["events"]]
    assert ("command", "", "w1") in events
    assert ("checkpoint_durable", name, "") in events
