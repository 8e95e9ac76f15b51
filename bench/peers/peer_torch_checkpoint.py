"""torch.save and torch's distributed checkpoint (DCP), until the bytes are on disk; and DCP's async_save in a loop."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import torch
from torch.distributed import checkpoint
from training_loop import slowdown

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Peer"]

_STRIDE = 16_384
"""Elements between two that change from save to save, so that nobody can pass over unchanged bytes."""


class Peer:
    """A state of `tensors` float32 tensors, `state_bytes` in all, saved below `folder`."""

    def __init__(self, folder: str, state_bytes: int, tensors: int) -> None:
        self._target = Path(folder) / f"torch-{os.getpid()}"
        self._saving: Future[object] | None = None
        elements = state_bytes // tensors // 4
        self._state = {f"layer.{place}": torch.rand(elements) for place in range(tensors)}

    def torch_save(self) -> dict[str, float]:
        """One file by torch.save, flushed to disk."""
        self._change()
        cpu, wall = process_time(), perf_counter()
        with self._target.open("wb") as file:
            torch.save(self._state, file)
            file.flush()
            os.fsync(file.fileno())
        spent = {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
        self._target.unlink()
        return spent

    def dcp_save(self) -> dict[str, float]:
        """One process's save through DCP's FileSystemWriter, which syncs its files."""
        self._change()
        cpu, wall = process_time(), perf_counter()
        checkpoint.save(
            self._state, storage_writer=checkpoint.FileSystemWriter(self._target, sync_files=True), no_dist=True
        )
        spent = {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
        shutil.rmtree(self._target)
        return spent

    def training(self, steps: int, saves: int) -> dict[str, float]:
        """A training loop without saves and with async_save, which has one save under way at a time."""

        def settled() -> None:
            if self._saving is not None:
                self._saving.result()
                self._saving = None

        def save() -> None:
            settled()
            self._change()
            target = self._target / str(len(list(self._target.iterdir())))
            writer = checkpoint.FileSystemWriter(target, sync_files=True)
            self._saving = checkpoint.async_save(self._state, storage_writer=writer, no_dist=True)

        self._target.mkdir()
        try:
            found: dict[str, float] = slowdown(steps, saves, save, settled)
        finally:
            shutil.rmtree(self._target)
        return found

    def _change(self) -> None:
        for tensor in self._state.values():
            tensor[::_STRIDE] += 1

    def close(self) -> None:
        """Nothing to undo."""
