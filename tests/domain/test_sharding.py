"""Every open shard has one owner, no worker has more than one shard above another, and no needless shard moves."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq.domain.sharding import UNOWNED, Assignment, assign, reassign
from strata_zmq.errors import InvalidArgumentError, NotFoundError

NAMES = [f"worker-{number:02}" for number in range(24)]
MEMBERS = st.lists(st.sampled_from(NAMES), unique=True)
SEEDS = st.integers(0, 2**63 - 1)


def spread(assignment: Assignment, open_shards: np.ndarray | None = None) -> int:
    """The largest count of (open) shards a worker has above another."""
    owners = assignment.owners if open_shards is None else assignment.owners[open_shards]
    counts = np.bincount(owners, minlength=len(assignment.workers))
    return int(counts.max() - counts.min())


@given(shards=st.integers(0, 300), workers=MEMBERS.filter(len), seed=SEEDS)
def test_every_shard_has_one_owner_and_the_counts_differ_by_one_at_most(
    shards: int, workers: list[str], seed: int
) -> None:
    assignment = assign(shards, workers, seed=seed)
    owned = np.concatenate([assignment.shards_of(worker) for worker in workers])
    assert np.array_equal(np.sort(owned), np.arange(shards))
    assert spread(assignment) <= 1
    assert assignment.counts().sum() == shards


@given(shards=st.integers(1, 60), steps=st.lists(st.tuples(MEMBERS, st.integers(0, 2**60)), max_size=12), seed=SEEDS)
def test_whatever_comes_and_goes_the_open_shards_stay_balanced_and_move_no_more_than_they_must(
    shards: int, steps: list[tuple[list[str], int]], seed: int
) -> None:
    current = assign(shards, NAMES[:3], seed=seed)
    for workers, bits in steps:
        open_shards = np.array([bits >> shard & 1 for shard in range(shards)], dtype=np.bool_)
        following, movement = reassign(current, workers, seed=seed, open_shards=open_shards)
        assert movement.moved == movement.lower_bound
        changed = [
            shard
            for shard in np.flatnonzero(open_shards)
            if following.owner_of(shard) not in {None, current.owner_of(shard)}
        ]
        assert movement.moved == len(changed)
        if workers and open_shards.any():
            assert spread(following, open_shards) <= 1
        for shard in np.flatnonzero(~open_shards):
            before = current.owner_of(shard)
            assert following.owner_of(shard) == (before if before in workers else None)
        current = following


@settings(max_examples=200)
@given(
    owners=st.lists(st.integers(UNOWNED, 2), min_size=1, max_size=7),
    workers=st.sets(st.sampled_from("abcd"), min_size=1),
)
def test_no_balanced_assignment_moves_fewer_shards(owners: list[int], workers: set[str]) -> None:
    """Against every assignment there is, for up to 7 shards and 4 workers."""
    previous = Assignment(("a", "b", "c"), np.array(owners, dtype=np.int32))
    held = [previous.owner_of(shard) for shard in range(len(owners))]
    fewest = len(owners)
    for candidate in itertools.product(sorted(workers), repeat=len(owners)):
        counts = [candidate.count(worker) for worker in workers]
        if max(counts) - min(counts) <= 1:
            fewest = min(fewest, sum(old != new for old, new in zip(held, candidate, strict=True)))
    _, movement = reassign(previous, sorted(workers), seed=1)
    assert movement.moved == movement.lower_bound == fewest


def test_when_one_of_ten_workers_leaves_only_its_shards_move() -> None:
    before = assign(10_000, NAMES[:10], seed=42)
    after, movement = reassign(before, NAMES[1:10], seed=42)
    assert movement.moved == before.shards_of(NAMES[0]).size == 1000
    assert all(set(before.shards_of(name)) <= set(after.shards_of(name)) for name in NAMES[1:10])


def test_a_worker_that_joins_takes_its_share_and_no_other_worker_gains() -> None:
    before = assign(10_000, NAMES[:9], seed=42)
    after, movement = reassign(before, NAMES[:10], seed=42)
    assert movement.moved == after.shards_of(NAMES[9]).size == 1000
    assert all(set(after.shards_of(name)) <= set(before.shards_of(name)) for name in NAMES[:9])


def test_over_four_fifths_of_the_shards_stay_even_for_a_coordinator_without_history() -> None:
    workers = [f"worker-{number}" for number in range(100)]
    before, after = assign(10_000, workers, seed=42), assign(10_000, workers[:-1], seed=42)
    same = sum(before.owner_of(shard) == after.owner_of(shard) for shard in range(10_000))
    assert same > 8000


def test_the_same_members_and_open_shards_move_nothing() -> None:
    before = assign(1000, NAMES, seed=7)
    after, movement = reassign(before, NAMES, seed=7)
    assert movement.moved == 0
    assert np.array_equal(before.owners, after.owners)


@given(workers=MEMBERS.filter(len), seed=SEEDS, order=st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_listed_is_of_no_account(
    workers: list[str], seed: int, order: random.Random
) -> None:
    shuffled = workers.copy()
    order.shuffle(shuffled)
    first, second = assign(50, workers, seed=seed), assign(50, shuffled, seed=seed)
    assert first.workers == second.workers
    assert np.array_equal(first.owners, second.owners)


def test_a_journal_replays_to_the_same_owners_in_every_release() -> None:
    before = assign(12, ["a", "b", "c"], seed=42)
    assert before.owners.tolist() == [0, 1, 0, 1, 2, 2, 2, 2, 1, 1, 0, 0]
    after, _ = reassign(before, ["a", "c", "d"], seed=42)
    assert after.owners.tolist() == [0, 2, 0, 2, 1, 1, 1, 1, 2, 2, 0, 0]


def test_without_workers_nobody_owns_anything() -> None:
    assignment = assign(5, [], seed=1)
    assert assignment.workers == ()
    assert assignment.counts().size == 0
    assert {assignment.owner_of(shard) for shard in range(5)} == {None}


def test_when_all_leave_the_shards_wait_for_the_next_worker() -> None:
    before = assign(10, NAMES[:2], seed=1)
    nobody, movement = reassign(before, [], seed=1)
    assert movement.moved == movement.lower_bound == 0
    assert nobody.owner_of(3) is None
    alone, movement = reassign(nobody, ["late"], seed=1)
    assert movement.moved == 10
    assert alone.shards_of("late").size == 10


def test_a_seen_shard_whose_owner_left_has_an_owner_again_in_the_next_epoch() -> None:
    seen = np.zeros(10, dtype=np.bool_)
    midway, movement = reassign(assign(10, NAMES[:2], seed=1), NAMES[1:3], seed=1, open_shards=seen)
    assert movement.moved == 0
    assert (midway.owners == UNOWNED).sum() == 5
    following, movement = reassign(midway, NAMES[1:3], seed=1)
    assert movement.moved == 5
    assert spread(following) == 0


PROGRAM = """
from strata_zmq.domain.sharding import assign, reassign
from strata_zmq.domain.shuffle import sample_ids
workers = {f"worker-{number}" for number in range(50)}
current = assign(1000, list(workers), seed=9)
for leaver in ("worker-3", "worker-40"):
    workers.discard(leaver)
    current, _ = reassign(current, list(workers), seed=9)
