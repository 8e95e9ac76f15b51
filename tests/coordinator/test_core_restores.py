"""Restores: history goes back to a checkpoint only while nobody remembers what came after it."""

from __future__ import annotations

import json

import pytest

from strata_zmq.domain.lineage import UNKNOWN
from strata_zmq.protocol import messages as wire


def restore(worker, ledger: bytes, name: str = "step-1") -> object:
    return worker.ask(wire.Restore(checkpoint_id=name, ledger=ledger))


def commit_all(job, workers, size: int) -> None:
    """Have every worker commit `size` more samples of its first shard."""
    for worker in workers:
        owned = worker.shards()
        cursor = owned.cursors[0]
        worker.commit(job.seen(owned.shards[0], cursor, cursor + size))


@pytest.fixture
def told(make_job):
    """Two members, what a manifest embedded at commit point 1, and one more commit point after it."""
    job = make_job(initial_workers=2)
    workers = job.workers("w0", "w1")
    job.dataset(total=100, shard_size=10)
    commit_all(job, workers, 3)
    ledger = job.history.ledger_state()
    commit_all(job, workers, 4)
    assert job.history.datasets["data"].remaining == 86
    return job, workers, ledger


def all_lost(job, workers) -> list:
    """Lose every worker and let a whole new world come."""
    for worker in workers:
        job.lose(worker)
    return job.workers("n0", "n1")


def test_a_whole_new_world_goes_back_to_the_checkpoint(told) -> None:
    job, workers, ledger = told
    n0, n1 = all_lost(job, workers)
    generation = job.history.generation
    waiting, broken = n1.join(), n1.arrive()
    assert restore(n0, ledger).got(wire.Restored).rewound
    assert (job.history.commit_index, job.history.datasets["data"].remaining) == (1, 94)
    membership = waiting.got(wire.Membership)
    assert (membership.generation, membership.commit_index) == (generation + 1, 1)
    assert (membership.joined, membership.left) == ([], [])
    broken.refused("barrier_broken")
    assert restore(n1, ledger).got(wire.Restored).rewound
    assert job.history.generation == generation + 1
    assert job.status().counters["restores"] == 1
    announced = job.announced[-1]
    assert (announced.generation, announced.members, announced.moved) == (generation + 1, ["n0", "n1"], 0)


def test_a_manifest_from_before_lineages_begins_one_of_its_own(told) -> None:
    """What was remembered of the history after it is no part of the one that goes on from it."""
    job, workers, ledger = told
    old = json.loads(ledger)
    before = job.history.lineage
    del old["lineage"]
    n0, n1 = all_lost(job, workers)
    for worker in (n0, n1):
        assert restore(worker, json.dumps(old).encode()).got(wire.Restored).rewound
    assert job.history.commit_index == 1
    assert job.history.lineage not in {UNKNOWN, before, json.loads(ledger)["lineage"]}


def test_the_first_quorum_is_waited_for_again_when_nobody_is_left(told) -> None:
    job, workers, _ = told
    for worker in workers:
        job.lose(worker)
    waiting = job.worker("n0").join()
    assert waiting.waits
    job.worker("n1")
    assert waiting.got(wire.Membership).members == ["n0", "n1"]


def test_who_waits_for_the_epoch_to_end_is_sent_back_into_it_by_a_restore(told) -> None:
    """Its data are there again: nobody has finished it, and the others would wait for this one's share."""
    job, workers, ledger = told
    n0, n1 = all_lost(job, workers)
    finished = n1.advance(0)
    assert restore(n0, ledger).got(wire.Restored).rewound
    assert finished.got(wire.EpochAdvanced).epoch == 0
    n0.advance(0)
    assert job.history.epoch == 0


def test_a_newcomer_among_others_takes_their_state_and_changes_nothing(told) -> None:
    job, workers, ledger = told
    job.lose(workers[1])
    newcomer = job.worker("n0")
    newcomer.join().got(wire.Membership)
    assert not restore(newcomer, ledger).got(wire.Restored).rewound
    assert job.history.datasets["data"].remaining == 86


def test_a_member_that_has_stood_through_the_commit_point_carries_it_over_a_restart(told) -> None:
    job, workers, ledger = told
    job.restart()
    for worker in workers:
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
    assert not restore(workers[0], ledger).got(wire.Restored).rewound


