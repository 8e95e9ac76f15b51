"""Which chunks of the checkpoint before may hold the bytes of the next one; places only, no bytes and no storage.

A chunk may be referred to where the same pieces of the same arrays lie in the same places: whether their bytes are
equal is decided by digest, by whoever stores them. What is referred to for long is written anew, so that a checkpoint's
folder outlives it by a bounded number of saves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from strata_zmq.checkpoint.arrays import Leaf
    from strata_zmq.checkpoint.chunks import Layout
    from strata_zmq.domain.manifest import ChunkRecord, RankIndex, Span, TensorRecord

__all__ = ["AGE_MAX", "Parent", "candidates", "folder_of", "refs_of"]

AGE_MAX = 8
"""Saves in a row that may refer to a chunk."""

Composition = tuple[tuple[str, str, tuple[int, ...], int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Parent:
    """A committed save of one rank: its index, and for each chunk how many saves have referred to it so far."""

    checkpoint_id: str
    index: RankIndex
    ages: tuple[int, ...]

    @classmethod
    def of(
        cls, checkpoint_id: str, index: RankIndex, referred: Collection[int] = (), before: Parent | None = None
    ) -> Parent:
        """Return what a save leaves to the next one; `referred` are the numbers of the chunks that lie in `before`."""
        known = {} if before is None else dict(zip(before.index.chunks, before.ages, strict=True))
        ages = (known.get(chunk, 0) + 1 if i in referred else 0 for i, chunk in enumerate(index.chunks))
        return cls(checkpoint_id, index, tuple(ages))

    def without(self, numbers: Collection[int]) -> Parent:
        """Return it with these chunks never to be referred to again."""
        return replace(self, ages=tuple(AGE_MAX if i in numbers else age for i, age in enumerate(self.ages)))


def candidates(
    layout: Layout, leaves: Sequence[Leaf], parent: Parent | None, *, age_max: int = AGE_MAX
) -> list[ChunkRecord | None]:
    """Return for each chunk of `layout` the one of the parent that may be equal, or None."""
    if parent is None:
        return [None] * len(layout.slices)
    index = parent.index
    spans = [tensor.spans for tensor in index.tensors]
    before = {
        what: chunk
        for what, chunk, age in zip(
            _compositions(index.tensors, spans, len(index.chunks)), index.chunks, parent.ages, strict=True
        )
        if age < age_max and what
    }
    return [before.get(what) for what in _compositions(leaves, layout.spans, len(layout.slices))]


def folder_of(key: str) -> str:
    """Return the id of the checkpoint in whose folder a chunk's object lies: .../ID/rank-R/NAME."""
    return key.split("/")[-3]


def refs_of(checkpoint_id: str, chunks: Sequence[ChunkRecord]) -> tuple[str, ...]:
    """Return the other checkpoints in whose folders chunks of this one lie, in ascending order."""
    return tuple(sorted({folder_of(chunk.key) for chunk in chunks} - {checkpoint_id}))


def _compositions(
    arrays: Sequence[Leaf | TensorRecord], spans: Sequence[Sequence[Span]], count: int
) -> list[Composition]:
    """Return what lies in each chunk: path, dtype and shape of an array, and which bytes of it lie where."""
    found: list[list[tuple[str, str, tuple[int, ...], int, int, int]]] = [[] for _ in range(count)]
    for array, own in zip(arrays, spans, strict=True):
        done = 0
        for span in own:
            found[span.chunk].append((array.path, array.dtype, array.shape, done, span.offset, span.nbytes))
            done += span.nbytes
    return [tuple(pieces) for pieces in found]
