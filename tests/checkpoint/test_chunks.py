"""However large the arrays are, chunks cover each byte of each of them once, in contiguous slices of bounded size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.checkpoint.chunks import ALIGNMENT, CHUNK_BYTES_MIN, plan
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


@given(sizes)
def test_chunks_are_bounded_apart_and_arrays_aligned(sizes: list[int]) -> None:
    layout = plan(sizes, CHUNK_BYTES_MIN)
    assert all(0 < piece.nbytes <= CHUNK_BYTES_MIN for piece in layout.slices)
    assert all(offset % ALIGNMENT == 0 for offset in layout.offsets)
    for before, after in zip(layout.slices, layout.slices[1:], strict=False):
        assert before.offset + before.nbytes <= after.offset
    assert sum(sizes) <= layout.total_bytes <= sum(sizes) + ALIGNMENT * len(sizes)


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
