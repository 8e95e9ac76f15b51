"""A save that waits says for whom, and a writer that is gone for a moment is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processkit.served import Served

from strata_zmq import TrainingOrchestrator
from strata_zmq.errors import DeadlineExceededError


class House:
    """A coordinator and the means to start writers beside it."""

    def __init__(self, folder: Path) -> None:
        self.url = f"ipc://{folder}/control"
        self._folder = folder
        self._processes: list[Served] = []
        self._start(
            *("strata_zmq.coordinator", "--control", self.url, "--broadcast", f"ipc://{folder}/broadcast"),
            *("--journal", str(folder / "journal.sqlite"), "--lease-s", "2"),
        )

    def writer(self) -> Served:
        """Start the storage writer w0."""
        store = str(self._folder / "store")
        return self._start(
            *("strata_zmq.workers", "writer", "--coordinator-url", self.url, "--path", store, "--writer-id", "w0")
        )

    def stop(self) -> None:
        """End everything."""
        for process in self._processes:
            process.kill()

    def _start(self, module: str, *options: str) -> Served:
        self._processes.append(Served(self._folder / "log", module, *options))
        return self._processes[-1]


@pytest.fixture
def house(run_dir: Path) -> Iterator[House]:
    made = House(run_dir)
    yield made
    made.stop()


def worker(house: House, name: str) -> TrainingOrchestrator:
    return TrainingOrchestrator(house.url, name).track(model=np.arange(4.0))


def test_the_wait_names_the_rank_that_did_not_save(house: House) -> None:
    house.writer()
    with worker(house, "worker-01") as first, worker(house, "worker-02") as second:
        first.session.join()
        assert first.world_size == 2
        handle = first.save_checkpoint(step=1)
        with pytest.raises(DeadlineExceededError, match="worker-02") as caught:
            handle.wait(1.5)
        assert caught.value.missing == ("worker-02",)
        assert second.save_checkpoint(step=1).wait(30.0)
        assert handle.wait(30.0)


def test_a_save_waits_for_a_writer_that_is_being_restarted(house: House, eventually: Callable[..., Any]) -> None:
    process = house.writer()
    with worker(house, "worker-01") as only:
        assert only.save_checkpoint(step=1).wait(30.0)
        process.kill()
        session = only.session
        eventually(lambda: not session.status().writers, 60.0, "the lost writer is forgotten")
        handle = only.save_checkpoint(step=2)
        house.writer()
        assert handle.wait(60.0), handle.error
