"""Parts of any sizes go into chunks and any range of them comes out again, bit by bit, with no more read than needed.

Needs no torch: the plans that torch makes are made by hand here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strata_zmq.checkpoint.arrays import Leaf, as_leaf
from strata_zmq.checkpoint.background import BackgroundLoop
from strata_zmq.checkpoint.chunks import CHUNK_BYTES_MIN
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import ChunkRecord, RankIndex
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError
from strata_zmq.integrations.dcp_parts import Part, Wanted, read_ranges, write_parts
from strata_zmq.storage import LocalStorage

Bytes = NDArray[np.uint8]


@contextmanager
def place() -> Iterator[tuple[CheckpointStore, BackgroundLoop]]:
    loop = BackgroundLoop("test")
    try:
        with tempfile.TemporaryDirectory(prefix="parts-") as folder:
            store = CheckpointStore(LocalStorage(folder))
            loop.run(store.storage.prepare())
            yield store, loop
    finally:
        loop.stop()


def part(name: str, content: Bytes, announced: int | None = None) -> Part:
    def leaf() -> Leaf:
        found = as_leaf(name, content)
        assert found is not None
        return found

    return Part(name, content.nbytes if announced is None else announced, leaf)


def written(store: CheckpointStore, loop: BackgroundLoop, arrays: list[Bytes]) -> RankIndex:
    parts = [part(f"p{number}", array) for number, array in enumerate(arrays)]
    return RankIndex(0, None, *write_parts(store, loop, "c", 0, parts, CHUNK_BYTES_MIN))


SIZES = st.lists(st.integers(0, 3 * CHUNK_BYTES_MIN), max_size=6)


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, data=st.data())
def test_any_range_of_any_part_comes_back_and_each_chunk_is_read_at_most_once(
    sizes: list[int], data: st.DataObject
) -> None:
    chance = np.random.default_rng(1)
    arrays = [chance.integers(0, 256, size, np.uint8) for size in sizes]
    with place() as (store, loop):
        index = written(store, loop, arrays)
        found: list[tuple[Bytes, Bytes]] = []
        wanted = []
        for number in data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=8) if sizes else st.just([])):
            begin, end = sorted(data.draw(st.tuples(*[st.integers(0, sizes[number])] * 2)))
            expected = arrays[number][begin:end]
            wanted.append(Wanted(number, begin, end, lambda got, expected=expected: found.append((got, expected))))
        read: list[ChunkRecord] = []

        def fetch(chunk: ChunkRecord) -> Future[bytes]:
            read.append(chunk)
            return loop.submit(store.read_chunk(chunk))

        read_ranges(fetch, index, wanted)
    assert len(found) == len(wanted)
    assert all(np.array_equal(got, expected) for got, expected in found)
    touched = {
        span.chunk
        for one in wanted
        for span, low, high in spans_of(index, one.tensor)
        if max(low, one.begin) < min(high, one.end)
    }
    assert sorted(chunk.key + str(chunk.offset) for chunk in read) == sorted(
        index.chunks[number].key + str(index.chunks[number].offset) for number in touched
    )


def spans_of(index: RankIndex, tensor: int) -> Iterator[tuple[object, int, int]]:
    position = 0
    for span in index.tensors[tensor].spans:
        yield span, position, position + span.nbytes
        position += span.nbytes


def test_a_part_in_any_order_of_memory_is_stored_in_its_c_order() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    with place() as (store, loop):
        index = written(store, loop, [base.T, base[::2, ::-1]])  # type: ignore[list-item]
        found: list[Bytes] = []
        wanted = [Wanted(number, 0, record.nbytes, found.append) for number, record in enumerate(index.tensors)]
        read_ranges(lambda chunk: loop.submit(store.read_chunk(chunk)), index, wanted)
    assert [got.tobytes() for got in found] == [base.T.tobytes(), base[::2, ::-1].tobytes()]
    assert [record.shape for record in index.tensors] == [(6, 4), (2, 6)]


def test_a_part_of_another_size_than_announced_is_refused() -> None:
    with place() as (store, loop):
        with pytest.raises(InvalidArgumentError, match="x was announced with 7 bytes and has 8"):
            write_parts(store, loop, "c", 0, [part("x", np.zeros(8, np.uint8), 7)], CHUNK_BYTES_MIN)


def test_a_damaged_chunk_reaches_nobody() -> None:
    used: list[Bytes] = []
    with place() as (store, loop):
        index = written(store, loop, [np.ones(5000, np.uint8)])
        pack = Path(store.storage.url.removeprefix("file://")) / index.chunks[0].key
        content = bytearray(pack.read_bytes())
        content[index.chunks[0].offset + 10] ^= 1
        pack.write_bytes(content)
        with pytest.raises(CheckpointCorruptError):
            read_ranges(lambda chunk: loop.submit(store.read_chunk(chunk)), index, [Wanted(0, 0, 4000, used.append)])
    assert used == []
