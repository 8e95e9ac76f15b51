"""The classes that training scripts name, against a real coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from strata_zmq import DatasetRegistry, TrainingOrchestrator, WorkerMixin
from strata_zmq.domain.shuffle import dataset_checksum
from strata_zmq.errors import (
    AlreadyExistsError,
    BarrierBrokenError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
)


@pytest.fixture
def workers(start_coordinator: Callable[..., Any]) -> Iterator[Callable[[int], list[TrainingOrchestrator]]]:
    """`workers(n)` connects n workers of one first generation, in rank order."""
    with ExitStack() as stack:

        def connect(number: int) -> list[TrainingOrchestrator]:
            coordinator = start_coordinator("--initial-workers", str(number))
            made = [TrainingOrchestrator(coordinator.url, f"worker-{index:02}") for index in range(number)]
            with ThreadPoolExecutor(number) as pool:
                for worker in pool.map(TrainingOrchestrator.connect, made):
                    stack.callback(worker.deregister)
            return sorted(made, key=lambda worker: worker.rank)

        yield connect


def test_get_shards_covers_every_shard_of_the_worker_every_time(
    workers: Callable[[int], list[TrainingOrchestrator]],
) -> None:
    """The view can be iterated again and again; over all workers it is the whole dataset, each sample once."""
    one, two = workers(2)
    assert one.register_dataset("imagenet-1k", "/data/imagenet", 1_281_167, 10_000) == 129
    views = [worker.get_shards("imagenet-1k") for worker in (one, two)]
    for _ in range(2):
        shards = [shard for view in views for shard in view]
        assert sorted(shard.shard_id for shard in shards) == list(range(129))
    assert {len(view) for view in views} == {64, 65}
    shard = next(iter(views[0]))
    assert (shard.dataset_id, shard.total_shards, shard.epoch) == ("imagenet-1k", 129, 0)
    assert shard.file_paths == ("/data/imagenet",)
    assert shard.num_samples == shard.end_index - shard.start_index == len(shard.indices)
    ids = np.concatenate([shard.indices for view in views for shard in view])
    assert np.array_equal(np.sort(ids), np.arange(1_281_167))


def test_get_shards_follows_the_epoch(workers: Callable[[int], list[TrainingOrchestrator]]) -> None:
    """The same view shows the next epoch's order once the epoch has risen; `get_shard` looks into any epoch."""
    (worker,) = workers(1)
    worker.register_dataset("numbers", total_samples=100, shard_size=10)
    view = worker.get_shards("numbers")
    before = [shard.indices.tolist() for shard in view]
    worker.advance_epoch()
    after = [shard.indices.tolist() for shard in view]
    assert before != after
    assert sorted(map(sorted, before)) != sorted(map(sorted, after)), "only the shards were shuffled, not the samples"
    assert [shard.indices.tolist() for shard in worker.get_shard("numbers", 0)] == before
    assert [shard.indices.tolist() for shard in worker.get_shard("numbers", 1)] == after


def test_the_epoch_rises_once_when_all_have_called(workers: Callable[[int], list[TrainingOrchestrator]]) -> None:
    """Who calls alone waits, and is told for whom; calling again is harmless; all get the same new epoch."""
    one, two = workers(2)
    for _ in range(2):
        with pytest.raises(DeadlineExceededError, match="epoch 0 is not finished by: worker-") as caught:
            one.advance_epoch(timeout_s=0.1)
        assert caught.value.missing == (two.worker_id,)
    assert (one.epoch, two.epoch) == (0, 0)
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda worker: worker.advance_epoch(timeout_s=30), (one, two))) == [1, 1]
    assert one.session.status().epoch == 1
    assert (one.epoch, two.epoch) == (1, 1)


def test_epochs_end_with_the_job_for_a_worker_that_comes_late(coordinator: Any) -> None:
    """`epochs(n)` begins where history stands: a late worker does not train epochs of its own."""
    with TrainingOrchestrator(coordinator.url, "early") as early:
        for _ in early.epochs(2):
            pass
        with TrainingOrchestrator(coordinator.url, "late") as late, ThreadPoolExecutor() as pool:
            early.session.join(newer=True)
            seen = pool.map(lambda worker: list(worker.epochs(4, timeout_s=30)), (early, late))
            assert list(seen) == [[2, 3], [2, 3]]
            assert list(late.epochs(4)) == []


def test_a_batch_stands_for_its_ids(coordinator: Any) -> None:
    """An array is indexed with a batch as with an array of sample ids."""
    images = np.arange(100) * 10
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker:
        worker.register_dataset("numbers", total_samples=100, shard_size=10)
        for batch in worker.batches("numbers", 16):
            assert np.array_equal(images[batch], batch.indices * 10)
            assert list(batch) == batch.indices.tolist()
            assert len(batch) == len(batch.indices)


