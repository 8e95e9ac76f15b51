"""Orbax's PyTreeCheckpointer, one process, until what it wrote has been synced, which it does not do itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from orbax.checkpoint import PyTreeCheckpointer

__all__ = ["Peer"]

_STRIDE = 16_384


class Peer:
    """A state of `tensors` float32 arrays, `state_bytes` in all, saved below `folder`."""

    def __init__(self, folder: str, state_bytes: int, tensors: int) -> None:
        self._target = Path(folder) / f"orbax-{os.getpid()}"
        elements = state_bytes // tensors // 4
        chance = np.random.default_rng(1)
        self._state = {f"layer.{place}": chance.random(elements, dtype=np.float32) for place in range(tensors)}
        self._checkpointer = PyTreeCheckpointer()

    def save(self) -> dict[str, float]:
        """One save; the system is asked for what it has not written yet, too, as the others' fsync does."""
        for array in self._state.values():
            array[::_STRIDE] += 1
        cpu, wall = process_time(), perf_counter()
        self._checkpointer.save(self._target, self._state)
        for path in self._target.rglob("*"):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        spent = {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
        shutil.rmtree(self._target)
        return spent

    def close(self) -> None:
        """End its threads."""
        self._checkpointer.close()
