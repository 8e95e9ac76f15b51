"""A committed checkpoint back into a state tree: every digest checked, memory bounded; decides what "latest" falls to.

Besides the state itself at most a few chunks are in memory at a time.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.arrays import restored
from strata_zmq.checkpoint.tree import rebuild
from strata_zmq.errors import CheckpointCorruptError, NotFoundError, ResourceExhaustedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import HeadEntry, Manifest, RankIndex

__all__ = ["CheckpointFallbackWarning", "RestoreReport", "Restored", "restore", "restore_latest", "warn_of_fallback"]

_CHUNKS_AT_ONCE = 4


class CheckpointFallbackWarning(UserWarning):
    """The newest checkpoint is damaged and an older one was loaded in its place."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """Which checkpoint was loaded, and the newer ones that were skipped as (id, reason)."""

    manifest: Manifest
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """A rank's state and where it came from."""

    data: Any
    report: RestoreReport


async def restore(store: CheckpointStore, entry: HeadEntry, rank: int = 0, *, as_numpy: bool = False) -> Restored:
    """Load one rank's state of one checkpoint; CheckpointCorruptError names the object that is missing or damaged."""
    manifest = await store.read_manifest(entry)
    index = await store.read_rank_index(manifest, rank)
    arrays = await _read_arrays(store, index)
    name = f"rank {rank} of {entry.checkpoint_id}"
    leaves = [
        restored(array, tensor.tag, tensor.path, as_numpy=as_numpy)
        for array, tensor in zip(arrays, index.tensors, strict=True)
    ]
    return Restored(rebuild(index.skeleton, leaves, name), RestoreReport(manifest))


async def restore_latest(store: CheckpointStore, rank: int = 0, *, as_numpy: bool = False) -> Restored:
    """Load the newest checkpoint that is whole; newer ones that are damaged are listed in the report."""
    entries = await store.entries()
    if not entries:
        raise NotFoundError(f"no checkpoint is committed in {store.storage.url}: save one first, or check the path")
    skipped: list[tuple[str, str]] = []
    for entry in reversed(entries):
        try:
            found = await restore(store, entry, rank, as_numpy=as_numpy)
        except CheckpointCorruptError as error:
            skipped.append((entry.checkpoint_id, str(error)))
            continue
        return Restored(found.data, RestoreReport(found.report.manifest, tuple(skipped)))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped)
    raise CheckpointCorruptError(f"none of the {len(skipped)} checkpoints in {store.storage.url} is whole: {reasons}")


def warn_of_fallback(found: RestoreReport, *, stacklevel: int = 2) -> None:
    """Warn, in the caller's name, if newer checkpoints than the one that was loaded are damaged."""
    if found.skipped:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.skipped)
        warnings.warn(
            f"loaded {found.manifest.checkpoint_id} (step {found.manifest.step}) because newer checkpoints are "
            f"damaged: {reasons}",
            CheckpointFallbackWarning,
            stacklevel=stacklevel + 1,
        )


async def _read_arrays(store: CheckpointStore, index: RankIndex) -> list[NDArray[Any]]:
    arrays: list[NDArray[Any]] = []
    raw: list[NDArray[np.uint8]] = []
    placed: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
    for number, tensor in enumerate(index.tensors):
        buffer = _allocate(tensor.path, tensor.nbytes)
        raw.append(buffer)
        arrays.append(
            buffer.view(tensor.dtype).reshape(tensor.shape) if tensor.nbytes else np.empty(tensor.shape, tensor.dtype)
        )
        done = 0
        for span in tensor.spans:
            placed[span.chunk].append((number, done, span.offset, span.nbytes))
            done += span.nbytes
    gate = asyncio.Semaphore(_CHUNKS_AT_ONCE)

    def place(number: int, data: bytes) -> None:
        chunk = np.frombuffer(data, np.uint8)
        for tensor, begin, offset, nbytes in placed[number]:
            raw[tensor][begin : begin + nbytes] = chunk[offset : offset + nbytes]

    async def fetch(number: int) -> None:
        async with gate:
            # In a thread, because the first touch of new memory is slow.
            await asyncio.to_thread(place, number, await store.read_chunk(index.chunks[number]))

    # A task group ends the other reads as soon as one has failed.
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(len(index.chunks)):
                group.create_task(fetch(number))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return arrays


def _allocate(path: str, nbytes: int) -> NDArray[np.uint8]:
    try:
        return np.empty(nbytes, np.uint8)
    except MemoryError:
        raise ResourceExhaustedError(
            f"{path} needs {nbytes} bytes of memory and there are not so many: load on a larger machine"
        ) from None
