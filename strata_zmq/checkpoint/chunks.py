"""How a rank's arrays lie in staged memory and where the cuts between chunks fall; sizes only, no bytes, no storage.

A large array begins a chunk of its own and is cut every `chunk_bytes`; small ones share chunks, in order. So a chunk is
always one contiguous range of the staged memory, and can be sent or written without gathering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strata_zmq.domain.manifest import Span
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALIGNMENT", "CHUNK_BYTES", "CHUNK_BYTES_MAX", "CHUNK_BYTES_MIN", "Layout", "Slice", "plan"]

ALIGNMENT = 64
"""Every array begins at a multiple of this: a cache line, and enough for any dtype."""

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

    All in bytes; `offsets` and `spans` run parallel to the sizes given to `plan`.
    """

    total_bytes: int
    offsets: tuple[int, ...]
    slices: tuple[Slice, ...]
    spans: tuple[tuple[Span, ...], ...]


def plan(sizes: Sequence[int], chunk_bytes: int = CHUNK_BYTES) -> Layout:
    """Lay arrays of the given sizes out; an empty array has an offset and no span."""
    if not CHUNK_BYTES_MIN <= chunk_bytes <= CHUNK_BYTES_MAX:
        raise InvalidArgumentError(
            f"chunk_bytes is {chunk_bytes}: choose from {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX} ({CHUNK_BYTES} is usual)"
        )
    position = 0
    offsets: list[int] = []
    slices: list[Slice] = []
    spans: list[tuple[Span, ...]] = []
    shared: int | None = None  # number of the chunk that small arrays are being added to
    for size in sizes:
        offsets.append(position)
        if size > chunk_bytes:
            shared = None
            first = len(slices)
            slices += [Slice(position + done, min(chunk_bytes, size - done)) for done in range(0, size, chunk_bytes)]
            spans.append(tuple(Span(i, 0, slices[i].nbytes) for i in range(first, len(slices))))
        elif size:
            if shared is None or position + size - slices[shared].offset > chunk_bytes:
                shared = len(slices)
                slices.append(Slice(position, size))
            else:
                start = slices[shared].offset
                slices[shared] = Slice(start, position + size - start)
            spans.append((Span(shared, position - slices[shared].offset, size),))
        else:
            spans.append(())
        position = -(-(position + size) // ALIGNMENT) * ALIGNMENT
    return Layout(position, tuple(offsets), tuple(slices), tuple(spans))
