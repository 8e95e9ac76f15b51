"""A checkpoint is a point of history: model and data position are saved together and go back together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strata_zmq import CheckpointManager, TrainingOrchestrator
from strata_zmq.domain.shuffle import checksum, dataset_checksum
from strata_zmq.protocol.messages import Membership

TOTAL = 100


@pytest.fixture
def store(coordinator: Any, run_dir: Path, eventually: Callable[..., Any]) -> Iterator[Path]:
    """A checkpoint folder with a storage writer over it."""
    folder = run_dir / "store"
    log = run_dir / "writer.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "strata_zmq.workers", "writer"),
                *("--coordinator-url", coordinator.url, "--path", str(folder), "--writer-id", "writer-0"),
            ],
            stdout=out,
            stderr=out,
        )
    eventually(lambda: coordinator.status().writers == ["writer-0"], 20, "the storage writer did not register")
    yield folder
    process.terminate()
    assert process.wait(20) == 0, log.read_text()


class SumWorker(TrainingOrchestrator):
    """Its model is the sum of the mixed ids of what it has trained on."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.model = np.zeros(1, dtype=np.uint64)
        self.track(model=self.model)
        self.register_dataset("numbers", total_samples=TOTAL, shard_size=7)

    def learn(self, batch: Any) -> None:
        self.model += np.uint64(checksum(batch.indices))


def test_model_and_data_go_back_to_the_checkpoint_together(coordinator: Any, store: Path) -> None:
    """What was trained after the save is forgotten by both; the rest of the epoch is then seen exactly once."""
    with SumWorker(coordinator.url, "before") as worker:
        saved, at_save = None, worker.model
        for batch in worker.batches("numbers", 10):
            worker.learn(batch)
            if batch.step == 3:
                saved = worker.save_checkpoint(metadata={"note": "half-way"})
                at_save = worker.model.copy()
            if batch.step == 6:
                break
        assert saved is not None
        assert saved.wait(30.0), saved.error
    with SumWorker(coordinator.url, "after") as worker:
        assert worker.step == 5
        assert worker.restore_checkpoint(store) == saved.checkpoint_id
        assert worker.model == at_save, "the batch in hand at the save belongs to it"
        seen = 0
        for batch in worker.batches("numbers", 10):
            worker.learn(batch)
            seen += len(batch)
        assert seen == TOTAL - 30
        assert int(worker.model[0]) == dataset_checksum(TOTAL)
        worker.advance_epoch()
        (certificate,) = coordinator.status().certificates
        assert certificate["complete"]
        assert certificate["checksum"] == str(dataset_checksum(TOTAL))


def test_every_save_of_a_loop_is_committed_and_the_newest_are_kept(
    coordinator: Any, store: Path, eventually: Callable[..., Any]
) -> None:
    """Saving each epoch leaves the latest five, each with the model of its epoch; training does not wait for them."""
    with SumWorker(coordinator.url, "worker-0") as worker:
        saves = []
        for _ in worker.epochs(7):
            for batch in worker.batches("numbers", 50):
                worker.learn(batch)
            saves.append(worker.save_checkpoint())
        assert all(save.wait(30.0) for save in saves), [save.error for save in saves]
        assert len(coordinator.status().checkpoints) == 5
    with CheckpointManager(store) as manager:
        kept = manager.all_checkpoints()
        assert [one.checkpoint_id for one in kept] == [save.checkpoint_id for save in saves[2:]]
        for number, one in enumerate(kept, start=3):
            model = manager.load(one.checkpoint_id, rank=0)["model"]
            assert int(model[0]) == number * dataset_checksum(TOTAL) % 2**64


class AgreeingWorker(SumWorker):
    """Its ranks have one model, which newcomers take from rank 0."""

    def __init__(self, url: str, name: str, shared: np.ndarray[Any, Any]) -> None:
        super().__init__(url, name)
        self.shared = shared

    def on_membership(self, membership: Membership) -> None:
        if membership.rank == 0:
            self.shared[:] = self.model
        self.barrier("sync", membership.generation, timeout_s=30)
        self.model[:] = self.shared


def test_a_rank_that_came_too_late_for_the_epoch_saves_what_history_says(coordinator: Any, store: Path) -> None:
    """Who joins when an epoch's data is finished has no model yet: the save agrees on it first, and nothing is lost."""
    shared = np.zeros(1, dtype=np.uint64)
    with AgreeingWorker(coordinator.url, "old", shared) as old:
        for batch in old.batches("numbers", 50):
            old.learn(batch)
        with AgreeingWorker(coordinator.url, "new", shared) as new, ThreadPoolExecutor() as pool:
            assert list(new.batches("numbers", 50, timeout_s=30)) == []
            saves = list(pool.map(AgreeingWorker.save_checkpoint, (old, new)))
            assert all(save.wait(30.0) for save in saves), [save.error for save in saves]
            assert old.generation == new.generation == 2
    with CheckpointManager(store) as manager:
        (saved,) = manager.all_checkpoints()
        for rank in (0, 1):
            assert int(manager.load(saved.checkpoint_id, rank=rank)["model"][0]) == dataset_checksum(TOTAL)


def test_a_save_whose_batch_is_taken_back_is_skipped_and_every_rank_saves_when_the_step_comes_again(
    coordinator: Any, store: Path
) -> None:
    """Somebody joins between a batch and its save: no rank saves what the newcomer does not."""
    shared = np.zeros(1, dtype=np.uint64)

    def save_the_third(worker: AgreeingWorker, tells: Callable[[], None] = lambda: None) -> list[Any]:
        saves = []
        for batch in worker.batches("numbers", 10, every_rank=True, timeout_s=30):
            worker.model += np.uint64(1)
            if batch.step == 3:
                tells()
                saves.append(worker.save_checkpoint())
                if not saves[-1].done:
                    break
                saves.append(worker.save_checkpoint())
        return saves

    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        old = stack.enter_context(AgreeingWorker(coordinator.url, "old", shared))
        others: list[Future[list[Any]]] = []

        def somebody_joins() -> None:
            if not others:
                new = stack.enter_context(AgreeingWorker(coordinator.url, "new", shared))
                others.append(pool.submit(save_the_third, new))

        *skipped, saved = save_the_third(old, somebody_joins)
        assert [save.state for save in skipped] == ["SKIPPED", "SKIPPED"], "a second one has no place in history either"
        assert "comes to that step again" in str(skipped[0].error)
        assert saved.wait(30.0), saved.error
        (newcomers,) = others[0].result(30.0)
        assert newcomers.result(30.0) == saved.checkpoint_id
        assert saved.step == 3


def test_a_model_that_begins_anew_in_the_middle_of_the_data_is_warned_of(
    coordinator: Any, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is left who remembers and nothing is restored: the log says so once, and not to who restores."""
    with SumWorker(coordinator.url, "before") as worker:
        for batch in worker.batches("numbers", 30):
            worker.learn(batch)
            if batch.step == 2:
                assert worker.save_checkpoint().wait(30.0)
                break
    assert "no member remembers" not in caplog.text
    with SumWorker(coordinator.url, "restores") as worker:
        worker.restore_checkpoint(store)
        next(iter(worker.batches("numbers", 10)))
    assert "no member remembers" not in caplog.text
    with SumWorker(coordinator.url, "forgets") as worker:
        next(iter(worker.batches("numbers", 10)))
    assert caplog.text.count("history stands at commit point 2 and no member remembers its model") == 1
