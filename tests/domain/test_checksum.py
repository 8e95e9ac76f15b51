"""The checksum of a set of samples does not care about order or parts, and tells any other set apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.checksum import checksum, dataset_checksum, mix


def test_mixing_is_splitmix64() -> None:
    """The first outputs of the reference implementation for the states 0 and 1234567."""
    assert mix(np.array([0, 1234567])).tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]


def test_mixing_leaves_its_argument_alone() -> None:
    ids = np.arange(4, dtype=np.uint64)
    mix(ids)
    assert ids.tolist() == [0, 1, 2, 3]


@given(total=st.integers(1, 3000), seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 3000), max_size=5))
def test_any_order_in_any_parts_adds_up_to_the_dataset(total: int, seed: int, cuts: list[int]) -> None:
    order = np.random.default_rng(seed).permutation(total)
    parts = np.split(order, sorted(cut % (total + 1) for cut in cuts))
    assert sum(checksum(part) for part in parts) % 2**64 == dataset_checksum(total)


@given(total=st.integers(2, 3000), data=st.data())
def test_a_sample_seen_twice_in_place_of_another_shows(total: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, total - 1))
    twice = data.draw(st.integers(0, total - 1).filter(lambda sample: sample != lost))
    seen = np.arange(total)
    seen[lost] = twice
    assert checksum(seen) != dataset_checksum(total)


@pytest.mark.parametrize("total", [1, 65535, 65536, 65537, 200_000])
def test_the_sum_in_blocks_is_the_sum_in_one(total: int) -> None:
    assert dataset_checksum(total) == checksum(np.arange(total))


def test_nothing_seen_adds_up_to_nothing() -> None:
    assert checksum(np.array([], dtype=np.int64)) == 0
    assert dataset_checksum(0) == 0
