"""DatasetRegistry without a URL: the same rules in this process, without any server."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq import DatasetRegistry
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError


def registry_of(workers: int) -> DatasetRegistry:
    registry = DatasetRegistry()
    for number in range(workers):
        registry.register_worker(f"worker-{number:02}", hostname="h", port=9000 + number, gpu_count=8)
    return registry


def owners(registry: DatasetRegistry, dataset: str = "d") -> dict[int, str]:
    """Who owns each shard; fails if two own one."""
    found: dict[int, str] = {}
    for worker in registry.active_workers():
        for shard in registry.get_shards(dataset, worker, 0):
            assert shard.shard_id not in found
            found[shard.shard_id] = worker
    return found


def test_the_published_example() -> None:
    """imagenet-1k in shards of 10,000: 129 shards, the last one short, and every worker gets all of its own."""
    registry = registry_of(4)
    assert registry.register_dataset("imagenet-1k", 1_281_167, 10_000, True, 42) == 129
    assert len(registry.get_shard_for_worker("imagenet-1k", "worker-01", 0)) in {32, 33}
    assert sorted(owners(registry, "imagenet-1k")) == list(range(129))
    assert (registry.worker_count, registry.dataset_count) == (4, 1)
    sizes = {shard.num_samples for w in registry.active_workers() for shard in registry.get_shards("imagenet-1k", w, 0)}
    assert sizes == {10_000, 1_167}


@given(st.integers(1, 5000), st.integers(1, 600), st.integers(1, 12), st.booleans(), st.integers(0, 2**63 - 1))
@settings(max_examples=50)
def test_every_sample_has_one_owner(total: int, shard_size: int, workers: int, shuffle: bool, seed: int) -> None:
    """In every epoch the shards of all workers are the dataset, each sample once, and spread by at most one shard."""
    registry = registry_of(workers)
    registry.register_dataset("d", total, shard_size, shuffle, seed)
    for epoch in (0, 3):
        shards = [registry.get_shards("d", worker, epoch) for worker in registry.active_workers()]
        counts = [len(own) for own in shards]
        assert max(counts) - min(counts) <= 1
        ids = np.concatenate([shard.indices for own in shards for shard in own])
        assert np.array_equal(np.sort(ids), np.arange(total))


@given(st.integers(10, 20), st.integers(200, 1000), st.data())
@settings(max_examples=25)
def test_more_than_four_fifths_stay_when_one_of_ten_or_more_leaves(
    workers: int, shards: int, data: st.DataObject
) -> None:
    """Only the leaver's shards move, and what balance demands; everybody else keeps what they had."""
    registry = registry_of(workers)
    registry.register_dataset("d", shards, 1)
    before = owners(registry)
    leaver = data.draw(st.sampled_from(registry.active_workers()))
    registry.remove_worker(leaver)
    after = owners(registry)
    moved = sum(1 for shard in before if before[shard] != after[shard])
    assert sorted(after) == sorted(before)
    assert moved == sum(1 for owner in before.values() if owner == leaver), "a shard of a survivor moved"
    assert 1 - moved / shards > 0.8


@given(st.integers(1, 15), st.integers(1, 500))
@settings(max_examples=25)
def test_a_newcomer_takes_its_share_and_no_more(workers: int, shards: int) -> None:
    """A join moves the newcomer's share; no shard goes from one of the old workers to another."""
    registry = registry_of(workers)
    registry.register_dataset("d", shards, 1)
    before = owners(registry)
    registry.register_worker("newcomer")
    after = owners(registry)
    moved = [shard for shard in before if before[shard] != after[shard]]
    assert {after[shard] for shard in moved} <= {"newcomer"}
    assert shards // (workers + 1) <= len(moved) <= -(-shards // (workers + 1))


def test_a_worker_that_comes_before_its_dataset_and_one_that_comes_after_are_equal() -> None:
    """Registering in any order gives everybody a share; the last worker to leave takes the shards with it."""
    registry = DatasetRegistry()
    assert registry.register_dataset("d", 10, 1) == 10
    registry.register_worker("one")
    registry.register_worker("two")
    assert [len(registry.get_shards("d", worker, 0)) for worker in registry.active_workers()] == [5, 5]
    registry.remove_worker("one")
    registry.remove_worker("two")
    assert registry.active_workers() == []
    registry.register_worker("three")
    assert len(registry.get_shards("d", "three", 0)) == 10


def test_epochs_change_the_order_and_not_the_owners() -> None:
    """Advancing rises by one; the same shards hold other samples, unless the dataset is not shuffled."""
    registry = registry_of(2)
    registry.register_dataset("shuffled", 100, 10)
    registry.register_dataset("in-order", 100, 10, shuffle=False)
    assert registry.current_epoch() == 0
    assert registry.advance_epoch() == 1 == registry.current_epoch()
    for name, same in (("shuffled", False), ("in-order", True)):
        first, second = (registry.get_shards(name, "worker-00", epoch) for epoch in (0, 1))
        assert [shard.shard_id for shard in first] == [shard.shard_id for shard in second]
        assert ([s.indices.tolist() for s in first] == [s.indices.tolist() for s in second]) is same
    shard = registry.get_shards("in-order", "worker-00", 0)[0]
    assert shard.indices.tolist() == list(range(shard.start_index, shard.end_index))


def test_mistakes_are_named() -> None:
    """Unknown and doubled names, and values outside their limits, say which, and what there is."""
    registry = registry_of(1)
    registry.register_dataset("d", 10, 1)
    assert registry.register_dataset("d", 10, 1) == 10
    mistakes: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (AlreadyExistsError, "dataset_id 'd' is registered", lambda: registry.register_dataset("d", 11, 1)),
        (AlreadyExistsError, "worker_id 'worker-00' is registered", lambda: registry.register_worker("worker-00")),
        (NotFoundError, "dataset_id 'e' is not registered .*: d", lambda: registry.get_shards("e", "worker-00", 0)),
        (NotFoundError, "worker_id 'x' is not registered .*worker-00", lambda: registry.get_shards("d", "x", 0)),
        (NotFoundError, "worker_id 'x'", lambda: registry.remove_worker("x")),
        (InvalidArgumentError, "total_samples", lambda: registry.register_dataset("e", 0, 1)),
        (InvalidArgumentError, "shard_size", lambda: registry.register_dataset("e", 1, -1)),
        (InvalidArgumentError, "worker_id", lambda: registry.register_worker("a/b")),
        (InvalidArgumentError, "epoch", lambda: registry.get_shards("d", "worker-00", -1)),
    ]
    for error, match, call in mistakes:
        with pytest.raises(error, match=match):
            call()
    assert (registry.worker_count, registry.datasets()) == (1, ["d"])
