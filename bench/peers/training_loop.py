"""A training loop without a framework: the same matrix products in every interpreter that has NumPy.

It knows when to save, never how; `slowdown` is what a row about saving during training compares.
"""

from __future__ import annotations

from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["slowdown"]

SIDE = 1024


class Loop:
    """Steps of about 2 GFLOP each, on as many threads as the BLAS library was started with."""

    def __init__(self) -> None:
        chance = np.random.default_rng(1)
        self._left = chance.random((SIDE, SIDE), dtype=np.float32)
        self._right = chance.random((SIDE, SIDE), dtype=np.float32)
        self._out = np.empty((SIDE, SIDE), dtype=np.float32)

    def run(self, steps: int, saves: int, save: Callable[[], None]) -> float:
        """Return the seconds that `steps` steps take; `save` is called after the first of each of `saves` parts."""
        every = steps // max(saves, 1)
        start = perf_counter()
        for step in range(steps):
            np.matmul(self._left, self._right, out=self._out)
            if saves and step % every == 0:
                save()
        return perf_counter() - start


def slowdown(steps: int, saves: int, save: Callable[[], None], settled: Callable[[], None]) -> dict[str, float]:
    """Run the loop without saves and with `saves`, until `settled` says that all are durable.

    Returns seconds: `plain_s`, `saved_s`, what each save added (`slowdown_s`), and the CPU time of all that.
    """
    loop = Loop()
    loop.run(2, 0, save)
    cpu = process_time()
    plain = loop.run(steps, 0, save)
    start = perf_counter()
    loop.run(steps, saves, save)
    settled()
    saved = perf_counter() - start
    return {
        "plain_s": plain,
        "saved_s": saved,
        "slowdown_s": (saved - plain) / saves,
        "wall_s": plain + saved,
        "cpu_s": process_time() - cpu,
    }
