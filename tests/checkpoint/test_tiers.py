"""Near first, far in the background: each tier only ever names what it holds whole, and a restart goes on copying."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3
from stepkit import Places, StepStorage, damages

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.checkpoint.tiers import TieredStorage, TieredStore, open_store
from strata_zmq.domain.manifest import ChunkRecord, Manifest, RankEntry, RankIndex
from strata_zmq.domain.retention import Retention
from strata_zmq.errors import (
    CheckpointCorruptError,
    InvalidArgumentError,
    NotFoundError,
    StaleGenerationError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from strata_zmq.storage import Storage


class Far(StepStorage):
    """A far place that is down for a while, dies after so many requests, or runs something at one."""

    down = False
    left = 10**9
    asked: Callable[[str], None] = staticmethod(lambda key: None)

    def _request(self, key: str) -> None:
        self.left -= 1
        self.asked(key)
        if self.down or self.left < 0:
            raise UnavailableError("the far place does not answer")

    async def put(self, key: str, data: Any) -> None:
        self._request(key)
        await super().put(key, data)

    async def list(self, prefix: str = "") -> list[str]:
        self._request(prefix)
        return await super().list(prefix)

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        self._request(key)
        return await super().read_versioned(key)

    async def replace(self, key: str, data: Any, expected_version: str | None) -> str:
        self._request(key)
        return await super().replace(key, data, expected_version)


class Pair:
    """One near and one far place, and as many processes over them as a test wants."""

    def __init__(self) -> None:
        self.near, self.far = Places(), Places()
        self.far_storage = Far(self.far)

    def store(self) -> TieredStore:
        return TieredStore(TieredStorage(StepStorage(self.near), self.far_storage))

    def head(self, far: bool = True) -> list[str]:
        storage = StepStorage(self.far if far else self.near)
        return [entry.checkpoint_id for entry in asyncio.run(CheckpointStore(storage).entries())]

    def whole(self) -> None:
        assert damages(self.far) == []


@pytest.fixture
def pair() -> Pair:
    return Pair()


async def save(
    store: CheckpointStore,
    name: str,
    *,
    step: int,
    keep: int = 5,
    refers: Sequence[ChunkRecord] = (),
    term: int = 1,
) -> tuple[ChunkRecord, ...]:
    """A checkpoint of two chunks, and what it retires deleted; the copying is left to the test."""
    parts = [name.encode() * 100, f"{name}!".encode() * 50]
    own = await store.write_pack(name, 0, 0, [(blake3(part).hexdigest(), part) for part in parts])
    key, digest = await store.write_rank_index(name, RankIndex(0, None, (), (*refers, *own)))
    refs = tuple(sorted({chunk.key.split("/")[1] for chunk in refers}))
    manifest = Manifest(name, step, 0, term, 1, float(step), (RankEntry(0, "w", key, digest, 350, refs=refs),))
    commit = await store.commit(manifest, Retention(keep))
    if isinstance(store, TieredStore):
        await store.stop()
    for retired in commit.dropped:
        await store.discard(retired)
    return tuple(own)


def test_what_is_committed_near_reaches_the_far_place_whole(pair: Pair) -> None:
    async def scenario() -> list[str]:
        store = pair.store()
        chunks = await save(store, "a", step=1)
        await save(store, "b", step=2, refers=chunks[:1])
        assert pair.far.objects == {}
        return await store.drain()

    assert asyncio.run(scenario()) == ["b", "a"], "the newest first"
    assert pair.head() == ["a", "b"]
    pair.whole()


def test_the_newest_can_be_loaded_from_afar_before_the_others_are_there(pair: Pair) -> None:
    async def scenario() -> None:
        store = pair.store()
        chunks = await save(store, "a", step=1)
        await save(store, "b", step=2, refers=chunks[:1])
        seen = []
        pair.far_storage.asked = lambda key: seen.append(pair.far.objects.get("HEAD", b"").count(b"manifest_key"))
        await store.drain()
        assert 1 in seen

    asyncio.run(scenario())
    pair.whole()


def test_the_copying_goes_on_in_the_background_until_it_is_done(pair: Pair) -> None:
    async def scenario() -> None:
        store = pair.store()
        await save(store, "a", step=1)
        await asyncio.wait_for(store.reaches_far("a"), 20)
        assert (await store.far.find("a")).step == 1
        await store.stop()

    asyncio.run(scenario())


def test_at_whatever_request_the_far_place_fails_the_next_process_finishes(pair: Pair) -> None:
    """Its HEAD names only what is whole at any moment, and nothing is left over in the end."""
    needed = 0
    for requests in range(60):
        pair = Pair()

        async def scenario(pair: Pair = pair, requests: int = requests) -> bool:
            store = pair.store()
            chunks = await save(store, "a", step=1, keep=1)
            await store.drain()
            chunks = await save(store, "b", step=2, keep=1, refers=chunks[:1])
            await save(store, "c", step=3, keep=1, refers=chunks[:1])
            pair.far_storage.left = requests
            pair.far.on_change = pair.whole
            try:
                await store.drain()
            except UnavailableError:
                pair.whole()
                pair.far_storage.left = 10**9
                await pair.store().drain()
                return False
            return True

        ended = asyncio.run(scenario())
        assert pair.head() == pair.head(far=False)
        pair.whole()
        needed = requests
        if ended:
            break
    assert 5 < needed < 59


def test_what_is_retired_near_goes_far_too_but_not_what_others_refer_to(pair: Pair) -> None:
    async def scenario() -> None:
        store = pair.store()
        chunks = await save(store, "a", step=1, keep=1)
        await store.drain()
        await save(store, "b", step=2, keep=1, refers=chunks[:1])
        await store.drain()
        pair.whole()
        await save(store, "c", step=3, keep=1)
        await store.drain()
        await save(store, "d", step=4, keep=1)
        await store.drain()

    asyncio.run(scenario())
    assert pair.head() == ["d"]
    assert {key.split("/")[1] for key in pair.far.objects if key.startswith("ckpt/")} == {"d"}


def test_what_is_not_copied_yet_is_not_retired_until_too_much_of_it_has_come_together(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        store = pair.store()
        await store.head()
        pair.far_storage.down = True
        for step in range(3):
            await save(store, f"c{step}", step=step, keep=1)
        assert [entry.checkpoint_id for entry in await store.entries()] == ["c0", "c1", "c2"]
        for step in range(3, 6):
            await save(store, f"c{step}", step=step, keep=1)

    with caplog.at_level(logging.WARNING, "strata.checkpoint"):
        asyncio.run(scenario())
    assert pair.head(far=False) == ["c3", "c4", "c5"]
    assert "the oldest are retired without a copy" in caplog.text
    pair.far_storage.down = False
    assert asyncio.run(pair.store().drain()) == ["c5", "c4", "c3"]


def test_a_machine_with_an_empty_disk_goes_on_where_the_far_place_stands(pair: Pair) -> None:
    async def before() -> tuple[ChunkRecord, ...]:
        store = pair.store()
        chunks = await save(store, "a", step=1)
        await store.drain()
        return chunks

    chunks = asyncio.run(before())
    pair.near = Places()

    async def after() -> None:
        store = pair.store()
        assert [entry.checkpoint_id for entry in await store.entries()] == ["a"]
        assert await store.read_chunk(chunks[0]) == b"a" * 100
        await save(store, "b", step=2, refers=chunks[:1])
        assert await store.drain() == ["b"]

    asyncio.run(after())
    assert pair.head() == ["a", "b"]
    pair.whole()


def test_nobody_begins_anew_because_the_far_place_does_not_answer(pair: Pair) -> None:
    """Without anything near there is no telling whether there is a checkpoint; with one the work goes on."""
    pair.far_storage.down = True
    with pytest.raises(UnavailableError, match="does not answer"):
        asyncio.run(pair.store().entries())
    pair.far_storage.down = False

    async def scenario() -> None:
        await save(pair.store(), "a", step=1)
        pair.far_storage.down = True
        assert [entry.checkpoint_id for entry in await pair.store().entries()] == ["a"]

    asyncio.run(scenario())


def test_of_two_machines_the_second_takes_over_and_the_first_is_fenced(pair: Pair) -> None:
    other = Pair()
    other.far, other.far_storage = pair.far, pair.far_storage

    async def scenario() -> None:
        first, second = pair.store(), other.store()
        await save(first, "a", step=1, term=1)
        await first.drain()
        await save(second, "b", step=1, term=2)
        await second.drain()
        assert [entry.checkpoint_id for entry in await second.entries()] == ["a", "b"]
        await save(first, "late", step=2, term=1)
        await first.drain()
        assert [entry.checkpoint_id for entry in await first.entries()] == ["a", "b", "late"], "nothing is thrown away"
        with pytest.raises(StaleGenerationError):
            await save(first, "later", step=3, term=1)

    asyncio.run(scenario())
    pair.whole()


def test_damage_is_not_copied(pair: Pair) -> None:
    async def scenario() -> None:
        store = pair.store()
        await save(store, "good", step=1)
        await save(store, "bad", step=2)
        key = next(key for key in pair.near.objects if "bad/rank-00000/pack" in key)
        pair.near.objects[key] = b"x" + pair.near.objects[key][1:]
        assert await store.drain() == ["good"]
        with pytest.raises(CheckpointCorruptError, match="has not the digest"):
            await store.reaches_far("bad")
        await store.stop()

    asyncio.run(scenario())
    assert pair.head() == ["good"]


def test_what_is_damaged_near_is_read_from_afar_and_it_says_so(tmp_path: Path, caplog: Any) -> None:
    """Whatever of a checkpoint a disk has spoilt: the copy stands in for it, not an older checkpoint."""
    place = f"{tmp_path}/near,file://{tmp_path}/far"
    state = {"w": np.arange(5000), "b": np.arange(7.0)}
    with CheckpointManager(place) as manager:
        saved = manager.save(state, step=1, epoch=0)
    spoilt = [path for path in (tmp_path / "near").rglob("*-*") if path.is_file() and saved in str(path)]
    assert {path.name.split("-")[0] for path in spoilt} == {"pack", "index", "manifest"}
    for path in spoilt:
        whole = path.read_bytes()
        path.write_bytes(whole[:-40] + bytes(byte ^ 1 for byte in whole[-40:]))
        caplog.clear()
        with CheckpointManager(place) as manager:
            found = manager.load(saved)
            assert not manager.verify(saved).ok, "a verification is about this place"
        assert all(np.array_equal(found[name], state[name]) for name in state)
        assert any(f"{tmp_path}/far" in one.message and path.name in one.message for one in caplog.records)
        path.write_bytes(whole)


def test_what_is_damaged_in_both_places_is_damaged(tmp_path: Path) -> None:
    place = f"{tmp_path}/near,file://{tmp_path}/far"
    with CheckpointManager(place) as manager:
        saved = manager.save({"w": np.arange(5000)}, step=1, epoch=0)
    for path in tmp_path.rglob("pack-*"):
        path.write_bytes(bytes(len(path.read_bytes())))
    with CheckpointManager(place) as manager, pytest.raises(CheckpointCorruptError, match="damaged"):
        manager.load(saved)


def test_a_checkpoint_that_was_retired_first_is_named(pair: Pair) -> None:
    async def scenario() -> None:
        store = pair.store()
        with pytest.raises(NotFoundError, match="retired before it was copied"):
            await store.reaches_far("never")
        await store.stop()

    asyncio.run(scenario())


def test_two_places_are_written_as_near_and_far(tmp_path: Path) -> None:
    store = open_store(f"{tmp_path}/near,file://{tmp_path}/far")
    assert isinstance(store, TieredStore)
    assert store.storage.url == f"{tmp_path}/near,{tmp_path}/far"
    assert not isinstance(open_store(str(tmp_path)), TieredStore)
    assert not isinstance(open_store(f"{tmp_path},a name with a comma"), TieredStore)
    for place in ("a,s3://bbb,s3://ccc", ",s3://bbb"):
        with pytest.raises(InvalidArgumentError, match="give one place, or two as NEAR,s3://BUCKET/FAR"):
            open_store(place)


def test_any_storage_can_be_the_far_one(tmp_path: Path, storage_of: Callable[[Path], Storage]) -> None:
    """The packs are larger than what is copied at once, and the bytes come back from afar."""

    async def scenario() -> None:
        far = storage_of(tmp_path / "far")
        near = open_store(str(tmp_path / "near")).storage
        store = TieredStore(TieredStorage(near, far), "run")
        await store.storage.prepare()
        data = [bytes([number]) * (9 * 1024 * 1024 + number) for number in range(4)]
        records = await store.write_pack("big", 0, 0, [(blake3(part).hexdigest(), part) for part in data])
        key, digest = await store.write_rank_index("big", RankIndex(0, None, (), tuple(records)))
        manifest = Manifest("big", 1, 0, 1, 1, 1.0, (RankEntry(0, "w", key, digest, sum(map(len, data))),))
        await store.commit(manifest, Retention(1))
        await asyncio.wait_for(store.reaches_far("big"), 60)
        await store.stop()
        away = CheckpointStore(far, "run")
        assert [entry.checkpoint_id for entry in await away.entries()] == ["big"]
        assert [await away.read_chunk(record) for record in records] == data
        await store.storage.close()

    asyncio.run(scenario())


def test_a_manager_saves_near_and_tells_of_both_tiers(tmp_path: Path) -> None:
    """Closing waits for the copies; with the near folder lost, the states come from afar."""
    place = f"{tmp_path}/near,file://{tmp_path}/far"
    state = {"w": np.arange(5000.0)}
    with CheckpointManager(place, keep_count=2) as manager:
        handle = manager.save_handle(state, 1, 0)
        assert sorted(handle.tiers) == ["local", "remote"]
        assert handle.tiers["remote"].result(60) == handle.durable.result(60)
        manager.save(state, 2, 0)
    shutil.rmtree(tmp_path / "near")
    with CheckpointManager(f"{tmp_path}/far") as manager:
        assert [info.step for info in manager.all_checkpoints()] == [1, 2]
    with CheckpointManager(place) as manager:
        assert [info.step for info in manager.all_checkpoints()] == [1, 2]
        assert manager.load()["w"].tobytes() == state["w"].tobytes()
        handle = manager.save_handle({"w": state["w"], "x": np.ones(5000)}, 3, 0)
        handle.tiers["remote"].result(60)
    with CheckpointManager(f"{tmp_path}/far") as manager:
        assert [info.step for info in manager.all_checkpoints()] == [1, 2, 3]
        assert manager.load()["w"].tobytes() == state["w"].tobytes()


def test_a_commit_does_not_wait_for_a_copy(pair: Pair) -> None:
    """However long the far place takes for an object, the near one is read and committed to."""

    async def scenario() -> None:
        await save(pair.store(), "a", step=1)
        held, taken = asyncio.Event(), asyncio.Event()

        class Slow(Far):
            async def put(self, key: str, data: Any) -> None:
                taken.set()
                await held.wait()
                await super().put(key, data)

        store = TieredStore(TieredStorage(StepStorage(pair.near), Slow(pair.far)))
        store.drain_soon()
        await asyncio.wait_for(taken.wait(), 20)
        again = TieredStore(store.storage)
        for one in (store, again):
            assert [entry.checkpoint_id for entry in await asyncio.wait_for(one.entries(), 20)] == ["a"]
        await asyncio.wait_for(save(again, "b", step=2), 20)
        held.set()
        await asyncio.wait_for(store.reaches_far("b"), 20)
        await store.stop()

    asyncio.run(scenario())
    assert pair.head() == ["a", "b"]
    pair.whole()
