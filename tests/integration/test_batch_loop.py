"""The loop over batches: what a rank gets, when it counts, and what happens when others are late, come or go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strata_zmq import TrainingOrchestrator
from strata_zmq.errors import DeadlineExceededError, InvalidArgumentError
from strata_zmq.feed import ArrayReader
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.messages import Membership

TOTAL = 100


@pytest.fixture
def join(start_coordinator: Callable[..., Any]) -> Iterator[Callable[[int], list[TrainingOrchestrator]]]:
    """`join(n)` returns n workers of one generation, in rank order, with the dataset "numbers" registered."""
    with ExitStack() as stack:

        def connect(number: int, shard_size: int = 10) -> list[TrainingOrchestrator]:
            coordinator = start_coordinator("--initial-workers", str(number))
            made = [TrainingOrchestrator(coordinator.url, f"worker-{index}") for index in range(number)]
            with ThreadPoolExecutor(number) as pool:
                for worker in pool.map(TrainingOrchestrator.connect, made):
                    stack.callback(worker.deregister)
            made[0].register_dataset("numbers", total_samples=TOTAL, shard_size=shard_size)
            return sorted(made, key=lambda worker: worker.rank)

        yield connect


def in_parallel(workers: list[TrainingOrchestrator], work: Callable[[TrainingOrchestrator], Any]) -> list[Any]:
    """Run `work` for every worker in a thread of its own, and return the results in rank order."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(work, workers))


def test_several_batches_make_one_commit_point(join: Callable[..., list[TrainingOrchestrator]]) -> None:
    """`commit_every` batches count together, and what is left at the end counts too."""
    (worker,) = join(1)
    steps = [batch.step for batch in worker.batches("numbers", 10, commit_every=4)]
    assert steps == [1] * 4 + [2] * 4 + [3] * 2
    assert worker.step == worker.session.status().commit_index == 3
    assert worker.session.status().datasets[0]["remaining"] == 0


def test_every_rank_takes_part_in_every_step_where_it_is_asked_to(
    join: Callable[..., list[TrainingOrchestrator]],
) -> None:
    """With one shard for two ranks, the one without data gets an empty batch for each of the other's."""
    workers = join(2, shard_size=TOTAL)
    sizes = in_parallel(workers, lambda w: [len(b) for b in w.batches("numbers", 30, every_rank=True, timeout_s=30)])
    assert sorted(sizes) == [[0, 0, 0, 0], [30, 30, 30, 10]]
    in_parallel(workers, lambda worker: worker.advance_epoch(timeout_s=30))
    sizes = in_parallel(workers, lambda worker: [len(b) for b in worker.batches("numbers", 30, timeout_s=30)])
    assert sorted(sizes) == [[], [30, 30, 30, 10]]


def test_a_loop_over_a_finished_epoch_is_empty(join: Callable[..., list[TrainingOrchestrator]]) -> None:
    """Nothing is handed out twice within an epoch; a finished loop stays finished."""
    (worker,) = join(1)
    stream = worker.batches("numbers", 60)
    assert [len(batch) for batch in stream] == [60, 40]
    assert list(stream) == []
    assert list(worker.batches("numbers", 60)) == []


@pytest.mark.parametrize("field", ["batch_size", "commit_every"])
def test_impossible_sizes_are_refused_by_name(join: Callable[..., list[TrainingOrchestrator]], field: str) -> None:
    (worker,) = join(1)
    with pytest.raises(InvalidArgumentError, match=f"{field} is 0"):
        worker.batches("numbers", **{"batch_size": 1, field: 0})  # type: ignore[arg-type]


def test_a_rank_that_is_late_is_named_and_may_still_come(join: Callable[..., list[TrainingOrchestrator]]) -> None:
    """The others' wait ends with its name; asking for the next batch again waits again, and nothing is lost."""
    early, late = join(2)
    stream, slow = early.batches("numbers", 10, timeout_s=0.5), late.batches("numbers", 10, timeout_s=30)
    seen = [*next(stream), *next(slow)]
    with pytest.raises(DeadlineExceededError, match=r"barrier 'commit' step 1: 1 of 2 arrived") as caught:
        next(stream)
    assert caught.value.missing == (late.worker_id,)
    with ThreadPoolExecutor() as pool:
        rest = pool.submit(_ids, slow)
        seen += _patiently(stream)
        seen += rest.result(30)
    assert sorted(seen) == list(range(TOTAL))


def _patiently(stream: Any) -> list[int]:
    seen: list[int] = []
    while True:
        try:
            seen += next(stream)
        except DeadlineExceededError:
            continue
        except StopIteration:
            return seen


def _ids(batches: Iterable[Any]) -> list[int]:
    return [one for batch in batches for one in batch]


