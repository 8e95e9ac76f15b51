"""Chunks that come together share an object, equal ones are not written again, and no record lies about its bytes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq.checkpoint.codec import Codec, decompress
from strata_zmq.checkpoint.packs import PackWriter, Piece
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, StaleGenerationError, StorageError
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

PAGE = 4096


def digest(data: bytes | memoryview) -> str:
    return blake3(data).hexdigest()


def pieces_of(data: bytes, size: int = PAGE, name: str = "c", rank: int = 0) -> list[Piece]:
    view = memoryview(data)
    return [Piece(name, rank, i, view[i * size : (i + 1) * size]) for i in range(-(-len(data) // size))]


def noise(nbytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(nbytes)


class Slow(LocalStorage):
    """A folder whose writes wait at a gate, and may fail behind it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.begun: list[str] = []
        self.fails = False

    async def put(self, key: str, data: Any) -> None:
        self.begun.append(key)
        await asyncio.to_thread(self.gate.wait, 30)
        if self.fails:
            raise StorageError("the disk is full")
        await super().put(key, data)


async def stored(store: CheckpointStore, record: ChunkRecord) -> bytes:
    raw = await store.storage.get(record.key, record.offset, record.offset + record.stored_bytes)
    return decompress(record.codec, raw, record.nbytes, record.key)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on other threads
            await asyncio.sleep(0.002)


def run(
    scenario: Callable[[CheckpointStore, PackWriter], Awaitable[None]], storage: LocalStorage, **options: Any
) -> None:
    async def whole() -> None:
        store = CheckpointStore(storage)
        writer = PackWriter(store, **options)
        try:
            await scenario(store, writer)
        finally:
            await writer.close()

    asyncio.run(whole())


def test_chunks_that_come_together_are_one_object_and_each_is_found_in_it(tmp_path: Path) -> None:
    data = noise(20 * PAGE + 100)

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        found = await asyncio.gather(*(writer.write(piece) for piece in pieces_of(data)))
        assert len({record.key for record, _ in found}) == 1
        assert not any(referred for _, referred in found)
        assert b"".join([await stored(store, record) for record, _ in found]) == data
        assert [record.digest for record, _ in found] == [digest(piece.data) for piece in pieces_of(data)]

    run(scenario, LocalStorage(tmp_path))


def test_while_the_storage_is_busy_chunks_gather_and_a_pack_is_as_large_as_it_likes(tmp_path: Path) -> None:
    storage = Slow(tmp_path)
    best, at_once = storage.traits.object_bytes_best, storage.traits.puts_at_once
    size = best // 2
    data = bytes(size)

    async def scenario(_: CheckpointStore, writer: PackWriter) -> None:
        first = [asyncio.create_task(writer.write(Piece("c", 0, i, memoryview(data)))) for i in range(1)]
        await until(lambda: len(storage.begun) == 1)
        rest = [asyncio.create_task(writer.write(Piece("c", 0, i, memoryview(data)))) for i in range(1, 6)]
        await until(lambda: len(storage.begun) == at_once)
        storage.gate.set()
        found = await asyncio.gather(*first, *rest)
        sizes = sorted(sum(r.nbytes for r, _ in found if r.key == key) for key in {r.key for r, _ in found})
        assert max(sizes) == best
        assert len(sizes) <= 4

    run(scenario, storage)


def test_ranks_and_checkpoints_never_share_an_object(tmp_path: Path) -> None:
    async def scenario(_: CheckpointStore, writer: PackWriter) -> None:
        pieces = [
            piece for name in "ab" for rank in (0, 1) for piece in pieces_of(noise(PAGE * 3), name=name, rank=rank)
        ]
        found = await asyncio.gather(*(writer.write(piece) for piece in pieces))
        for piece, (record, _) in zip(pieces, found, strict=True):
            assert f"ckpt/{piece.checkpoint_id}/rank-{piece.rank:05d}/" in record.key

    run(scenario, LocalStorage(tmp_path))


