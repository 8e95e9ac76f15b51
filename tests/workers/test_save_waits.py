"""A save that waits says for whom, and a writer that is gone for a moment is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strata_zmq import TrainingOrchestrator
from strata_zmq.errors import DeadlineExceededError


class House:
    """A coordinator and the means to start writers beside it."""

    def __init__(self, folder: Path) -> None:
        self.url = f"ipc://{folder}/control"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start("coordinator", "--control", self.url, "--broadcast", f"ipc://{folder}/broadcast", "--lease-s", "2")

    def start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a process and wait until it serves."""
        module = ["strata_zmq.coordinator"] if what == "coordinator" else ["strata_zmq.workers", "writer"]
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", *module, *options, "--ready-fd", str(write)],
            pass_fds=(write,),
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        self.processes.append(process)
        with os.fdopen(read) as ready:
            assert ready.readline()
        return process

    def writer(self) -> subprocess.Popen[bytes]:
        """Start the storage writer w0."""
        return self.start(
            "writer", "--coordinator-url", self.url, "--path", str(self.folder / "store"), "--writer-id", "w0"
        )

    def stop(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="strata-") as folder, ExitStack() as stack:
        made = House(Path(folder))
        stack.callback(made.stop)
        yield made


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
        process.wait()
        session = only.session
        eventually(lambda: not session.status().writers, 60.0, "the lost writer is forgotten")
        handle = only.save_checkpoint(step=2)
        house.writer()
        assert handle.wait(60.0), handle.error
