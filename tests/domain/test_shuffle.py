"""An epoch's order holds every sample once, whatever its size, and depends on nothing but seed, epoch and position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq.domain import shuffle
from strata_zmq.errors import InvalidArgumentError

SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(0, 10_000)


@pytest.mark.parametrize("first", range(1, 2001, 250))
def test_an_order_of_any_small_size_holds_every_sample_once(first: int) -> None:
    for total in range(first, first + 250):
        order = shuffle.permute(np.arange(total), total, seed=42, epoch=3)
        assert np.array_equal(np.sort(order), np.arange(total)), total


@settings(max_examples=30)
@given(total=st.integers(2000, 300_000), seed=SEEDS, epoch=EPOCHS)
def test_an_order_of_any_size_holds_every_sample_once(total: int, seed: int, epoch: int) -> None:
    order = shuffle.permute(np.arange(total), total, seed=seed, epoch=epoch)
    assert np.array_equal(np.bincount(order, minlength=total), np.ones(total, dtype=np.int64))


@given(total=st.integers(2**31, 2**48), start=st.floats(0, 1), seed=SEEDS)
def test_distinct_positions_of_a_huge_order_hold_distinct_samples_of_it(total: int, start: float, seed: int) -> None:
    first = int(start * (total - 1000))
    ids = shuffle.permute(np.arange(first, first + 1000), total, seed=seed, epoch=0)
    assert np.unique(ids).size == 1000
    assert ids.min() >= 0
    assert ids.max() < total


@given(total=st.integers(1, 5000), cut=st.data(), seed=SEEDS, epoch=EPOCHS)
def test_a_resumed_reader_sees_the_same_order_as_one_that_never_stopped(
    total: int, cut: st.DataObject, seed: int, epoch: int
) -> None:
    start = cut.draw(st.integers(0, total))
    stop = cut.draw(st.integers(start, total))
    whole = shuffle.sample_ids(0, total, total, shuffle=True, seed=seed, epoch=epoch)
    part = shuffle.sample_ids(start, stop, total, shuffle=True, seed=seed, epoch=epoch)
    assert np.array_equal(part, whole[start:stop])


def test_seed_and_epoch_each_give_another_order_and_the_same_ones_the_same() -> None:
    def order(seed: int, epoch: int) -> bytes:
        return shuffle.permute(np.arange(100), 100, seed=seed, epoch=epoch).tobytes()

    orders = {order(seed, epoch) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100
    assert order(7, 7) == order(7, 7)


def test_the_order_of_a_given_seed_never_changes_between_releases() -> None:
    assert shuffle.permute(np.arange(10), 10, seed=42, epoch=0).tolist() == [3, 9, 7, 2, 1, 6, 0, 8, 5, 4]


def test_a_shuffled_order_is_spread_evenly() -> None:
    total, parts = 10_000, 10
    order = shuffle.permute(np.arange(total), total, seed=1, epoch=0)
    # Chi-square over a table of position against sample, 81 degrees of freedom: 150 lies six deviations out.
    table = np.histogram2d(np.arange(total), order, bins=parts)[0]
    expected = total / parts**2
    assert float(((table - expected) ** 2 / expected).sum()) < 150


def test_without_shuffling_the_order_is_the_datasets_own() -> None:
    ids = shuffle.sample_ids(5, 9, 100, shuffle=False, seed=3, epoch=8)
    assert ids.tolist() == [5, 6, 7, 8]
    assert ids.dtype == np.int64


@given(total=st.integers(1, 10_000), shard_size=st.integers(1, 12_000))
def test_shards_follow_one_another_and_cover_the_epoch(total: int, shard_size: int) -> None:
    shards = shuffle.num_shards(total, shard_size)
    bounds = [shuffle.shard_bounds(shard, shard_size, total) for shard in range(shards)]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == total
    assert all(stop - start == shard_size for start, stop in bounds[:-1])
    assert 1 <= bounds[-1][1] - bounds[-1][0] <= shard_size


@pytest.mark.parametrize("shard", [-1, 3])
def test_a_shard_that_does_not_exist_is_named_with_those_that_do(shard: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"shard is {shard}, the dataset has shards 0 to 2"):
        shuffle.shard_bounds(shard, 10, 25)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3), (0, 11)])
def test_positions_outside_the_epoch_are_refused(start: int, stop: int) -> None:
    with pytest.raises(InvalidArgumentError, match="10 samples"):
        shuffle.sample_ids(start, stop, 10, shuffle=True, seed=0, epoch=0)


@pytest.mark.parametrize("position", [-1, 10])
def test_a_position_outside_the_order_is_refused(position: int) -> None:
    with pytest.raises(InvalidArgumentError, match="0 to 9"):
        shuffle.permute(np.array([0, position]), 10, seed=0, epoch=0)


def test_no_positions_give_no_samples() -> None:
    assert shuffle.permute(np.array([], dtype=np.int64), 10, seed=0, epoch=0).size == 0
