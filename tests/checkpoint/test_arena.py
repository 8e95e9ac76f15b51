"""Staging memory is made and touched before it is needed, says which save it holds, and is copied into byte by byte."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq.checkpoint import copying
from strata_zmq.checkpoint.arena import HEADER_BYTES, STAGED, Arena, ArenaPool, read_epoch, read_header
from strata_zmq.checkpoint.snapshot import describe, take_snapshot
from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.domain.manifest_format import encode_rank_index
from strata_zmq.errors import DeadlineExceededError, InvalidArgumentError, ProtocolError, ResourceExhaustedError
from strata_zmq.feed.segment import MemfdSegment

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.fixture
def pool() -> Iterator[ArenaPool]:
    made = ArenaPool(2)
    yield made
    made.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_reserving_touches_every_page_of_every_arena_before_the_first_save(pool: ArenaPool) -> None:
    before = resident_bytes()
    pool.reserve(16 * MIB).result(60)
    assert resident_bytes() - before >= 2 * 16 * MIB
    numbers = set()
    for _ in range(2):
        arena = pool.acquire(16 * MIB + HEADER_BYTES, 1)
        numbers.add(arena.number)
    assert numbers == {1, 2}, "none was made anew"


def test_what_is_reserved_already_is_not_made_again_and_a_shortage_is_told(pool: ArenaPool) -> None:
    pool.reserve(MIB).result(60)
    pool.reserve(MIB).result(60)
    assert {pool.acquire(MIB, 1).number for _ in range(2)} == {1, 2}
    assert isinstance(ArenaPool(1).reserve(1 << 50).exception(60), ResourceExhaustedError)
    with pytest.raises(InvalidArgumentError, match="bytes to reserve are -1"):
        pool.reserve(-1)


def test_each_use_of_an_arena_is_an_epoch_of_its_own(pool: ArenaPool) -> None:
    arena = pool.acquire(MIB, 1)
    other = pool.acquire(MIB, 1)
    first = arena.epoch
    pool.release(arena)
    again = pool.acquire(MIB, 1)
    assert again is arena
    assert (again.epoch, read_epoch(again.segment.view)) == (first + 1, first + 1)
    assert other.epoch == first, "the other one's has not changed"


def test_while_all_are_lent_one_waits_or_is_told_at_once(pool: ArenaPool) -> None:
    lent = [pool.acquire(1, 1), pool.acquire(1, 1)]
    assert pool.try_acquire(1) is None
    with pytest.raises(DeadlineExceededError, match="no staging memory was given back"):
        pool.acquire(1, 0.01)
    threading.Timer(0.05, pool.release, [lent[0]]).start()
    assert pool.acquire(1, 30) is lent[0]
    pool.release(lent[1])
    assert pool.try_acquire(1) is lent[1]


def test_another_process_reads_the_header_and_the_will_through_the_descriptor(pool: ArenaPool) -> None:
    arena = pool.acquire(MIB, 1)
    theirs = MemfdSegment.attach(os.dup(arena.segment.fd), writable=False)
    assert read_header(theirs.view).state == 0
    header = arena.leave_will(2 * HEADER_BYTES, b"finish this")
    found = read_header(theirs.view)
    assert found == header
    assert (found.state, found.epoch) == (STAGED, arena.epoch)
    will = bytes(theirs.view[found.will_offset : found.will_offset + found.will_bytes])
    assert (will, blake3(will).digest()) == (b"finish this", found.will_digest)
    arena.renew()
    found = read_header(theirs.view)
    assert (found.state, found.will_bytes, found.epoch) == (0, 0, header.epoch + 1)
    theirs.close()


def test_a_will_that_does_not_fit_and_memory_without_a_header_are_refused(pool: ArenaPool) -> None:
    arena = pool.acquire(MIB, 1)
    for offset in (0, arena.segment.size - 1):
        with pytest.raises(InvalidArgumentError, match="does not fit"):
            arena.leave_will(offset, b"will")
    with pytest.raises(ProtocolError, match="begins with"):
        read_header(memoryview(bytes(HEADER_BYTES)))
    with pytest.raises(ProtocolError, match="has no header"):
        read_header(memoryview(b"short"))


def staged_bytes(data: Any, pool: ArenaPool, **options: Any) -> tuple[Arena, list[np.ndarray[Any, Any]]]:
    snapshot = take_snapshot(data, pool, chunk_bytes=4096, **options)
    arrays = [
        snapshot.arena.segment.array(leaf.dtype, leaf.shape, offset).copy()
        for leaf, offset in zip(snapshot.leaves, snapshot.layout.offsets, strict=True)
    ]
    return snapshot.arena, arrays


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 700), st.sampled_from(["C", "F", "cut"])), max_size=8),
    st.integers(1, 3),
    st.integers(0, 255),
)
def test_however_many_threads_copy_each_array_is_there_and_each_gap_is_zero(
    shapes: list[tuple[int, int, str]], threads: int, old: int
) -> None:
    arrays = []
    for i, (rows, columns, order) in enumerate(shapes):
        made = np.random.default_rng(i).integers(0, 255, (rows, columns * 2), np.uint8)
        arrays.append({"C": made, "F": np.asfortranarray(made), "cut": made[:, ::2]}[order])
    pool = ArenaPool(1)
    dirty = pool.acquire(64 * 1024, 1)
    dirty.segment.array(np.uint8, (dirty.segment.size - HEADER_BYTES,), HEADER_BYTES)[:] = old
    pool.release(dirty)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(copying, "_THREADS_FROM_BYTES", 0)
        small.setattr(copying, "_PIECE_BYTES", 100)
        small.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
        snapshot = take_snapshot(arrays, pool, chunk_bytes=4096, threads=threads)
    whole = snapshot.arena.segment.array(np.uint8, (snapshot.layout.total_bytes,)).copy()
    for array, leaf, offset in zip(arrays, snapshot.leaves, snapshot.layout.offsets, strict=True):
        found = whole[offset : offset + leaf.nbytes]
        assert found.tobytes() == array.tobytes()
        found[:] = 0
    assert not whole[snapshot.layout.begin :].any(), "an old byte lies between the arrays"
    pool.close()


def test_a_large_state_is_copied_by_two_threads(pool: ArenaPool) -> None:
    seen = set()
    data = {f"w{i}": np.full(5 * MIB, float(i)) for i in range(2)}
    real = np.copyto

    def copyto(*args: Any, **named: Any) -> None:
        seen.add(threading.current_thread().name)
        real(*args, **named)

    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(copying.np, "copyto", copyto)
        watched.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        _, arrays = staged_bytes(data, pool)
    assert [array[0] for array in arrays] == [0.0, 1.0]
    assert {"strata-copy", threading.current_thread().name} == seen


def test_an_error_on_either_thread_is_raised_and_gives_the_arena_back() -> None:
    pool = ArenaPool(1)

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("torn")

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(copying.np, "copyto", fail)
        with pytest.raises(ValueError, match="torn"):
            take_snapshot({"w": np.zeros(9 * MIB)}, pool)
    assert pool.try_acquire(1) is not None
    pool.close()


@given(st.lists(st.integers(0, 9000), max_size=30), st.text(max_size=40))
def test_what_is_reserved_for_a_will_is_enough_for_the_index_of_what_is_staged(sizes: list[int], key: str) -> None:
    data = {f"{key}{i}": np.zeros(size, np.uint8) for i, size in enumerate(sizes)}
    plan = describe(data, 4096)
    pool = ArenaPool(1)
    snapshot = take_snapshot(data, pool, chunk_bytes=4096, with_will=True)
    chunks = [
        ChunkRecord("ckpt/" + "i" * 128 + "/rank-00000/pack-000000-" + "f" * 16, "f" * 64, piece.nbytes, 2**40)
        for piece in snapshot.layout.slices
    ]
    index = encode_rank_index(snapshot.index(0, chunks))
    offset, room = snapshot.room
    assert len(index) <= plan.will_bytes_max <= room
    snapshot.arena.leave_will(offset, index)
    pool.close()
