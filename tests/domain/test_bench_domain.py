"""Micro-benchmarks of the rules on the coordinator's and the loader's hot paths; run with --benchmark-enable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.domain.checksum import checksum
from strata_zmq.domain.ledger import EpochLedger
from strata_zmq.domain.sharding import assign, reassign
from strata_zmq.domain.shuffle import sample_ids

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

WORKERS = [f"worker-{number}" for number in range(1000)]


def test_assigning_10_000_shards_to_1_000_workers(benchmark: BenchmarkFixture) -> None:
    assignment = benchmark(assign, 10_000, WORKERS, seed=42)
    assert set(assignment.counts().tolist()) == {10}


def test_rebalancing_10_000_shards_when_100_of_1_000_workers_leave(benchmark: BenchmarkFixture) -> None:
    before = assign(10_000, WORKERS, seed=42)
    _, movement = benchmark(reassign, before, WORKERS[100:], seed=42)
    assert movement.moved == movement.lower_bound == 1000


def test_finding_10_000_shuffled_samples_of_a_billion(benchmark: BenchmarkFixture) -> None:
    ids = benchmark(sample_ids, 10**8, 10**8 + 10_000, 10**9, shuffle=True, seed=42, epoch=3)
    assert np.unique(ids).size == 10_000


def test_summing_10_000_samples(benchmark: BenchmarkFixture) -> None:
    ids = np.arange(10_000)
    assert benchmark(checksum, ids) == sum(checksum(part) for part in np.split(ids, 10)) % 2**64


def test_committing_one_range_of_each_of_1_000_workers(benchmark: BenchmarkFixture) -> None:
    def commit_point() -> int:
        ledger = EpochLedger(10_000_000, 10_000)
        for shard, worker in enumerate(WORKERS):
            ledger.advance(shard, 0, 64, 1, worker)
        return ledger.committed

    assert benchmark(commit_point) == 64_000
