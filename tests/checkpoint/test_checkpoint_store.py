"""HEAD decides what exists: commits are fenced and atomic, retention and collection never touch what HEAD reaches."""

from __future__ import annotations

import asyncio
import mmap
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from storedkit import write_chunk

from strata_zmq.checkpoint.pack_layout import lay_out
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import Manifest, RankEntry, RankIndex
from strata_zmq.domain.retention import Retention
from strata_zmq.errors import (
    AlreadyExistsError,
    CheckpointCorruptError,
    InvalidArgumentError,
    NotFoundError,
    StaleGenerationError,
)
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(LocalStorage(tmp_path), "run-1")


async def prepared(
    store: CheckpointStore, name: str, *, step: int = 1, term: int = 1, generation: int = 1, ranks: int = 1
) -> Manifest:
    entries = []
    for rank in range(ranks):
        chunk = await write_chunk(store, name, rank, f"{name} {rank}".encode())
        key, digest = await store.write_rank_index(name, RankIndex(rank, None, (), (chunk,)))
        entries.append(RankEntry(rank, f"w{rank}", key, digest, chunk.nbytes))
    return Manifest(name, step, 0, term, generation, 100.0, tuple(entries))


async def saved(store: CheckpointStore, name: str, keep: int = 5, **fields: int) -> tuple[str, ...]:
    return (await store.commit(await prepared(store, name, **fields), Retention(keep))).dropped


def names(store: CheckpointStore) -> list[str]:
    return [entry.checkpoint_id for entry in asyncio.run(store.entries())]


def test_a_checkpoint_exists_only_when_head_reaches_it(store: CheckpointStore) -> None:
    manifest = asyncio.run(prepared(store, "a", ranks=2))
    assert names(store) == []
    with pytest.raises(NotFoundError, match="checkpoint 'a' is not among the committed"):
        asyncio.run(store.find("a"))
    asyncio.run(store.commit(manifest, Retention(5)))
    assert names(store) == ["a"]
    entry = asyncio.run(store.find("a"))
    assert asyncio.run(store.read_manifest(entry)) == manifest
    assert [asyncio.run(store.read_rank_index(manifest, rank)).rank for rank in (0, 1)] == [0, 1]
    with pytest.raises(InvalidArgumentError, match="rank is 2: a was saved by ranks 0 to 1"):
        asyncio.run(store.read_rank_index(manifest, 2))


def test_committing_the_same_again_is_harmless(store: CheckpointStore) -> None:
    async def scenario() -> None:
        manifest = await prepared(store, "a")
        first = await store.commit(manifest, Retention(5))
        again = await store.commit(manifest, Retention(5))
        assert first.head == again.head
        other = Manifest("a", 1, 0, 1, 1, 200.0, manifest.ranks)
        with pytest.raises(AlreadyExistsError, match="another content"):
            await store.commit(other, Retention(5))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("term", "generation", "step"), [(4, 9, 99), (5, 1, 99), (5, 2, 6)], ids=["term", "generation", "step"]
)
def test_what_comes_from_the_past_cannot_advance_head(
    store: CheckpointStore, term: int, generation: int, step: int
) -> None:
    async def scenario() -> None:
        await saved(store, "now", term=5, generation=2, step=7)
        before = await store.head()
        with pytest.raises(StaleGenerationError, match=r"comes after \(5, 2, 7\) was committed"):
            await saved(store, "past", term=term, generation=generation, step=step)
        assert await store.head() == before

    asyncio.run(scenario())


def test_a_new_term_may_go_back_in_steps(store: CheckpointStore) -> None:
    async def scenario() -> None:
        await saved(store, "a", term=5, generation=2, step=7)
        await saved(store, "b", term=6, generation=1, step=3)
        assert (await store.head()).fence == (6, 1, 3)

    asyncio.run(scenario())