print(current.owners.tobytes().hex(), sample_ids(0, 100, 1000, shuffle=True, seed=9, epoch=1).tolist())
"""


def test_two_processes_with_the_same_history_agree() -> None:
    """Under different hash randomisation, which reorders sets of names."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 8000


def test_a_stranger_and_a_missing_shard_are_named() -> None:
    assignment = assign(4, ["a", "c"], seed=1)
    for stranger in ("b", "d", ""):
        with pytest.raises(NotFoundError, match=f"worker '{stranger}' is not among the 2 workers"):
            assignment.shards_of(stranger)
    for shard in (-1, 4):
        with pytest.raises(NotFoundError, match=f"shard {shard} does not exist"):
            assignment.owner_of(shard)


def test_a_worker_listed_twice_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'a' twice"):
        assign(4, ["a", "b", "a"], seed=1)


@pytest.mark.parametrize("mask", [np.ones(3, dtype=np.bool_), np.ones(4, dtype=np.int64)])
def test_a_mask_of_another_shape_or_type_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError, match="one bool for each of the 4 shards"):
        reassign(assign(4, ["a"], seed=1), ["a"], seed=1, open_shards=mask)


def test_an_assignment_is_a_value_that_nobody_can_change() -> None:
    assignment = assign(4, ["a"], seed=1)
    with pytest.raises(ValueError, match="read-only"):
        assignment.owners[0] = UNOWNED
