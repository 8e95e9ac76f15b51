"""Copying a state tree into staged memory, and describing what lies there; never writes or sends a byte of it.

The copy is always made: training goes on and changes its arrays in place while the copy is being stored.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.arrays import Leaf
from strata_zmq.checkpoint.chunks import CHUNK_BYTES, Layout, plan
from strata_zmq.checkpoint.tree import flatten
from strata_zmq.domain.manifest import ChunkRecord, RankIndex, TensorRecord
from strata_zmq.errors import DeadlineExceededError, InvalidArgumentError
from strata_zmq.feed.segment import MemfdSegment

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Arena", "ArenaPool", "Snapshot", "take_snapshot"]


@dataclass(eq=False, slots=True)
class Arena:
    """One reusable piece of staging memory; `number` is unique within its pool."""

    number: int
    segment: MemfdSegment


class ArenaPool:
    """At most `count` arenas, reused because the first touch of a page is many times slower than the second.

    An arena grows to the largest state that it has held. Thread-safe.
    """

    def __init__(self, count: int = 2, name: str = "strata-staging") -> None:
        if not 1 <= count <= 64:
            raise InvalidArgumentError(f"arena count is {count}: choose from 1 to 64")
        self._name = name
        self._condition = threading.Condition()
        self._free: list[Arena | None] = [None] * count
        self._made = 0

    def acquire(self, nbytes: int, timeout_s: float) -> Arena:
        """Return an arena of at least `nbytes`, waiting while all are lent; DeadlineExceededError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while not self._free:
                if not self._condition.wait(deadline - time.monotonic()) and not self._free:
                    raise DeadlineExceededError(
                        f"no staging memory was given back within {timeout_s:.0f} s: earlier saves are still being "
                        "written; save less often, or look at the speed of the storage",
                        missing=("storage",),
                    )
            # The largest first, so that small arenas are the ones that grow.
            self._free.sort(key=lambda arena: arena.segment.size if arena else 0)
            arena = self._free.pop()
        if arena is not None and arena.segment.size >= nbytes:
            return arena
        try:
            if arena is not None:
                arena.segment.close()
            # An eighth more: a state that grows a little each time does not cost a new arena each time.
            segment = MemfdSegment.create(self._name, max(nbytes + nbytes // 8, 1))
        except BaseException:
            self._give_back(None)
            raise
        with self._condition:
            self._made += 1
            return Arena(self._made, segment)

    def release(self, arena: Arena) -> None:
        """Give an arena back; its content may be overwritten from now on."""
        self._give_back(arena)

    def close(self) -> None:
        """Free the arenas that are not lent."""
        with self._condition:
            for position, arena in enumerate(self._free):
                if arena is not None:
                    arena.segment.close()
                self._free[position] = None

    def _give_back(self, arena: Arena | None) -> None:
        with self._condition:
            self._free.append(arena)
            self._condition.notify()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rank's state, copied: skeleton, what each array is, and its chunks as slices of the arena."""

    skeleton: Any
    leaves: tuple[Leaf, ...]
    layout: Layout
    arena: Arena

    @property
    def nbytes(self) -> int:
        """Bytes in all chunks."""
        return sum(piece.nbytes for piece in self.layout.slices)

    def chunk(self, number: int) -> memoryview:
        """Return the bytes of one chunk, without a copy."""
        piece = self.layout.slices[number]
        return self.arena.segment.view[piece.offset : piece.offset + piece.nbytes]

    def index(self, rank: int, chunks: Sequence[ChunkRecord]) -> RankIndex:
        """Return the rank index, given where the chunks were stored."""
        tensors = tuple(
            TensorRecord(leaf.path, leaf.dtype, leaf.shape, leaf.tag, spans)
            for leaf, spans in zip(self.leaves, self.layout.spans, strict=True)
        )
        return RankIndex(rank, self.skeleton, tensors, tuple(chunks))


def take_snapshot(
    data: object, pool: ArenaPool, *, chunk_bytes: int = CHUNK_BYTES, timeout_s: float = 300.0
) -> Snapshot:
    """Copy `data` into an arena of `pool`; on return the caller may change its arrays.

    Waits up to `timeout_s` for a free arena. The snapshot's arena goes back to the pool when its user is done with it.
    Raises InvalidArgumentError, before anything is copied, for what cannot be restored as it is.
    """
    skeleton, leaves = flatten(data)
    layout = plan([leaf.nbytes for leaf in leaves], chunk_bytes)
    arena = pool.acquire(layout.total_bytes, timeout_s)
    try:
        _copy(leaves, layout, arena.segment)
    except BaseException:
        pool.release(arena)
        raise
    # What is kept describes the arrays; holding on to them would keep the caller's memory alive.
    described = tuple(Leaf(leaf.path, leaf.dtype, leaf.shape, leaf.tag, _spent) for leaf in leaves)
    return Snapshot(skeleton, described, layout, arena)


def _copy(leaves: Sequence[Leaf], layout: Layout, segment: MemfdSegment) -> None:
    end = 0
    whole = segment.array(np.uint8, (segment.size,))
    for leaf, offset in zip(leaves, layout.offsets, strict=True):
        # Gaps are zeroed: a reused arena holds old bytes there, and equal states shall give equal chunks.
        whole[end:offset] = 0
        end = offset + leaf.nbytes
        if not leaf.nbytes:
            continue
        source = leaf.read()
        if source.shape != leaf.shape or source.dtype.str != leaf.dtype:
            raise InvalidArgumentError(f"{leaf.path} changed its shape or dtype while it was saved: save between steps")
        np.copyto(segment.array(leaf.dtype, leaf.shape, offset), source, casting="no")


def _spent() -> Any:
    raise AssertionError("a snapshot's arrays were read when it was taken")
