"""Synchronised parameters through one memory-mapped file: every rank writes its row, then all read all rows.

Gradients are not the runtime's business. This stands for whatever a job synchronises with; it needs nothing from
Strata but two barriers around the exchange.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perceptron import Parameters  # isort: skip


class Averaging:
    """Row 0 is the state that newcomers take; row 1 + rank is that rank's, with its weight in the last column."""

    def __init__(self, path: Path, parameters: Parameters, ranks_max: int) -> None:
        self._parameters = parameters
        width = sum(array.size for array in parameters.values()) + 1
        shape = (ranks_max + 1, width)
        if not path.exists():
            # Whoever comes first makes the file whole; a link, unlike a rename, never takes another's place.
            own = path.with_name(f"{path.name}.{os.getpid()}")
            np.lib.format.open_memmap(own, mode="w+", dtype=np.float32, shape=shape).flush()
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(own)
            own.unlink()
        self._rows: NDArray[np.float32] = np.lib.format.open_memmap(path, mode="r+")

    def publish(self) -> None:
        """Offer this rank's parameters to newcomers."""
        self._write(self._rows[0])

    def adopt(self) -> None:
        """Take the parameters that were offered."""
        self._read(self._rows[0])

    def offer(self, rank: int, samples: int) -> None:
        """Write this rank's parameters, weighted by the samples it has just trained on."""
        row = self._rows[1 + rank]
        self._write(row)
        row[-1] = samples

    def average(self, ranks: Sequence[int]) -> None:
        """Take the weighted mean over `ranks`; the same order everywhere gives the same bits everywhere."""
        rows = self._rows[[1 + rank for rank in sorted(ranks)]].astype(np.float64)
        weights = rows[:, -1:]
        self._read((rows[:, :-1] * weights).sum(axis=0) / weights.sum())

    def _write(self, row: NDArray[np.float32]) -> None:
        at = 0
        for array in self._parameters.values():
            row[at : at + array.size] = array.ravel()
            at += array.size

    def _read(self, row: NDArray[np.float32] | NDArray[np.float64]) -> None:
        at = 0
        for array in self._parameters.values():
            array[...] = row[at : at + array.size].reshape(array.shape)
            at += array.size
