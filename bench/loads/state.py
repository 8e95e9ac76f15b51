"""Owns the state that the checkpoint suites save: arrays over one mapping, which change a little between saves."""

from __future__ import annotations

import mmap
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.bench.model import Settings
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FLOOR_BYTES", "MEGABYTE", "SIZE_VARIABLE", "State", "check_room", "size_of", "state_bytes"]

SIZE_VARIABLE = "CHECKPOINT_SIZE_MB"
MEGABYTE = 1 << 20
FLOOR_BYTES = 10**9
"""A floor about a gigabyte is not shown by less."""

_MIB_MIN, _MIB_MAX = 16, 1 << 20
_STRIDE = 16_384


class State:
    """Page-aligned float32 arrays over one mapping, so that a plain write may bypass the page cache."""

    def __init__(self, nbytes: int, tensors: int) -> None:
        elements = nbytes // tensors // mmap.PAGESIZE * mmap.PAGESIZE // 4
        self.bytes = elements * tensors * 4
        self.memory = mmap.mmap(-1, self.bytes)
        whole = np.frombuffer(self.memory, dtype=np.float32)
        np.random.default_rng(1).random(out=whole, dtype=np.float32)
        self.arrays = {f"layer.{place}": part for place, part in enumerate(np.split(whole, tensors))}

    def change(self, names: list[str] | None = None) -> None:
        """Change something in every 64 KiB of all arrays, or of those named."""
        for name in names if names is not None else self.arrays:
            self.arrays[name][::_STRIDE] += 1


def state_bytes(settings: Settings) -> int:
    """Return how large the state is to be: `CHECKPOINT_SIZE_MB`, else what the run's kind has."""
    text = os.environ.get(SIZE_VARIABLE, "")
    if not text:
        return settings.pick(64, 1024) * MEGABYTE
    if not text.isdecimal() or not _MIB_MIN <= int(text) <= _MIB_MAX:
        raise InvalidArgumentError(f"{SIZE_VARIABLE} is {text!r}: give whole mebibytes, {_MIB_MIN} to {_MIB_MAX}")
    return int(text) // 16 * 16 * MEGABYTE


def size_of(nbytes: int, tensors: int) -> str:
    """Return a row's size in words."""
    return f"{nbytes // MEGABYTE:,} MiB in {tensors} arrays"


def check_room(scratch: Path, needed: int) -> None:
    """Fail before the first round rather than in the middle of one."""
    free = shutil.disk_usage(scratch).free
    if free < needed:
        raise InvalidArgumentError(
            f"{scratch} has {free // MEGABYTE} MiB free and {needed // MEGABYTE} MiB are needed: name another folder "
            f"with --scratch, or a smaller {SIZE_VARIABLE}"
        )
