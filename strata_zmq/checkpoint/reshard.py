"""Parts of arrays as boxes: which stored part holds what of a wanted one, and how its bytes get there.

Pure geometry on shapes, offsets and memory; it knows no storage and no ranks. All boxes are in elements of the whole
array, all bytes in the C order of the stored part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.reading import Flat, Target
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Box", "Part", "bytes_of", "cover", "overlap", "part_of", "split", "target_of"]


@dataclass(frozen=True, slots=True)
class Box:
    """Elements [offsets, offsets + shape) of an array, axis by axis."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def slices(self, origin: Sequence[int] | None = None) -> tuple[slice, ...]:
        """Return where it lies in an array whose first element is at `origin` (by default that of the whole)."""
        begins = self.offsets if origin is None else [a - b for a, b in zip(self.offsets, origin, strict=True)]
        return tuple(slice(begin, begin + length) for begin, length in zip(begins, self.shape, strict=True))


def overlap(one: Box, other: Box) -> Box | None:
    """Return what two boxes have in common; None where that is nothing."""
    begins = tuple(map(max, one.offsets, other.offsets))
    ends = (min(a + n, b + m) for a, n, b, m in zip(one.offsets, one.shape, other.offsets, other.shape, strict=True))
    shape = tuple(end - begin for begin, end in zip(begins, ends, strict=True))
    return Box(begins, shape) if all(length > 0 for length in shape) else None


def cover(want: Box, have: Sequence[Box]) -> list[int]:
    """Return the numbers of those of `have` that make up `want`, each element once.

    Equal boxes are copies: the first stands for all. Raises InvalidArgumentError where elements are in no box, or in
    two boxes that are not equal; its message goes on a sentence that names the array.
    """
    first: dict[Box, int] = {}
    for number, box in enumerate(have):
        if overlap(want, box) is not None:
            first.setdefault(box, number)
    # From the front, each is compared with those that begin before its end only.
    found = sorted(first.items(), key=lambda item: (item[0].offsets, item[1]))
    held = 0
    for place, (box, _) in enumerate(found):
        part = overlap(want, box)
        held += part.size if part else 0
        for other, _ in found[place + 1 :]:
            if other.offsets and other.offsets[0] >= box.offsets[0] + box.shape[0]:
                break
            if overlap(box, other) is not None:
                raise InvalidArgumentError(
                    f"was saved in parts that overlap: {box.shape} at {box.offsets}, {other.shape} at {other.offsets}"
                )
    if held != want.size:
        raise InvalidArgumentError(
            f"was not saved whole: of {want.shape} at {want.offsets} there are {held} of {want.size} elements"
        )
    return [number for _, number in found]


