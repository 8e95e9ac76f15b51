"""History may be lost with a damaged journal, or go back while a worker is away: no model trains on in another one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strata_zmq import TrainingOrchestrator
from strata_zmq.coordinator.recover import recover
from strata_zmq.domain.checksum import checksum
from strata_zmq.domain.shuffle import dataset_checksum
from strata_zmq.errors import HistoryChangedError
from strata_zmq.protocol.messages import Membership

TOTAL = 100
BEGINNING = b'{"epoch": 0, "commit_index": 0, "datasets": {}}'


class SumWorker(TrainingOrchestrator):
    """Its model is the sum of the mixed ids of what it has trained on."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.model = np.zeros(1, dtype=np.uint64)
        self.track(model=self.model)
        self.register_dataset("numbers", total_samples=TOTAL, shard_size=10)

    def loop(self, batch_size: int = 10) -> Iterator[Any]:
        """Train; each batch is learnt when it is handed on."""
        for batch in self.batches("numbers", batch_size, timeout_s=30):
            self.model += np.uint64(checksum(batch.indices))
            yield batch


class RestoringWorker(SumWorker):
    """Goes back to the latest checkpoint where history was taken back."""

    def __init__(self, url: str, name: str, store: Path) -> None:
        super().__init__(url, name)
        self.store = store
        self.restored: list[str | None] = []

    def on_membership(self, membership: Membership) -> None:
        if self.session.astray is not None:
            self.restored.append(self.restore_checkpoint(self.store))


@pytest.fixture
def store(coordinator: Any, run_dir: Path, eventually: Callable[..., Any]) -> Iterator[Path]:
    """A checkpoint folder with a storage writer over it."""
    folder = run_dir / "store"
    with (run_dir / "writer.log").open("wb") as out:
        command = [*(sys.executable, "-m", "strata_zmq.workers", "writer"), "--coordinator-url", coordinator.url]
        process = subprocess.Popen([*command, "--path", str(folder), "--writer-id", "s0"], stdout=out, stderr=out)
    eventually(lambda: coordinator.status().writers == ["s0"], 20, "the storage writer did not register")
    yield folder
    process.terminate()
    process.wait(20)


def lose_the_latest(coordinator: Any, batches: int) -> None:
    """Kill the coordinator, damage its journal, and start it on what `--recover` makes of that."""
    coordinator.kill()
    with closing(sqlite3.connect(coordinator.journal)) as db, db:
        db.execute("DELETE FROM batch WHERE position = (SELECT MAX(position) FROM batch) - ?", (batches - 1,))
    done = recover(coordinator.journal)
    assert done.lost
    coordinator.start()


def test_a_model_that_has_seen_what_a_recovery_lost_does_not_train_on(coordinator: Any) -> None:
    """The loop ends with an error that names both points and the way out; nothing is counted for the old model."""
    with SumWorker(coordinator.url, "w0") as worker:
        loop = worker.loop()
        steps = [next(loop).step for _ in range(6)]
        assert (steps[-1], worker.step) == (6, 5)
        lose_the_latest(coordinator, 2)
        with pytest.raises(
            HistoryChangedError, match=r"up to commit point 5 of .* stands at commit point 3 of .*estore"
        ):
            next(loop)
        assert coordinator.status().commit_index == 3


def test_restored_in_on_membership_model_and_data_go_back_together(
    coordinator: Any, store: Path, eventually: Callable[..., Any]
) -> None:
    """The loop itself goes on, and every sample of the epoch is in the model exactly once."""
    with RestoringWorker(coordinator.url, "w0", store) as worker:
        loop = worker.loop()
        for _ in range(2):
            next(loop)
        saved = worker.save_checkpoint()
        assert saved.wait(30), saved.error
        for _ in range(4):
            next(loop)
        lose_the_latest(coordinator, 2)
        eventually(lambda: coordinator.status().writers == ["s0"], 20)
        for _ in loop:
            pass
        assert worker.restored == [saved.checkpoint_id]
        assert int(worker.model[0]) == dataset_checksum(TOTAL)
        assert worker.advance_epoch() == 1
        (certificate,) = coordinator.status().certificates
        assert certificate["complete"]


def test_a_recovery_that_lost_no_commit_point_sends_nobody_back(coordinator: Any) -> None:
    """What the process remembers is where history stands: it joins anew and goes on."""
    with SumWorker(coordinator.url, "w0") as worker:
        loop = worker.loop()
        for _ in range(4):
            next(loop)
        for name in ("another", "third"):
            worker.register_dataset(name, total_samples=10, shard_size=5)
        lose_the_latest(coordinator, 2)
        assert [batch.step for batch in loop][-1] == TOTAL // 10
        assert int(worker.model[0]) == dataset_checksum(TOTAL)


def test_who_was_away_during_a_restore_is_not_taken_in_by_an_equal_number(
    start_coordinator: Callable[..., Any], start_relay: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """History has come to the same commit point by another way."""
    coordinator = start_coordinator("--lease-s", "1")
    relay = start_relay(coordinator)
    with SumWorker(relay.url, "away") as away:
        loop = away.loop()
        for _ in range(3):
            next(loop)
        relay.freeze()
        eventually(lambda: coordinator.members() == [], 20)
        with SumWorker(coordinator.url, "there") as there:
            assert there.session.restore("beginning", BEGINNING)
            others = there.loop(batch_size=5)
            for _ in range(3):
                next(others)
            assert away.step == there.step == 2
            relay.thaw()
            with pytest.raises(HistoryChangedError, match=r"up to commit point 2 of .* stands at commit point 2 of"):
                next(loop)
