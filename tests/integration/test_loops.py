"""Loops that people write, and what they would otherwise have to find out: ranks out of step, meetings that wait for
nobody, two loops at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from strata_zmq import TrainingOrchestrator
from strata_zmq.errors import InvalidArgumentError

TIMEOUT_S = 20.0


@pytest.fixture
def pair(start_coordinator: Callable[..., Any]) -> Iterator[list[TrainingOrchestrator]]:
    """Two connected workers."""
    url = start_coordinator("--initial-workers", "2").url
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        made = [TrainingOrchestrator(url, f"worker-{index}") for index in range(2)]
        for worker in pool.map(TrainingOrchestrator.connect, made):
            stack.callback(worker.deregister)
        yield made


@pytest.mark.parametrize("commit_every", [1, 3, 7])
@pytest.mark.parametrize("shard_size", [1, 40])
def test_with_every_rank_all_ranks_take_the_same_steps_whatever_their_shares_and_commit_points(
    pair: list[TrainingOrchestrator], commit_every: int, shard_size: int
) -> None:
    """A barrier in the loop's body is met by all ranks at each batch, to the end of the epoch."""

    def train(worker: TrainingOrchestrator) -> list[int]:
        worker.register_dataset("odd", "", 300, shard_size)
        sizes = []
        loop = worker.batches(
            "odd", 40 if shard_size == 1 else 8, every_rank=True, commit_every=commit_every, timeout_s=TIMEOUT_S
        )
        for number, batch in enumerate(loop):
            worker.barrier("step", number, timeout_s=TIMEOUT_S)
            sizes.append(len(batch))
        worker.advance_epoch(TIMEOUT_S)
        return sizes

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(train, pair)
    assert len(one) == len(two)
    assert sum(one) + sum(two) == 300
    (certificate,) = pair[0].session.status().certificates
    assert certificate["complete"]


def test_more_batches_to_a_commit_point_than_its_message_holds_are_refused(pair: list[TrainingOrchestrator]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"commit_every is 1000.*at most 512"):
        pair[0].batches("odd", 8, every_rank=True, commit_every=1000)


def test_a_barrier_that_was_just_released_does_not_let_anybody_through_again(pair: list[TrainingOrchestrator]) -> None:
    """The same step twice would synchronise nothing, and nobody would notice."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda worker: worker.barrier("sum", 1, timeout_s=TIMEOUT_S), pair))
    with pytest.raises(InvalidArgumentError, match=r"'sum' step 1 .*step of its own"):
        pair[0].barrier("sum", 1, timeout_s=TIMEOUT_S)


def test_a_barrier_cannot_be_taken_for_a_commit_point(pair: list[TrainingOrchestrator]) -> None:
    with pytest.raises(InvalidArgumentError, match="'commit'"):
        pair[0].barrier("commit", 1, timeout_s=TIMEOUT_S)


def test_two_loops_at_once_are_an_error_and_not_an_empty_epoch(coordinator: Any) -> None:
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker:
        worker.register_dataset("a", "", 100, 10)
        worker.register_dataset("b", "", 100, 10)
        with pytest.raises(InvalidArgumentError, match=r"'a' was ended .*one loop at a time"):
            list(zip(worker.batches("a", 8), worker.batches("b", 8), strict=False))
        assert sum(len(batch) for batch in worker.batches("a", 8)) == 100
