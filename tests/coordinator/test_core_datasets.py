"""Datasets, their shards, and the epoch that all members finish together."""

from __future__ import annotations

from itertools import chain

import pytest

from strata_zmq.coordinator.core import datasets
from strata_zmq.protocol import messages as wire


def register(job, **fields):
    given = {"dataset_id": "data", "total_samples": 100, "shard_size": 10, **fields}
    return job.client().ask(wire.RegisterDataset(**given))


def test_registering_the_same_dataset_again_is_harmless(job) -> None:
    assert register(job).got(wire.DatasetRegistered).total_shards == 10
    before = len(job.records)
    assert register(job).got(wire.DatasetRegistered).total_shards == 10
    assert len(job.records) == before


@pytest.mark.parametrize(
    "difference",
    [{"total_samples": 101}, {"shard_size": 11}, {"shuffle": False}, {"seed": 1}, {"path": "/elsewhere"}],
    ids=lambda difference: next(iter(difference)),
)
def test_another_description_under_the_same_name_is_refused_and_the_field_named(job, difference) -> None:
    register(job)
    register(job, **difference).refused("already_exists", "'data'", next(iter(difference)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset_id", ""),
        ("dataset_id", "a" * 257),
        ("dataset_id", "a/b"),
        ("total_samples", 0),
        ("total_samples", -1),
        ("total_samples", 2**63),
        ("shard_size", 0),
        ("shard_size", -5),
        ("seed", -1),
        ("path", "a/../b"),
        ("path", "x" * 4097),
        ("metadata", {"k": "v" * 1025}),
    ],
)
def test_a_dataset_outside_the_limits_is_refused_and_the_field_named(job, field, value) -> None:
    register(job, **{field: value}).refused("invalid_argument", field)
    assert job.history.datasets == {}


def test_more_shards_than_the_limit_are_refused_with_the_shard_size_that_would_do(job) -> None:
    register(job, total_samples=10**9, shard_size=1).refused("invalid_argument", "at least 1000")


def test_a_shard_size_above_the_total_is_one_short_shard(job) -> None:
    assert register(job, total_samples=7, shard_size=100).got(wire.DatasetRegistered).total_shards == 1
    (worker,) = job.workers("w0")
    assert worker.shards().shards == [0]


def test_datasets_are_limited_in_number(job, monkeypatch) -> None:
    monkeypatch.setattr(datasets, "DATASETS_MAX", 2)
    register(job, dataset_id="a")
    register(job, dataset_id="b")
    register(job, dataset_id="c").refused("resource_exhausted", "2 datasets")
    register(job, dataset_id="a").got(wire.DatasetRegistered)


def test_all_datasets_together_have_a_limit_of_shards_and_the_error_tells_what_would_fit(job, monkeypatch) -> None:
    """Their number alone bounds no memory: a coordinator keeps every shard of every dataset."""
    monkeypatch.setattr(datasets, "SHARDS_MAX", 25)
    register(job, dataset_id="a", total_samples=100, shard_size=5).got(wire.DatasetRegistered)
    error = register(job, dataset_id="b", total_samples=100, shard_size=10)
    error.refused("resource_exhausted", "shard_size 10", "'b'", "10 shards", "25", "20 are", "at least 20")
    register(job, dataset_id="b", total_samples=100, shard_size=20).got(wire.DatasetRegistered)
    full = register(job, dataset_id="c", total_samples=1, shard_size=1)
    full.refused("resource_exhausted", "25", "a larger shard_size")
    register(job, dataset_id="a", total_samples=100, shard_size=5).got(wire.DatasetRegistered)
    assert sum(dataset.shards for dataset in job.history.datasets.values()) == 25


def test_one_dataset_may_have_all_the_shards_that_a_coordinator_keeps(job) -> None:
    register(job, dataset_id="a", total_samples=10**6, shard_size=1).got(wire.DatasetRegistered)
    register(job, dataset_id="b", total_samples=10**6, shard_size=1).refused("resource_exhausted", "1000000")
    assert sum(dataset.shards for dataset in job.history.datasets.values()) == 10**6