def test_a_loop_that_is_left_early_counts_what_it_trained(coordinator: Any) -> None:
    """The batch in hand when a loop breaks is committed with the next loop or epoch, and read only once."""
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker:
        worker.register_dataset("numbers", total_samples=100, shard_size=10)
        seen: list[int] = []
        for batch in worker.batches("numbers", 10):
            seen += batch
            if len(seen) == 30:
                break
        for batch in worker.batches("numbers", 10):
            seen += batch
            if len(seen) == 100:
                break
        assert sorted(seen) == list(range(100))
        worker.advance_epoch()
        assert worker.session.status().certificates[0]["complete"]


def test_many_tiny_shards_fit_into_commit_points(coordinator: Any) -> None:
    """A batch over more shards than one message can name is cut; the epoch is complete all the same."""
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker:
        worker.register_dataset("d" * 256, total_samples=1500, shard_size=1)
        assert sum(len(batch) for batch in worker.batches("d" * 256, 1000, commit_every=3)) == 1500
        worker.advance_epoch()
        (certificate,) = worker.session.status().certificates
    assert certificate["checksum"] == str(dataset_checksum(1500))


def test_saving_without_tracked_state_is_an_error_that_says_so(coordinator: Any) -> None:
    with (
        TrainingOrchestrator(coordinator.url, "worker-0") as worker,
        pytest.raises(InvalidArgumentError, match=r"nothing is tracked.*track\(model="),
    ):
        worker.save_checkpoint(step=1, epoch=0)


