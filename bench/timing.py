"""Owns the stop-watch for calls in this process; knows nothing of what is called."""

from __future__ import annotations

from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from .model import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MILLISECONDS", "timed_calls"]

MILLISECONDS = 1e3
"""Multiplier from seconds to a case's unit."""


def timed_calls(call: Callable[[], object], repeats: int, *, scale: float = MILLISECONDS) -> Sample:
    """Call `call` `repeats` times; the sample's value is the median duration in 1/`scale` seconds.

    CPU time is that of all threads of this process.
    """
    latencies = []
    cpu, wall = process_time(), perf_counter()
    for _ in range(repeats):
        start = perf_counter()
        call()
        latencies.append((perf_counter() - start) * scale)
    wall_s, cpu_s = perf_counter() - wall, process_time() - cpu
    return Sample(median(latencies), wall_s=wall_s, cpu_s=cpu_s, latencies=latencies)
