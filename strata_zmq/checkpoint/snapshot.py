"""Copying a state tree into staged memory, and describing what lies there; never writes or sends a byte of it.

The copy is always made: training goes on and changes its arrays in place while the copy is being stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from strata_zmq.checkpoint.arena import HEADER_BYTES, Arena, ArenaPool
from strata_zmq.checkpoint.arrays import Leaf
from strata_zmq.checkpoint.chunks import CHUNK_BYTES, Layout, plan
from strata_zmq.checkpoint.copying import COPY_THREADS, copy_all
from strata_zmq.checkpoint.tree import flatten
from strata_zmq.domain.manifest import ChunkRecord, RankIndex, TensorRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Arena", "ArenaPool", "Plan", "Snapshot", "describe", "take_snapshot"]

_WILL_BASE_BYTES = 16 * 1024
_WILL_TENSOR_BYTES = 512
_WILL_CHUNK_BYTES = 384


@dataclass(frozen=True, slots=True)
class Plan:
    """A state tree before it is copied: what is in it, and where each array will lie."""

    skeleton: Any
    leaves: tuple[Leaf, ...]
    layout: Layout

    @property
    def will_bytes_max(self) -> int:
        """An upper bound of what a description of all this takes, in bytes."""
        paths = sum(len(ascii(leaf.path)) for leaf in self.leaves)
        spans = sum(len(spans) for spans in self.layout.spans)
        return (
            _WILL_BASE_BYTES
            + len(json.dumps(self.skeleton))
            + paths
            + _WILL_TENSOR_BYTES * len(self.leaves)
            + _WILL_CHUNK_BYTES * (len(self.layout.slices) + spans)
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rank's state, copied: skeleton, what each array is, and its chunks as slices of the arena.

    `epoch` is the arena's: while it is the same, the arena holds this snapshot. `rng` is a skeleton without arrays.
    """

    skeleton: Any
    leaves: tuple[Leaf, ...]
    layout: Layout
    arena: Arena
    epoch: int = 0
    rng: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes in all chunks."""
        return sum(piece.nbytes for piece in self.layout.slices)

    @property
    def room(self) -> tuple[int, int]:
        """Offset and size, in bytes, of what is free behind the data."""
        return self.layout.total_bytes, self.arena.segment.size - self.layout.total_bytes

    def holds(self) -> bool:
        """Say whether the arena still holds this snapshot."""
        return self.arena.epoch == self.epoch

    def chunk(self, number: int) -> memoryview:
        """Return the bytes of one chunk, without a copy."""
        piece = self.layout.slices[number]
        return self.arena.segment.view[piece.offset : piece.offset + piece.nbytes]

    def index(self, rank: int, chunks: Sequence[ChunkRecord]) -> RankIndex:
        """Return the rank index, given where the chunks were stored."""
        tensors = tuple(
            TensorRecord(leaf.path, leaf.dtype, leaf.shape, leaf.tag, spans, leaf.global_shape, leaf.global_offsets)
            for leaf, spans in zip(self.leaves, self.layout.spans, strict=True)
        )
        return RankIndex(rank, self.skeleton, tensors, tuple(chunks), self.rng)


def describe(data: object, chunk_bytes: int = CHUNK_BYTES) -> Plan:
    """Return what a snapshot of `data` would be; nothing is copied.

    Raises InvalidArgumentError for what cannot be restored as it is.
    """
    skeleton, leaves = flatten(data)
    return Plan(skeleton, tuple(leaves), plan([leaf.nbytes for leaf in leaves], chunk_bytes, begin=HEADER_BYTES))


def take_snapshot(
    data: object,
    pool: ArenaPool,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    timeout_s: float = 300.0,
    rng: Any = None,
    with_will: bool = False,
    threads: int = COPY_THREADS,
    acquire: Callable[[int], Arena] | None = None,
) -> Snapshot:
    """Copy `data` into an arena of `pool`; on return the caller may change its arrays.

    Waits up to `timeout_s` for a free arena, or takes what `acquire` gives for a number of bytes. The snapshot's arena
    goes back to the pool when its user is done with it. `with_will` leaves room behind the data. Raises
    InvalidArgumentError, before anything is copied, for what cannot be restored as it is.
    """
    found = describe(data, chunk_bytes)
    needed = found.layout.total_bytes + (found.will_bytes_max if with_will else 0)
    arena = pool.acquire(needed, timeout_s) if acquire is None else acquire(needed)
    try:
        copy_all(found.leaves, found.layout, arena.segment, threads=threads)
    except BaseException:
        pool.release(arena)
        raise
    # What is kept describes the arrays; holding on to them would keep the caller's memory alive.
    described = tuple(replace(leaf, read=_spent) for leaf in found.leaves)
    return Snapshot(found.skeleton, described, found.layout, arena, arena.epoch, rng)


def _spent() -> Any:
    raise AssertionError("a snapshot's arrays were read when it was taken")