def test_members_own_all_shards_and_each_shard_once(trio) -> None:
    job, *workers = trio
    job.dataset(total=1000, shard_size=10)
    owned = [worker.shards().shards for worker in workers]
    assert sorted(chain.from_iterable(owned)) == list(range(100))
    assert max(map(len, owned)) - min(map(len, owned)) <= 1


def test_a_dataset_that_was_registered_before_anybody_joined_is_dealt_when_they_do(make_job) -> None:
    job = make_job(initial_workers=2)
    job.dataset(total=100, shard_size=10)
    workers = job.workers("w0", "w1")
    assert sorted(chain.from_iterable(worker.shards().shards for worker in workers)) == list(range(10))


def test_anybody_may_ask_what_a_member_owns(trio) -> None:
    job, _, w1, _ = trio
    job.dataset()
    told = job.client().shards(worker_id="w1")
    assert told.shards == w1.shards().shards
    assert (told.worker_id, told.total_samples, told.shard_size, told.shuffle, told.seed) == ("w1", 100, 10, True, 42)


def test_asking_for_the_shards_of_a_stranger_or_of_no_dataset_names_the_known_ones(trio) -> None:
    job, w0, _, _ = trio
    w0.ask(wire.GetShards(dataset_id="data")).refused("not_found", "'data'", "none", "register")
    job.dataset()
    w0.ask(wire.GetShards(dataset_id="date")).refused("not_found", "'date'", "data")
    w0.ask(wire.GetShards(dataset_id="data", worker_id="w9")).refused("not_found", "'w9'", "w0, w1, w2")


def test_shards_of_nobody_say_that_there_are_no_members(job) -> None:
    job.dataset()
    job.client().ask(wire.GetShards(dataset_id="data", worker_id="w0")).refused("not_found", "nobody")


def test_a_connection_without_a_worker_has_no_shards_of_its_own(job) -> None:
    job.dataset()
    job.client().ask(wire.GetShards(dataset_id="data")).refused("stale_generation", "REGISTER_WORKER")


def test_a_loss_moves_as_few_shards_as_any_balanced_assignment_can(trio) -> None:
    job, w0, w1, w2 = trio
    job.dataset(total=3000, shard_size=10)
    before = {worker.name: set(worker.shards().shards) for worker in (w0, w1, w2)}
    job.lose(w2)
    change = job.status().rebalances[-1]
    assert change["moved"] == change["lower_bound"] == len(before["w2"])
    for worker in (w0, w1):
        assert before[worker.name] <= set(worker.shards().shards)


def test_other_epochs_have_the_home_assignment_and_nothing_committed(trio) -> None:
    job, w0, w1, w2 = trio
    job.dataset(total=90, shard_size=10)
    for worker in (w0, w1, w2):
        shard = worker.shards().shards[0]
        worker.commit(job.seen(shard, 0, 10))
    job.lose(w2)
    now, later = w0.shards(), w0.shards(epoch=5)
    assert (now.epoch, now.remaining) == (0, 60)
    assert max(now.cursors) == 10
    assert (later.epoch, later.remaining, set(later.cursors)) == (5, 90, {0})
    assert len(later.shards) in {4, 5}


