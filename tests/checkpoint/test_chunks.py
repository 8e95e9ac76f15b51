"""However large the arrays are, chunks cover each byte of each of them once, in contiguous slices of bounded size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.checkpoint.chunks import ALIGNMENT, CHUNK_ALIGNMENT, CHUNK_BYTES_MIN, plan
from strata_zmq.errors import InvalidArgumentError

sizes = st.lists(st.integers(0, 100) | st.integers(0, 5 * CHUNK_BYTES_MIN), max_size=30)


@given(sizes)
def test_every_byte_of_every_array_lies_in_exactly_one_chunk(sizes: list[int]) -> None:
    layout = plan(sizes, CHUNK_BYTES_MIN)
    for size, offset, spans in zip(sizes, layout.offsets, layout.spans, strict=True):
        position = offset
        for span in spans:
            piece = layout.slices[span.chunk]
            assert piece.offset + span.offset == position
            assert span.offset + span.nbytes <= piece.nbytes
            position += span.nbytes
        assert position == offset + size


@given(sizes, st.integers(0, 3 * CHUNK_ALIGNMENT))
def test_chunks_are_bounded_and_apart_and_begin_pages_as_arrays_begin_cache_lines(sizes: list[int], begin: int) -> None:
    layout = plan(sizes, CHUNK_BYTES_MIN, begin=begin)
    assert begin <= layout.begin < begin + CHUNK_ALIGNMENT
    assert all(layout.begin <= offset for offset in layout.offsets)
    assert all(0 < piece.nbytes <= CHUNK_BYTES_MIN for piece in layout.slices)
    assert all(offset % ALIGNMENT == 0 for offset in layout.offsets)
    assert all(piece.offset % CHUNK_ALIGNMENT == 0 for piece in layout.slices)
    for before, after in zip(layout.slices, layout.slices[1:], strict=False):
        assert before.offset + before.nbytes <= after.offset
    gaps = ALIGNMENT * len(sizes) + CHUNK_ALIGNMENT * (len(layout.slices) + 1)
    assert sum(sizes) <= layout.total_bytes - layout.begin <= sum(sizes) + gaps


@given(sizes)
def test_small_arrays_share_chunks(sizes: list[int]) -> None:
    """The number of chunks stays near that of the bytes, not of the arrays."""
    layout = plan(sizes, CHUNK_BYTES_MIN)
    large = sum(-(-size // CHUNK_BYTES_MIN) + 1 for size in sizes if size > CHUNK_BYTES_MIN)
    assert len(layout.slices) <= 1 + large + 2 * sum(size + ALIGNMENT for size in sizes) // CHUNK_BYTES_MIN


@pytest.mark.parametrize("chunk_bytes", [0, -1, CHUNK_BYTES_MIN - 1, 2**40])
def test_a_chunk_size_outside_the_limits_is_refused(chunk_bytes: int) -> None:
    with pytest.raises(InvalidArgumentError, match="chunk_bytes"):
        plan([1], chunk_bytes)