def test_a_new_term_cannot_take_head_back_to_what_was_opened_before_it(store: CheckpointStore) -> None:
    """Asked again after a restart for what was committed and has been retired, a writer leaves HEAD where it is."""

    async def scenario() -> None:
        await saved(store, "step-25-g9-t5", term=5, generation=9, step=25)
        await saved(store, "step-28-g9-t5", term=5, generation=9, step=28, keep=1)
        with pytest.raises(StaleGenerationError, match=r"comes after \(5, 9, 28\) was committed"):
            await saved(store, "step-25-g9-t5", term=6, generation=9, step=25)
        await saved(store, "step-1-g1-t6", term=6, generation=1, step=1)
        assert (await store.head()).fence == (6, 1, 1), "another journal's history counts generations anew"

    asyncio.run(scenario())


def test_a_process_without_coordinator_does_not_move_the_fence(store: CheckpointStore) -> None:
    async def scenario() -> None:
        await saved(store, "a", term=5, generation=2, step=7)
        manifest = await prepared(store, "b", term=0, generation=0, step=1)
        commit = await store.commit(manifest, Retention(5), fenced=False)
        assert commit.head.fence == (5, 2, 7)
        assert commit.head.latest == commit.entry

    asyncio.run(scenario())


def test_head_keeps_the_last_checkpoints_and_tells_what_it_dropped(store: CheckpointStore) -> None:
    async def scenario() -> list[tuple[str, ...]]:
        return [await saved(store, f"c{step}", keep=2, step=step) for step in range(4)]

    assert asyncio.run(scenario()) == [(), (), ("c0",), ("c1",)]
    assert names(store) == ["c2", "c3"]


@pytest.mark.parametrize("keep", [0, -1, 10_001])
def test_keeping_none_is_refused(store: CheckpointStore, keep: int) -> None:
    with pytest.raises(InvalidArgumentError, match="keep_count"):
        asyncio.run(saved(store, "a", keep=keep))


def test_of_commits_that_race_none_is_lost(store: CheckpointStore) -> None:
    async def scenario() -> None:
        manifests = [await prepared(store, f"c{i}", step=1) for i in range(6)]
        commits = await asyncio.gather(*(store.commit(manifest, Retention(10)) for manifest in manifests))
        assert sorted(entry.checkpoint_id for entry in await store.entries()) == [f"c{i}" for i in range(6)]
        assert sorted(commit.head.version for commit in commits) == [1, 2, 3, 4, 5, 6]

    asyncio.run(scenario())


def test_discarding_never_touches_what_head_reaches(store: CheckpointStore) -> None:
    async def scenario() -> None:
        await saved(store, "a")
        with pytest.raises(InvalidArgumentError, match="a is committed"):
            await store.discard("a")
        await store.read_chunk(
            (await store.read_rank_index(await store.read_manifest(await store.find("a")), 0)).chunks[0]
        )

    asyncio.run(scenario())


def test_garbage_is_what_neither_head_nor_a_save_in_flight_needs(store: CheckpointStore, tmp_path: Path) -> None:
    async def scenario() -> None:
        await saved(store, "kept")
        await prepared(store, "aborted")
        await store.declare("flying", {"pid": 1})
        await prepared(store, "flying")
        (tmp_path / "run-1/ckpt/aborted/rank-00000/.tmp-1").write_bytes(b"a torn write")
        assert await store.unreachable() == {"aborted": None, "flying": {"pid": 1}}
        assert await store.collect(in_flight=["flying"]) == ["aborted"]
        assert await store.collect(in_flight=["flying"]) == []
        assert sorted(path.name for path in (tmp_path / "run-1/ckpt").iterdir()) == ["flying", "kept"]

    asyncio.run(scenario())


def test_stores_under_other_prefixes_do_not_see_each_other(store: CheckpointStore, tmp_path: Path) -> None:
    other = CheckpointStore(LocalStorage(tmp_path), "run-10")

    async def scenario() -> None:
        await saved(store, "a")
        await prepared(other, "b")
        assert await store.unreachable() == {}
        assert await other.entries() == []

    asyncio.run(scenario())


def test_an_index_that_is_none_is_refused(store: CheckpointStore) -> None:
    with pytest.raises(CheckpointCorruptError, match="the index of rank 0 of a"):
        asyncio.run(store.write_encoded_index("a", 0, b"noise"))