def test_a_chunk_that_is_stored_already_is_referred_to_and_not_written(tmp_path: Path) -> None:
    data = noise(4 * PAGE)

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        before = [record for record, _ in await asyncio.gather(*(writer.write(piece) for piece in pieces_of(data)))]
        changed = data[:PAGE] + noise(PAGE, 1) + data[2 * PAGE :]
        pieces = pieces_of(changed, name="d")
        for piece, candidate in zip(pieces, before, strict=True):
            piece.candidate = candidate
        found = await asyncio.gather(*(writer.write(piece) for piece in pieces))
        assert [referred for _, referred in found] == [True, False, True, True]
        assert [record for record, referred in found if referred] == [before[0], before[2], before[3]]
        assert b"".join([await stored(store, record) for record, _ in found]) == changed
        (written,) = await store.storage.list("ckpt/d/")
        assert len(await store.storage.get(written)) == PAGE

    run(scenario, LocalStorage(tmp_path))


def test_a_candidate_of_another_length_is_no_candidate(tmp_path: Path) -> None:
    async def scenario(_: CheckpointStore, writer: PackWriter) -> None:
        data = noise(PAGE)
        lying = ChunkRecord("ckpt/b/x", digest(data), PAGE - 1)
        record, referred = await writer.write(Piece("c", 0, 0, memoryview(data), candidate=lying))
        assert (record.nbytes, referred) == (PAGE, False)

    run(scenario, LocalStorage(tmp_path))


def test_a_chunk_that_is_not_what_was_announced_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        with pytest.raises(CheckpointCorruptError, match="chunk 0 of rank 0 of c has the digest"):
            await writer.write(Piece("c", 0, 0, memoryview(b"damaged"), digest=digest(b"intact")))
        record, _ = await writer.write(Piece("c", 0, 1, memoryview(b"intact"), digest=digest(b"intact")))
        assert await stored(store, record) == b"intact"
        assert await store.storage.list("ckpt/") == [record.key]

    run(scenario, LocalStorage(tmp_path))


def test_memory_that_is_taken_back_while_it_is_written_gives_no_record(tmp_path: Path) -> None:
    storage = Slow(tmp_path)
    epochs = {"stale": 1, "good": 1}

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        async def write(name: str, number: int) -> ChunkRecord:
            data = memoryview(noise(PAGE, number))
            return (await writer.write(Piece(name, 0, number, data, still_valid=lambda: epochs[name] == 1)))[0]

        both = [asyncio.create_task(write("stale", 0)), asyncio.create_task(write("good", 1))]
        await until(lambda: len(storage.begun) == 2)
        epochs["stale"] = 2
        storage.gate.set()
        with pytest.raises(StaleGenerationError, match="chunk 0 of rank 0 of stale was taken back"):
            await both[0]
        assert await stored(store, await both[1]) == noise(PAGE, 1)
        with pytest.raises(StaleGenerationError):
            await write("stale", 2)
        assert len(storage.begun) == 2, "what is taken back before it is written is not written"

    run(scenario, storage)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["overwrite", "give", "wait"])), max_size=40),
    st.integers(1, 3),
)
def test_whatever_an_owner_does_to_its_memory_a_record_is_of_the_bytes_that_are_stored(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[int, str]], threads: int
) -> None:
    """The owner raises its epoch before it overwrites, and does so at any moment."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    arena = np.zeros(12 * PAGE, np.uint8)
    epoch = [0] * 12

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        tasks = []
        for turn, (slot, act) in enumerate(acts):
            place = arena[slot * PAGE : (slot + 1) * PAGE]
            if act == "overwrite":
                epoch[slot] += 1
                place[:] = turn + 1
            elif act == "give":
                valid = lambda slot=slot, at=epoch[slot]: epoch[slot] == at  # noqa: E731 - one line says it
                tasks.append(asyncio.create_task(writer.write(Piece("c", 0, turn, place.data, still_valid=valid))))
            else:
                await asyncio.sleep(0.001)
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(found, BaseException):
                assert isinstance(found, StaleGenerationError)
            else:
                assert digest(await stored(store, found[0])) == found[0].digest

    run(scenario, LocalStorage(tmp_path), threads=threads)


def test_two_writers_of_equal_chunks_write_objects_of_their_own(tmp_path: Path) -> None:
    """One of them may be paused over a change of its memory: what it then writes damages nothing of the other's."""
    data = noise(3 * PAGE)

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        other = PackWriter(store)
        mine = await asyncio.gather(*(writer.write(piece) for piece in pieces_of(data)))
        theirs = await asyncio.gather(*(other.write(piece) for piece in pieces_of(data)))
        await other.close()
        assert not {record.key for record, _ in mine} & {record.key for record, _ in theirs}

    run(scenario, LocalStorage(tmp_path))