def test_epochs_after_the_checkpoint_are_no_longer_certified(told) -> None:
    job, workers, ledger = told
    for worker in workers:
        worker.advance()
    assert [entry.epoch for entry in job.history.certificates] == [0]
    (n0, _) = all_lost(job, workers)
    assert restore(n0, ledger).got(wire.Restored).rewound
    assert job.history.epoch == 0
    assert list(job.history.certificates) == []
    assert n0.shards().remaining == 94


def test_a_dataset_that_the_checkpoint_does_not_know_begins_again(told) -> None:
    job, workers, ledger = told
    job.dataset(total=50, shard_size=10, dataset_id="later")
    w0, w1 = workers
    w0.commit(job.seen(w0.shards("later").shards[0], 0, 5, "later"))
    w1.commit()
    (n0, _) = all_lost(job, workers)
    restore(n0, ledger).got(wire.Restored)
    assert n0.shards("later").remaining == 50


def test_without_a_checkpoint_history_goes_back_to_the_beginning_once(told) -> None:
    job, workers, _ = told
    n0, n1 = all_lost(job, workers)
    beginning = json.dumps({"epoch": 0, "commit_index": 0, "datasets": {}}).encode()
    assert restore(n0, beginning, "beginning").got(wire.Restored).rewound
    generation = job.history.generation
    assert (job.history.commit_index, job.history.datasets["data"].remaining) == (0, 100)
    assert restore(n1, beginning, "beginning").got(wire.Restored).rewound
    assert job.history.generation == generation


def test_the_datasets_have_to_be_those_of_the_checkpoint(make_job, told) -> None:
    _, _, ledger = told
    job = make_job()
    (worker,) = job.workers("w0")
    restore(worker, ledger).refused("not_found", "'data'", "register it first")
    job.dataset(total=100, shard_size=10, seed=7)
    restore(worker, ledger).refused("invalid_argument", "'data'", "seed=42", "7")


def test_a_stranger_and_a_worker_without_a_generation_restore_nothing(make_job, told) -> None:
    _, _, ledger = told
    job = make_job(initial_workers=2)
    restore(job.client(), ledger).refused("stale_generation", "REGISTER_WORKER")
    restore(job.worker("w0"), ledger).refused("generation_changed")


def damaged(ledger: bytes, *path: object, value: object) -> bytes:
    state = json.loads(ledger)
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(state).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("epoch",), -1),
        (("commit_index",), -5),
        (("commit_index",), "many"),
        (("datasets",), []),
        (("datasets", "data", "ledger"), {}),
        (("datasets", "data", "ledger"), 5),
        (("datasets", "data", "ledger", "cursors"), 5),
        (("datasets", "data", "ledger", "cursors"), [10]),
        (("datasets", "data", "ledger", "cursors"), [10, 11]),
        (("datasets", "data", "ledger", "cursors"), [10, 2]),
        (("datasets", "data", "ledger", "workers"), 5),
        (("datasets", "data", "ledger", "workers"), {"w0": 5}),
        (("datasets", "data", "ledger", "workers"), {"w0": [1, 2, 3]}),
        (("datasets", "data", "ledger", "total_samples"), 90),
        (("datasets", "data", "ledger", "shard_size"), 5),
        (("datasets", "data", "ledger"), {"total_samples": 9, "shard_size": 9, "cursors": [1, 0], "workers": {}}),
    ],
)
def test_a_ledger_that_no_manifest_embeds_is_refused_and_the_core_goes_on(told, path, value) -> None:
    job, workers, ledger = told
    (n0, _) = all_lost(job, workers)
    before = job.history.to_snapshot()
    restore(n0, damaged(ledger, *path, value=value)).refused("invalid_argument")
    assert job.history.to_snapshot() == before


@pytest.mark.parametrize("ledger", [b"", b"{", b"\xff\xfe", b"[]", b"{}"])
def test_bytes_that_are_no_ledger_are_refused_by_name(told, ledger: bytes) -> None:
    _, workers, _ = told
    restore(workers[0], ledger).refused("invalid_argument", "ledger")