def test_the_environment_names_coordinator_and_worker(coordinator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """COORDINATOR_URL and WORKER_ID are read where arguments are left out."""
    monkeypatch.setenv("COORDINATOR_URL", coordinator.url)
    monkeypatch.setenv("WORKER_ID", "from-the-environment")

    class Trainer(WorkerMixin):
        pass

    with Trainer() as worker:
        assert coordinator.members() == [worker.worker_id] == ["from-the-environment"]
    with TrainingOrchestrator(worker_id="by-argument") as other:
        assert coordinator.members() == [other.worker_id] == ["by-argument"]
    with DatasetRegistry() as registry:
        registry.register_dataset("numbers", 10, 1)
        assert [entry["dataset_id"] for entry in coordinator.status().datasets] == ["numbers"]


def test_register_worker_tells_who_it_is(coordinator: Any) -> None:
    """The published call registers at once; its description shows in the status."""
    worker = TrainingOrchestrator(coordinator.url)
    try:
        assert worker.register_worker("worker-01", "trainer.example", 9000, gpu_count=8, memory_bytes=2**30) == 0
        (row,) = coordinator.status().workers
        assert (row.worker_id, row.hostname, row.gpu_count) == ("worker-01", "trainer.example", 8)
        with pytest.raises(InvalidArgumentError, match="connected as 'worker-01'"):
            worker.register_worker("worker-02", "trainer.example", 9000)
    finally:
        worker.deregister()
    assert coordinator.members() == []


def test_heartbeats_carry_position_and_state(coordinator: Any, eventually: Callable[..., Any]) -> None:
    """The coordinator's view of a worker is the worker's: step, epoch, state and resources."""
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker:
        assert worker.heartbeat(current_step=120, current_epoch=3) is True
        (row,) = coordinator.status().workers
        assert (row.step, row.epoch, row.rank) == (120, 3, 0)
        worker.session.state = "LOADING_DATA"
        worker.heartbeat()
        assert coordinator.status().workers[0].state == "LOADING_DATA"
        assert row.resources is not None
        assert row.resources.memory_bytes > 1_000_000


def test_a_barrier_that_times_out_names_who_is_missing(
    workers: Callable[[int], list[TrainingOrchestrator]],
) -> None:
    """The error lists the ranks that did not arrive; arriving again later is possible and releases all."""
    one, two, three = workers(3)
    with ThreadPoolExecutor() as pool:
        early = [pool.submit(worker.barrier, "sync", 7, timeout_s=0.5) for worker in (one, three)]
        for waiting in early:
            with pytest.raises(DeadlineExceededError, match=r"barrier 'sync' step 7: .* of 3 arrived") as caught:
                waiting.result()
            assert two.worker_id in caught.value.missing
        released = list(pool.map(lambda worker: worker.barrier("sync", 7, timeout_s=30), (one, two, three)))
    assert {tuple(sorted(one.participants)) for one in released} == {("worker-00", "worker-01", "worker-02")}


def test_some_ranks_may_meet_among_themselves(workers: Callable[[int], list[TrainingOrchestrator]]) -> None:
    """With `expected` a barrier releases when that many have arrived; more than there are is refused."""
    one, two, _ = workers(3)
    with ThreadPoolExecutor() as pool:
        released = list(pool.map(lambda worker: worker.barrier("pair", 1, expected=2, timeout_s=30), (one, two)))
    assert all(sorted(one.participants) == ["worker-00", "worker-01"] for one in released)
    with pytest.raises(InvalidArgumentError, match="expected is 4, the world size is 3"):
        one.barrier("crowd", 1, expected=4)


def test_who_waits_at_a_barrier_learns_that_a_worker_left(
    workers: Callable[[int], list[TrainingOrchestrator]], eventually: Callable[..., Any]
) -> None:
    """The barrier breaks at once, and the error names who left and the generation to go on with."""
    one, two = workers(2)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(one.barrier, "sync", 1, timeout_s=30)
        eventually(lambda: two.session.status().barriers)
        two.deregister()
        with pytest.raises(BarrierBrokenError) as caught:
            waiting.result(10)
    assert caught.value.left == ("worker-01",)
    assert caught.value.generation == one.generation + 1
    with pytest.raises(BarrierBrokenError.__mro__[1]):
        one.barrier("sync", 2)
    assert one.session.join(newer=True).members == ["worker-00"]
    assert one.barrier("sync", 2).participants == ["worker-00"]


def test_datasets_with_impossible_descriptions_are_refused_by_name(coordinator: Any) -> None:
    """Every refusal names the field, and the process goes on; a shard larger than the dataset is one short shard."""
    with TrainingOrchestrator(coordinator.url, "worker-0") as worker:
        mistakes: dict[str, dict[str, Any]] = {
            "total_samples": {"total_samples": 0, "shard_size": 10},
            "shard_size": {"total_samples": 10, "shard_size": -1},
            "dataset_id": {"total_samples": 10, "shard_size": 1, "dataset_id": "no/slash"},
            "path": {"total_samples": 10, "shard_size": 1, "path": "../up"},
        }
        for field, fields in mistakes.items():
            with pytest.raises(InvalidArgumentError, match=field):
                worker.register_dataset(**{"dataset_id": "numbers", **fields})
        with pytest.raises(InvalidArgumentError, match=r"register_dataset cannot be sent: .* `path`"):
            worker.register_dataset("numbers", 1_281_167, 10_000)  # type: ignore[arg-type]
        with pytest.raises(NotFoundError, match="dataset_id 'unheard' is not registered"):
            list(worker.get_shards("unheard"))
        assert worker.register_dataset("small", total_samples=3, shard_size=1000) == 1
        assert [len(shard) for shard in worker.get_shards("small")] == [3]
        with pytest.raises(AlreadyExistsError, match="total_samples=3, not 4"):
            worker.register_dataset("small", total_samples=4, shard_size=1000)


def test_a_worker_id_whose_process_lives_elsewhere_is_refused_by_name(
    coordinator: Any, start_trainer: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """A second process cannot take a live worker's name: the error tells its pid and host, and the first goes on."""
    trainer = start_trainer(coordinator, "worker-0", hold={"there": 1})
    eventually(lambda: trainer.events("holding"), 20)
    impostor = TrainingOrchestrator(coordinator.url, "worker-0")
    with pytest.raises(AlreadyExistsError, match=rf"worker_id 'worker-0' is held by pid {trainer.pid}"):
        impostor.connect()
    assert [(row.worker_id, row.pid) for row in coordinator.status().workers] == [("worker-0", trainer.pid)]
    trainer.go("there")
    trainer.finish()


def test_the_registry_speaks_for_several_workers(coordinator: Any) -> None:
    """With a URL the registry speaks to the coordinator, and takes its own workers out again."""
    with DatasetRegistry(coordinator.url) as registry:
        for name in ("worker-01", "worker-02"):
            registry.register_worker(name, hostname="a.example", port=9000, gpu_count=4)
        assert registry.register_dataset("imagenet-1k", 1_281_167, 10_000, True, 42) == 129
        assert registry.active_workers() == ["worker-01", "worker-02"]
        assert (registry.worker_count, registry.dataset_count) == (2, 1)
        assert registry.datasets() == ["imagenet-1k"]
        owned = {name: registry.get_shard_for_worker("imagenet-1k", name, 0) for name in registry.active_workers()}
        assert sorted(shard.shard_id for shards in owned.values() for shard in shards) == list(range(129))
        assert registry.advance_epoch() == 1 == registry.current_epoch()
        registry.remove_worker("worker-01")
        assert registry.active_workers() == ["worker-02"]
        assert len(registry.get_shards("imagenet-1k", "worker-02", 1)) == 129
        with pytest.raises(NotFoundError, match="'worker-01'"):
            registry.get_shards("imagenet-1k", "worker-01", 1)
        with pytest.raises(NotFoundError, match="was not registered by this registry"):
            registry.remove_worker("worker-09")
    assert coordinator.members() == []
