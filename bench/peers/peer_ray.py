"""Ray: remote tasks on a node of its own, each call one `remote()` and its result one `get`."""

from __future__ import annotations

import os
from time import perf_counter

import ray

__all__ = ["Peer"]

_WARM = 200
_STORE_BYTES = 128 * 2**20


def _nothing() -> None:
    """What is called."""


class Peer:
    """A node with `workers` CPUs, so that as many worker processes run tasks."""

    def __init__(self, workers: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=_STORE_BYTES,
        )
        self._call = ray.remote(_nothing)
        self.throughput(_WARM)

    def throughput(self, tasks: int) -> dict[str, float]:
        """Submit `tasks` calls as fast as it goes, and wait for all."""
        start = perf_counter()
        ray.get([self._call.remote() for _ in range(tasks)])
        return {"wall_s": perf_counter() - start}

    def latencies(self, tasks: int) -> dict[str, list[float]]:
        """Call and wait, one after the other; seconds."""
        return {"latencies": [self._once() for _ in range(tasks)]}

    def _once(self) -> float:
        start = perf_counter()
        ray.get(self._call.remote())
        return perf_counter() - start

    def close(self) -> None:
        """End the node."""
        ray.shutdown()
