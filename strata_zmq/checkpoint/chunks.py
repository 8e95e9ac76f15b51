"""How a rank's arrays lie in staged memory and where the cuts between chunks fall; sizes only, no bytes, no storage.

A large array begins a chunk of its own and is cut every `chunk_bytes`; small ones share chunks, in order. So a chunk is
always one contiguous range of the staged memory, and can be sent or written without gathering. It begins a page, so
that it can be written to a disk without a copy; the arrays inside it begin a cache line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strata_zmq.domain.manifest import Span
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ALIGNMENT",
    "CHUNK_ALIGNMENT",
    "CHUNK_BYTES",
    "CHUNK_BYTES_MAX",
    "CHUNK_BYTES_MIN",
    "Layout",
    "Slice",
    "plan",
]

ALIGNMENT = 64
"""Every array begins at a multiple of this: a cache line, and enough for any dtype."""

CHUNK_ALIGNMENT = 4096
"""Every chunk begins at a multiple of this: a page, and what direct input and output of a disk want."""

CHUNK_BYTES = 8 * 1024 * 1024
CHUNK_BYTES_MIN = 4 * 1024
CHUNK_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes [offset, offset + nbytes) of the staged memory: one chunk."""

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each array goes (`offsets`), where the cuts fall (`slices`), and which spans hold each array.

    All in bytes of the staged memory, of which [begin, total_bytes) is used; `offsets` and `spans` run parallel to the
    sizes given to `plan`.
    """

    begin: int
    total_bytes: int
    offsets: tuple[int, ...]
    slices: tuple[Slice, ...]
    spans: tuple[tuple[Span, ...], ...]


def plan(sizes: Sequence[int], chunk_bytes: int = CHUNK_BYTES, *, begin: int = 0) -> Layout:
    """Lay arrays of the given sizes out from `begin` on; an empty array has an offset and no span."""
    if not CHUNK_BYTES_MIN <= chunk_bytes <= CHUNK_BYTES_MAX:
        raise InvalidArgumentError(
            f"chunk_bytes is {chunk_bytes}: choose from {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX} ({CHUNK_BYTES} is usual)"
        )
    position = begin = _rounded(begin, CHUNK_ALIGNMENT)
    offsets: list[int] = []
    slices: list[Slice] = []
    spans: list[tuple[Span, ...]] = []
    shared: int | None = None  # number of the chunk that small arrays are being added to
    for size in sizes:
        if size > chunk_bytes:
            position = _rounded(position, CHUNK_ALIGNMENT)
            shared = None
            first = len(slices)
            slices += [Slice(position + done, min(chunk_bytes, size - done)) for done in range(0, size, chunk_bytes)]
            spans.append(tuple(Span(i, 0, slices[i].nbytes) for i in range(first, len(slices))))
        elif size:
            if shared is None or position + size - slices[shared].offset > chunk_bytes:
                position = _rounded(position, CHUNK_ALIGNMENT)
                shared = len(slices)
                slices.append(Slice(position, size))
            else:
                start = slices[shared].offset
                slices[shared] = Slice(start, position + size - start)
            spans.append((Span(shared, position - slices[shared].offset, size),))
        else:
            spans.append(())
        offsets.append(position)
        position = _rounded(position + size, ALIGNMENT)
    return Layout(begin, position, tuple(offsets), tuple(slices), tuple(spans))


def _rounded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
