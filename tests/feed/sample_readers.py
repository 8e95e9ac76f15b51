"""Readers that loader processes of the tests import by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np


class Squares:
    """Sample i is i squared, a row of `width` copies; the array is made anew for each batch."""

    def __init__(self, length: int, width: int = 3) -> None:
        self.length = length
        self.width = width

    def __len__(self) -> int:
        return self.length

    def read(self, indices):
        return {"index": indices, "square": np.repeat((indices**2)[:, None], self.width, axis=1)}


class Troublesome(Squares):
    """Each index from 90 on is a misfortune of its own."""

    def read(self, indices):
        first = int(indices[0])
        if first == 90:
            raise KeyError("no such sample: ninety")
        if first == 91:
            return {"index": indices[:-1]}
        if first == 92:
            return {}
        if first == 93:
            return {"index": np.array([object()] * len(indices))}
        if first == 94:
            return {"index": np.zeros((len(indices), 1 << 20))}
        if first == 97:
            return {f"array{k}": indices for k in range(65)}
        if first == 95:
            os.kill(os.getpid(), signal.SIGKILL)
        if first == 96:
            time.sleep(3600)
        return super().read(indices)


class Slow(Squares):
    """Leaves a file per batch read, and waits for permission (a file) before each batch but the probe."""

    def __init__(self, length: int, folder: str) -> None:
        super().__init__(length)
        self.folder = Path(folder)

    def read(self, indices):
        if len(indices) > 1:
            while not (self.folder / "go").exists():
                time.sleep(0.002)
            (self.folder / f"read-{indices[0]}").touch()
        return super().read(indices)


def refuse(reason: str):
    raise ValueError(reason)


def not_a_reader():
    return 7