def test_a_commit_needs_every_ranks_index(store: CheckpointStore, tmp_path: Path) -> None:
    """Two writers with different folders: the commit says so instead of promising what cannot be loaded."""

    async def scenario() -> None:
        manifest = await prepared(store, "a", ranks=2)
        await store.storage.delete(manifest.ranks[1].index_key)
        with pytest.raises(NotFoundError, match=r"of rank 1 is not there; do all storage writers write to the same"):
            await store.commit(manifest, Retention(5))
        assert await store.entries() == []

    asyncio.run(scenario())


def test_a_damaged_head_is_named(store: CheckpointStore, tmp_path: Path) -> None:
    asyncio.run(saved(store, "a"))
    (tmp_path / "run-1/HEAD").write_bytes(b"noise")
    with pytest.raises(CheckpointCorruptError, match="run-1/HEAD"):
        asyncio.run(store.entries())
    with pytest.raises(CheckpointCorruptError, match="run-1/HEAD"):
        asyncio.run(saved(store, "b"))


def digested(*parts: memoryview | bytes) -> list[tuple[str, memoryview | bytes]]:
    return [(blake3(part).hexdigest(), part) for part in parts]


def packs(folder: Path) -> list[Path]:
    return list(folder.rglob("pack-*"))


def test_the_chunks_of_a_pack_are_read_back_one_by_one(store: CheckpointStore, tmp_path: Path) -> None:
    async def scenario() -> None:
        parts = [b"a" * 5000, b"b", b"c" * 4096]
        records = await store.write_pack("a", 0, 0, digested(*parts))
        assert len(packs(tmp_path)) == 1
        assert [await store.read_chunk(record) for record in records] == parts

    asyncio.run(scenario())


def test_a_pack_that_is_missing_or_cut_off_is_named(store: CheckpointStore, tmp_path: Path) -> None:
    async def scenario() -> None:
        records = await store.write_pack("a", 0, 0, digested(b"a" * 5000, b"b" * 100))
        (path,) = packs(tmp_path)
        path.write_bytes(path.read_bytes()[:-1])
        assert await store.read_chunk(records[0]) == b"a" * 5000
        with pytest.raises(CheckpointCorruptError, match="has 99 bytes, its index says 100: cut off"):
            await store.read_chunk(records[1])
        path.unlink()
        with pytest.raises(CheckpointCorruptError, match=r"pack-.* is missing"):
            await store.read_chunk(records[0])

    asyncio.run(scenario())


def test_neighbours_in_memory_are_one_part_of_a_pack_with_the_gap_between_them() -> None:
    """Nothing is copied, and what lies at an aligned address does so in the object."""
    arena = mmap.mmap(-1, 64 * 1024)
    arena[:] = bytes(64 * 1024)
    view = memoryview(arena)
    neighbours = [view[0:5000], view[8192:9000], view[12288:16384]]
    parts, offsets = lay_out(neighbours, 4096)
    assert offsets == [0, 8192, 12288]
    assert [memoryview(part).nbytes for part in parts] == [16384]
    far, stranger = view[40960:41000], bytes(10)
    parts, offsets = lay_out([*neighbours[:2], far, stranger], 4096)
    assert offsets[:3] == [0, 8192, 12288]
    assert offsets[3] in {12328, 16384}
    assert [memoryview(part).nbytes for part in parts][:3] == [9000, 12288 - 9000, 40]
    parts, offsets = lay_out([b"x" * 3, b"y" * 5], 1)
    assert offsets == [0, 3]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 90)), min_size=1, max_size=12), st.sampled_from([1, 16]))
def test_wherever_pieces_lie_each_is_found_at_its_offset(places: list[tuple[int, int]], aligned: int) -> None:
    memory = memoryview(bytes(range(256)) * 2)
    pieces = [memory[begin : begin + size] for begin, size in places]
    parts, offsets = lay_out(pieces, aligned)
    whole = b"".join(parts)
    assert [whole[at : at + piece.nbytes] for at, piece in zip(offsets, pieces, strict=True)] == pieces
    assert all(one + piece.nbytes <= two for one, piece, two in zip(offsets, pieces, offsets[1:], strict=False))