def test_the_epoch_rises_once_when_all_members_have_finished_it(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = [w0.advance(), w1.advance()]
    assert all(call.waits for call in waiting)
    waiting.append(w2.advance())
    assert [call.got(wire.EpochAdvanced).epoch for call in waiting] == [1, 1, 1]
    assert job.history.epoch == 1
    assert [one.epoch for one in job.announced if type(one) is wire.EpochStarted] == [1]


def test_finishing_an_epoch_again_answers_with_the_current_one(trio) -> None:
    job, *workers = trio
    for worker in workers:
        worker.advance()
    assert workers[0].advance(epoch=0).got(wire.EpochAdvanced).epoch == 1
    assert job.history.epoch == 1


def test_one_member_that_says_it_twice_does_not_make_the_epoch_rise(trio) -> None:
    job, w0, w1, _ = trio
    for worker in (w0, w0, w1, w1):
        worker.advance()
    assert job.history.epoch == 0


def test_an_epoch_that_has_not_begun_cannot_be_finished(trio) -> None:
    _, w0, _, _ = trio
    w0.advance(epoch=1).refused("invalid_argument", "epoch 1", "current epoch is 0")


def test_a_wait_for_the_epoch_ends_in_time_and_names_who_has_not_finished(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = w0.advance(timeout_s=2.0)
    w1.advance(timeout_s=60.0)
    job.wait(1.75)
    assert waiting.waits
    job.wait(0.25)
    assert waiting.refused("deadline_exceeded", "epoch 0", "w2").missing == ["w2"]
    w2.advance()
    assert job.history.epoch == 0
    w0.advance().got(wire.EpochAdvanced)


def test_a_member_that_is_lost_does_not_hold_the_epoch_back(trio) -> None:
    job, w0, w1, w2 = trio
    waiting = [w0.advance(), w1.advance()]
    job.lose(w2)
    assert [call.got(wire.EpochAdvanced).epoch for call in waiting] == [1, 1]


def test_a_member_that_finished_and_was_replaced_has_not_finished(make_job) -> None:
    job = make_job(initial_workers=2, min_workers=2)
    w0, w1 = job.workers("w0", "w1")
    w0.advance()
    job.lose(w0)
    again = job.worker("w0")
    again.join().got(wire.Membership)
    w1.join().got(wire.Membership)
    w1.advance()
    assert job.history.epoch == 0
    again.advance().got(wire.EpochAdvanced)


def test_a_newcomer_that_finished_before_it_was_a_member_and_was_replaced_has_not_finished(make_job) -> None:
    job = make_job(initial_workers=2)
    early = job.worker("w0")
    early.advance()
    job.lose(early)
    again = job.worker("w0")
    w1 = job.worker("w1")
    w1.advance()
    assert job.history.epoch == 0
    again.advance().got(wire.EpochAdvanced)


def test_the_epoch_waits_while_the_generation_is_broken(make_job) -> None:
    job = make_job(initial_workers=2, min_workers=2)
    w0, w1 = job.workers("w0", "w1")
    waiting = w0.advance()
    job.lose(w1)
    assert waiting.waits
    w2 = job.worker("w2")
    assert waiting.waits
    w2.advance().got(wire.EpochAdvanced)
    waiting.got(wire.EpochAdvanced)


def test_a_stranger_cannot_finish_an_epoch(trio) -> None:
    job, *_ = trio
    job.client().ask(wire.AdvanceEpoch(epoch=0)).refused("stale_generation", "REGISTER_WORKER")


def test_a_finished_epoch_is_certified_as_what_it_was(job) -> None:
    (worker,) = job.workers("w0")
    job.dataset(total=20, shard_size=10, dataset_id="whole")
    job.dataset(total=20, shard_size=10, dataset_id="half")
    worker.commit(job.seen(0, 0, 10, "whole"), job.seen(1, 0, 10, "whole"), job.seen(1, 0, 10, "half"))
    worker.advance().got(wire.EpochAdvanced)
    rows = {row["dataset_id"]: row for row in job.status().certificates}
    assert (rows["whole"]["complete"], rows["whole"]["samples"], rows["whole"]["epoch"]) == (True, 20, 0)
    assert (rows["half"]["complete"], rows["half"]["samples"]) == (False, 10)
    assert worker.shards("whole").cursors == [0, 0]
    assert worker.shards("whole").remaining == 20


def test_a_past_epoch_is_not_the_current_one(job) -> None:
    (worker,) = job.workers("w0")
    job.dataset(total=20, shard_size=10)
    worker.commit(job.seen(0, 0, 10))
    worker.advance().got(wire.EpochAdvanced)
    worker.commit(job.seen(1, 0, 5))
    past, now = worker.shards(epoch=0), worker.shards()
    assert (past.epoch, past.cursors) == (0, [0, 0])
    assert (now.epoch, now.cursors) == (1, [0, 5])