def test_what_the_storage_says_reaches_each_chunk_of_the_pack_and_the_next_pack_is_tried(tmp_path: Path) -> None:
    storage = Slow(tmp_path)
    storage.gate.set()

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        storage.fails = True
        found = await asyncio.gather(*(writer.write(p) for p in pieces_of(noise(3 * PAGE))), return_exceptions=True)
        assert [str(error) for error in found] == ["the disk is full"] * 3
        storage.fails = False
        record, _ = await writer.write(Piece("c", 0, 9, memoryview(b"good")))
        assert await stored(store, record) == b"good"

    run(scenario, storage)


def test_a_chunk_that_nobody_waits_for_any_more_is_not_written(tmp_path: Path) -> None:
    storage = Slow(tmp_path)

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        ahead = [
            asyncio.create_task(writer.write(Piece("c", rank, 0, memoryview(b"ahead"))))
            for rank in range(storage.traits.puts_at_once)
        ]
        await until(lambda: len(storage.begun) == len(ahead))
        waiting = [asyncio.create_task(writer.write(Piece("d", 0, i, memoryview(b"%d" % i)))) for i in range(2)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        await asyncio.sleep(0)
        storage.gate.set()
        record, _ = await waiting[1]
        assert await store.storage.get(record.key) == b"1"
        await asyncio.gather(*ahead)

    run(scenario, storage)


def test_closing_waits_for_what_was_begun(tmp_path: Path) -> None:
    storage = Slow(tmp_path)

    async def scenario() -> None:
        writer = PackWriter(CheckpointStore(storage))
        begun = [asyncio.create_task(writer.write(piece)) for piece in pieces_of(noise(3 * PAGE))]
        await until(lambda: storage.begun)
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        storage.gate.set()
        await closing
        assert all(task.done() for task in begun)

    asyncio.run(scenario())


def test_chunks_that_shrink_are_stored_compressed_and_others_as_they_are(tmp_path: Path) -> None:
    data = bytes(2 * PAGE) + noise(2 * PAGE)

    async def scenario(store: CheckpointStore, writer: PackWriter) -> None:
        found = [record for record, _ in await asyncio.gather(*(writer.write(p) for p in pieces_of(data)))]
        assert [record.codec for record in found] == ["zstd", "zstd", "", ""]
        assert [record.nbytes for record in found] == [PAGE] * 4
        assert found[0].stored_bytes < PAGE / 10
        assert b"".join([await stored(store, record) for record in found]) == data

    run(scenario, LocalStorage(tmp_path), codec=Codec.for_name("zstd"))


@pytest.mark.parametrize(("link_bytes_per_s", "on"), [(1e6, True), (1e12, False)])
def test_auto_compresses_where_the_storage_is_slower_than_the_compressor(link_bytes_per_s: float, on: bool) -> None:
    codec = Codec.for_name("auto")
    assert codec is not None
    assert codec.encode(memoryview(bytes(1 << 20))) is None, "while it is measured, nothing is compressed"
    for _ in range(4):
        assert codec.decided is None
        codec.note_stored(1 << 20, (1 << 20) / link_bytes_per_s)
    assert codec.decided is on
    assert (codec.encode(memoryview(bytes(1 << 20))) is not None) is on


def test_no_compression_and_an_unknown_one_are_told_apart() -> None:
    assert Codec.for_name(None) is None
    with pytest.raises(InvalidArgumentError, match="compression is 'lz4': choose None, 'zstd' or 'auto'"):
        Codec.for_name("lz4")  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [lambda raw: raw[:-3], lambda raw: b"\0" + raw[1:], lambda raw: raw + b"more"])
def test_compressed_bytes_that_are_damaged_are_told(damage: Callable[[bytes], bytes]) -> None:
    codec = Codec.for_name("zstd")
    assert codec is not None
    raw = codec.encode(memoryview(bytes(PAGE)))
    assert raw is not None
    with pytest.raises(CheckpointCorruptError, match="the chunk"):
        decompress("zstd", damage(raw), PAGE, "the chunk")
    with pytest.raises(CheckpointCorruptError, match="the chunk"):
        decompress("zstd", raw, PAGE - 1, "the chunk")
