"""Dask distributed: calls submitted to a local cluster, with one thread in each worker process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from time import perf_counter

import dask
from distributed import Client, LocalCluster

__all__ = ["Peer"]

_WARM = 200


def nothing(number: int) -> None:
    """What is called; the workers import it."""


class Peer:
    """A scheduler and `workers` worker processes."""

    def __init__(self, workers: int) -> None:
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        self._folder = tempfile.TemporaryDirectory(prefix="strata-dask-")
        dask.config.set({"temporary-directory": self._folder.name})
        self._cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        )
        self._client = Client(self._cluster)
        self.throughput(_WARM)

    def throughput(self, tasks: int) -> dict[str, float]:
        """Submit `tasks` calls as fast as it goes, and wait for all."""
        start = perf_counter()
        self._client.gather([self._client.submit(nothing, number, pure=False) for number in range(tasks)])
        return {"wall_s": perf_counter() - start}

    def latencies(self, tasks: int) -> dict[str, list[float]]:
        """Call and wait, one after the other; seconds."""
        return {"latencies": [self._once() for _ in range(tasks)]}

    def _once(self) -> float:
        start = perf_counter()
        self._client.submit(nothing, 0, pure=False).result()
        return perf_counter() - start

    def close(self) -> None:
        """End the cluster."""
        self._client.close()
        self._cluster.close()
        self._folder.cleanup()
