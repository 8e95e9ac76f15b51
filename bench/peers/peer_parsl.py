"""Parsl: Python apps on its high-throughput executor, with a manager on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

__all__ = ["Peer"]

_WARM = 200


def nothing() -> None:
    """What is called; the workers import it."""


class Peer:
    """One block with `workers` worker processes."""

    def __init__(self, workers: int) -> None:
        # It starts its programs by their names, and its workers import this module.
        os.environ["PATH"] = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        self._folder = tempfile.TemporaryDirectory(prefix="strata-parsl-")
        executor = HighThroughputExecutor(
            label="peer",
            address="127.0.0.1",
            max_workers_per_node=workers,
            provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
        )
        parsl.load(Config(executors=[executor], run_dir=self._folder.name, strategy="none", usage_tracking=0))
        self._call = parsl.python_app(nothing)
        self.throughput(_WARM)

    def throughput(self, tasks: int) -> dict[str, float]:
        """Submit `tasks` calls as fast as it goes, and wait for all."""
        start = perf_counter()
        for future in [self._call() for _ in range(tasks)]:
            future.result()
        return {"wall_s": perf_counter() - start}

    def latencies(self, tasks: int) -> dict[str, list[float]]:
        """Call and wait, one after the other; seconds."""
        return {"latencies": [self._once() for _ in range(tasks)]}

    def _once(self) -> float:
        start = perf_counter()
        self._call().result()
        return perf_counter() - start

    def close(self) -> None:
        """End the manager and its workers."""
        parsl.dfk().cleanup()
        self._folder.cleanup()