def split(whole: Sequence[int], have: Sequence[Box], rank: int, world: int) -> Box:
    """Return the part of `rank` out of `world` ranks, where `have` are the parts that were saved.

    The axis along which they were cut is cut again: of n rows rank r gets those from n*r//world up to n*(r+1)//world.
    One rank gets all. Raises InvalidArgumentError where they were cut along several axes.
    """
    zeros = (0,) * len(whole)
    axes = [axis for axis, length in enumerate(whole) if any(box.shape[axis] != length for box in have)]
    if world == 1 or not whole:
        return Box(zeros, tuple(whole))
    if len(axes) > 1:
        raise InvalidArgumentError(
            f"was cut along the axes {', '.join(map(str, axes))}, and how {world} ranks share it cannot be guessed"
        )
    axis = axes[0] if axes else 0
    begin, end = (whole[axis] * edge // world for edge in (rank, rank + 1))
    offsets = tuple(begin if one == axis else 0 for one in range(len(whole)))
    return Box(offsets, tuple(end - begin if one == axis else length for one, length in enumerate(whole)))


def bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an array's memory as bytes, with one more axis: those of an element. Any strides; no copy."""
    size = array.dtype.itemsize
    column = np.lib.stride_tricks.as_strided(
        array[..., np.newaxis], (*array.shape, 1), (*array.strides, size), writeable=array.flags.writeable
    )
    return column.view(np.uint8)


def target_of(array: NDArray[Any], want: Box, have: Box) -> Target | None:
    """Return the target that brings stored `have` into `array`, which is `want`; None where they share nothing."""
    both = overlap(have, want)
    if both is None or not array.dtype.itemsize:
        return None
    size = array.dtype.itemsize
    if array.flags.c_contiguous and _runs_on(both, have) and _runs_on(both, want):
        flat = bytes_of(array).reshape(-1)
        begin = _position(both.offsets, want) * size
        return Flat(flat[begin : begin + both.size * size], _position(both.offsets, have) * size)
    return part_of(array, want, have)


def part_of(array: NDArray[Any], want: Box, have: Box) -> Part | None:
    """Return `target_of` as a Part, however the bytes lie."""
    both = overlap(have, want)
    size = array.dtype.itemsize
    if both is None or not size:
        return None
    begins = tuple(a - b for a, b in zip(both.offsets, have.offsets, strict=True))
    # Chunks end within elements, so the bytes of an element count as an axis.
    return Part(bytes_of(array)[both.slices(want.offsets)], (*have.shape, size), Box((*begins, 0), (*both.shape, size)))


@dataclass(frozen=True, slots=True)
class Part:
    """A target for a box of a stored array of `shape`, which goes into `memory`; all with an axis of single bytes."""

    memory: NDArray[np.uint8]
    shape: tuple[int, ...]
    box: Box

    def touches(self, begin: int, nbytes: int) -> bool:
        """Say whether any of these bytes is wanted."""
        return any(overlap(self.box, piece) is not None for piece in _pieces(self.shape, begin, begin + nbytes))

    def within(self, begin: int, nbytes: int) -> None:
        """Say that these bytes have to be placed one run after the other."""

    def place(self, begin: int, data: NDArray[np.uint8]) -> None:
        """Take what is wanted of `data`."""
        for memory, block in self._blocks(begin, data):
            memory[...] = block

    def holds(self, begin: int, data: NDArray[np.uint8]) -> bool:
        """Say whether what is wanted of `data` is in the memory already."""
        return all(np.array_equal(memory, block) for memory, block in self._blocks(begin, data))

    def _blocks(self, begin: int, data: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        done = 0
        for piece in _pieces(self.shape, begin, begin + len(data)):
            both = overlap(self.box, piece)
            if both is not None:
                block = data[done : done + piece.size].reshape(piece.shape)
                yield self.memory[both.slices(self.box.offsets)], block[both.slices(piece.offsets)]
            done += piece.size


def _pieces(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Box]:
    """Cut positions [start, stop) of an array in C order into boxes, in order; at most two for each axis."""
    if start >= stop:
        return
    if len(shape) == 1:
        yield Box((start,), (stop - start,))
        return
    inner = math.prod(shape[1:])
    first, begin = divmod(start, inner)
    last, end = divmod(stop, inner)
    if first == last:
        yield from _at(first, _pieces(shape[1:], begin, end))
        return
    if begin:
        yield from _at(first, _pieces(shape[1:], begin, inner))
        first += 1
    if first < last:
        yield Box((first, *(0 for _ in shape[1:])), (last - first, *shape[1:]))
    if end:
        yield from _at(last, _pieces(shape[1:], 0, end))


def _at(row: int, pieces: Iterator[Box]) -> Iterator[Box]:
    return (Box((row, *piece.offsets), (1, *piece.shape)) for piece in pieces)


def _runs_on(part: Box, whole: Box) -> bool:
    """Say whether the elements of `part` follow each other in the C order of `whole`."""
    partial = False
    for length, limit in zip(reversed(part.shape), reversed(whole.shape), strict=True):
        if partial and length != 1:
            return False
        partial = partial or length != limit
    return True


def _position(offsets: Sequence[int], box: Box) -> int:
    place = 0
    for offset, begin, length in zip(offsets, box.offsets, box.shape, strict=True):
        place = place * length + offset - begin
    return place