def test_each_generation_is_announced_once_to_every_rank(coordinator: Any, eventually: Callable[..., Any]) -> None:
    """`on_membership` is called before the first batch of a generation, on old ranks and new, with the same facts."""
    told: list[tuple[str, Membership]] = []

    class Trainer(TrainingOrchestrator):
        def on_membership(self, membership: Membership) -> None:
            told.append((str(self.worker_id), membership))
            self.barrier("sync", membership.generation, timeout_s=30)

    with Trainer(coordinator.url, "old") as old, ThreadPoolExecutor() as pool:
        old.register_dataset("numbers", total_samples=TOTAL, shard_size=10)
        stream = iter(old.batches("numbers", 10, timeout_s=30))
        first = next(stream)
        with Trainer(coordinator.url, "new") as new:
            loops = (stream, new.batches("numbers", 10, timeout_s=30))
            ends = [pool.submit(_ids, loop) for loop in loops]
            ids = [one for end in ends for one in end.result(30)]
            assert sorted(ids) == list(range(TOTAL)), "the void batch is handed out again, and nothing else twice"
    assert set(first) <= set(ids)
    assert [(name, one.generation, one.rank) for name, one in told if one.generation == 1] == [("old", 1, 0)]
    assert sorted((name, one.generation, one.rank) for name, one in told if one.generation == 2) == [
        ("new", 2, 1),
        ("old", 2, 0),
    ]
    assert {tuple(one.joined) for _, one in told if one.generation == 2} == {("new",)}


def test_loops_within_a_generation_are_not_announced_again(coordinator: Any) -> None:
    """A second dataset or a new epoch is no change of membership: nobody has to agree on anything."""
    told: list[int] = []

    class Trainer(TrainingOrchestrator):
        def on_membership(self, membership: Membership) -> None:
            told.append(membership.generation)

    with Trainer(coordinator.url, "worker-0") as worker:
        for name in ("numbers", "letters"):
            worker.register_dataset(name, total_samples=TOTAL, shard_size=10)
        for _ in worker.epochs(2):
            assert sum(len(batch) for name in ("numbers", "letters") for batch in worker.batches(name, 50)) == 2 * TOTAL
    assert told == [1]


def test_samples_come_with_their_batch_through_changes(coordinator: Any, tmp_path: Path) -> None:
    """With a reader the arrays are those of the ids, also after a newcomer has made what was read ahead void."""
    np.save(tmp_path / "x.npy", np.arange(TOTAL * 3).reshape(TOTAL, 3))
    reader = ArrayReader({"x": str(tmp_path / "x.npy")})

    def check(batches: Any) -> list[int]:
        ids: list[int] = []
        for batch in batches:
            assert np.array_equal(batch.arrays["x"], np.arange(TOTAL * 3).reshape(TOTAL, 3)[batch])
            ids += batch
        return ids

    with TrainingOrchestrator(coordinator.url, "old") as old, ThreadPoolExecutor() as pool:
        old.register_dataset("numbers", total_samples=TOTAL, shard_size=5)
        stream = old.batches("numbers", 4, reader=reader, timeout_s=30)
        committed: list[int] = []
        for _ in range(3):
            committed += next(stream)
        in_hand = next(stream)
        assert np.array_equal(in_hand.arrays["x"][:, 0], in_hand.indices * 3)
        with TrainingOrchestrator(coordinator.url, "new") as new:
            late = new.batches("numbers", 4, reader=reader, timeout_s=30)
            ends = [pool.submit(check, batches) for batches in (stream, late)]
            rest = [one for end in ends for one in end.result(60)]
    assert sorted(committed + rest) == list(range(TOTAL))


def test_the_coordinator_shows_where_each_worker_spends_its_time(
    join: Callable[..., list[TrainingOrchestrator]], run_dir: Path
) -> None:
    """By the workers' own account: the samples handed out, their waits for data and for each other."""
    np.save(run_dir / "x.npy", np.arange(TOTAL))
    reader = ArrayReader({"x": str(run_dir / "x.npy")})
    workers = join(2, shard_size=TOTAL)

    def train(worker: TrainingOrchestrator) -> None:
        for _ in worker.batches("numbers", 30, every_rank=True, timeout_s=30, reader=reader):
            pass
        assert worker.heartbeat()

    in_parallel(workers, train)
    shown = workers[0].session.client.request(wire.GetSight(), 10.0).state.workers
    spent = {row.worker_id: row.spent for row in shown}
    assert sorted((one.samples, one.batches, sum(one.data_waits)) for one in spent.values()) == [
        (0, 4, 0),
        (TOTAL, 4, 4),
    ]
    assert all(one.barrier_s > 0 and one.training_s > 0 for one in spent.values())
    assert max(one.data_s for one in spent.values()) > 0
