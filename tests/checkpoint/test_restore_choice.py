"""Which checkpoint a load takes, what may stand in for it, and that it says so."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from storedkit import Way, write_checkpoint

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.reading import ChunkWork, Flat, Placement, read_chunks
from strata_zmq.checkpoint.restore import CheckpointFallbackWarning, Choice, Wanted, restore, restore_choice
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.errors import (
    CheckpointCorruptError,
    InvalidArgumentError,
    NotFoundError,
    StorageError,
)
from strata_zmq.storage import LocalStorage
from strata_zmq.storage.base import Arrived

LOSSES = {"a": 0.5, "b": 0.2, "c": 0.2, "d": 0.9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step, (name, loss) in enumerate(LOSSES.items()):
        write_checkpoint(tmp_path, [{"w": np.full(100, step)}], checkpoint_id=name, step=step, metrics={"loss": loss})
    write_checkpoint(tmp_path, [{"w": np.full(100, 4)}], checkpoint_id="e", step=4)
    return tmp_path


def damage(folder: Path, *names: str) -> None:
    for name in names:
        for pack in (folder / "ckpt" / name).rglob("pack-*"):
            pack.write_bytes(b"x" * len(pack.read_bytes()))


def taken(manager: CheckpointManager, *arguments: Any, **options: Any) -> str:
    manager.load(*arguments, **options)
    assert manager.last_restore is not None
    return manager.last_restore.manifest.checkpoint_id


def test_a_load_takes_the_latest_the_best_a_step_or_an_id(folder: Path) -> None:
    with CheckpointManager(folder) as manager:
        assert (
            taken(manager) == taken(manager, None) == taken(manager, "latest") == taken(manager, step="latest") == "e"
        )
        assert taken(manager, 1) == taken(manager, "b") == taken(manager, step=1) == "b"
        assert taken(manager, "best", metric="loss") == "c", "of equals the newest"
        assert taken(manager, "best", metric="loss", mode="max") == "d"


def test_what_is_not_there_is_told_with_what_is(folder: Path) -> None:
    with CheckpointManager(folder) as manager:
        with pytest.raises(NotFoundError, match=r"no checkpoint of step 9 .*there are: 0, 1, 2, 3, 4"):
            manager.load(9)
        with pytest.raises(NotFoundError, match=r"'z' is not among the committed ones .*: a, b, c, d, e"):
            manager.load("z")
        with pytest.raises(NotFoundError, match=r"no checkpoint .* has the metric 'accuracy'; there are: loss"):
            manager.load("best", metric="accuracy")
        with pytest.raises(InvalidArgumentError, match=r'step="best" needs a metric'):
            manager.load("best")
        with pytest.raises(InvalidArgumentError, match=r"mode is 'least': give one of min, max"):
            manager.load("best", metric="loss", mode="least")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match=r"step is 1\.5: give a step, an id"):
            manager.load(1.5)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="memory_budget_bytes is 0"):
            manager.load(memory_budget_bytes=0)


def test_the_latest_that_is_damaged_is_passed_over_aloud(folder: Path) -> None:
    damage(folder, "e", "d")
    with CheckpointManager(folder) as manager:
        with pytest.warns(CheckpointFallbackWarning, match=r"loaded c \(step 2\) because newer .*: e: .*; d: ") as told:
            assert manager.load()["w"][0] == 2
        assert told[0].filename == __file__
        assert manager.last_restore is not None
        assert [name for name, _ in manager.last_restore.skipped] == ["e", "d"]
        assert all("has the digest" in reason for _, reason in manager.last_restore.skipped)


def test_the_best_that_is_damaged_is_passed_over_for_the_next_best(folder: Path) -> None:
    damage(folder, "c", "b")
    with CheckpointManager(folder) as manager:
        with pytest.warns(CheckpointFallbackWarning, match=r"loaded a \(step 0\) because better .*: c: .*; b: "):
            manager.load("best", metric="loss")


@pytest.mark.parametrize("named", ["e", 4])
def test_a_checkpoint_that_was_named_is_never_replaced(folder: Path, named: str | int) -> None:
    damage(folder, "e")
    with CheckpointManager(folder) as manager, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointCorruptError, match=f"^{folder}/ckpt/e/rank-00000/pack"):
            manager.load(named)
        assert manager.last_restore is None


def test_where_none_is_whole_every_reason_is_told(folder: Path) -> None:
    damage(folder, *"abcde")
    with CheckpointManager(folder) as manager:
        with pytest.raises(CheckpointCorruptError, match=r"none of the 5 checkpoints .*: e: .*; d: .*; a: "):
            manager.load()


def test_an_array_that_is_filled_holds_the_checkpoint_that_stood_in(folder: Path) -> None:
    damage(folder, "e")
    mine = np.zeros(100, np.int64)
    with CheckpointManager(folder) as manager, pytest.warns(CheckpointFallbackWarning):
        manager.load(into={"w": mine})
    assert mine.tolist() == [3] * 100


def test_a_load_of_every_byte_is_noted_and_keeps_that_checkpoint(tmp_path: Path) -> None:
    def noted() -> str:
        return asyncio.run(CheckpointStore(LocalStorage(tmp_path)).head()).verified

    with CheckpointManager(tmp_path, keep_count=1, chunk_bytes=4096) as manager:
        first = manager.save({"x": np.ones(3), "y": np.ones(2000)}, 1, 0)
        manager.wait_pending()
        manager.load(names=["x"])
        assert noted() == ""
        manager.load()
        assert noted() == first
        manager.save({"x": np.ones(4)}, 2, 0)
        manager.save({"x": np.ones(5)}, 3, 0)
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [1, 3]
        manager.load()
        manager.save({"x": np.ones(6)}, 4, 0)
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [3, 4]
    write_checkpoint(tmp_path, [{"x": 1}, {"x": 1}], checkpoint_id="of-two", step=9)
    with CheckpointManager(tmp_path) as manager:
        manager.load("of-two", rank=1)
        assert noted() != "of-two", "one rank's part says nothing of the other's"


class Retiring(LocalStorage):
    """A folder in which the newest checkpoint is replaced by another at the first attempt to read its bytes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.folder = root
        self.todo = True

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        if self.todo and "ckpt/e/" in key:
            self.todo = False
            await self.delete_many(["HEAD", *await self.list("ckpt/")])
            new = [{"w": np.full(100, 9)}]
            await asyncio.to_thread(write_checkpoint, self.folder, new, checkpoint_id="new", step=9)
        return await super().get_into(key, start, into, arrived)


def test_a_checkpoint_that_was_retired_while_it_was_read_is_not_called_damaged(folder: Path) -> None:
    store = CheckpointStore(Retiring(folder))
    found = asyncio.run(restore_choice(store, Choice("latest"), Wanted()))
    assert found.data["w"][0] == 9
    assert found.report.skipped == ()


class Slow(LocalStorage):
    """A folder in which one object cannot be read, and another only once it is let through."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        if key == "bad":
            await self.reading.wait()
            raise StorageError("bad cannot be read: Input/output error")
        self.reading.set()
        await self.go_on.wait()
        into[:] = b"y" * len(into)
        return len(into)


@pytest.mark.parametrize("given_up", [False, True])
def test_when_a_load_has_failed_nothing_writes_into_its_arrays_any_more(tmp_path: Path, given_up: bool) -> None:
    async def scene() -> None:
        storage = Slow(tmp_path)
        memory = np.zeros(8, np.uint8)
        works = [
            ChunkWork(ChunkRecord(key, "0" * 64, 4), (Placement(Flat(memory[at : at + 4]), 0, 0, 4),))
            for at, key in ((0, "bad"), (4, "slow"))
        ]
        load = asyncio.create_task(read_chunks(CheckpointStore(storage), works))
        await storage.reading.wait()
        if given_up:
            load.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not load.done(), "it has failed, and waits for the read that is under way"
        storage.go_on.set()
        with pytest.raises((asyncio.CancelledError, StorageError)) as told:
            await load
        assert isinstance(told.value, asyncio.CancelledError) == given_up
        assert memory[4:].tobytes() == b"yyyy", "what was under way is over"

    asyncio.run(scene())


class Counting(LocalStorage):
    reads = 0

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        self.reads += 1
        return await super().get_into(key, start, into, arrived)


def test_after_the_first_damage_nothing_more_is_begun(tmp_path: Path) -> None:
    entry = write_checkpoint(tmp_path, [{"w": np.zeros(9999)}], way=Way(cuts=300, pack_chunks=1))
    for pack in tmp_path.rglob("pack-*"):
        pack.write_bytes(b"x" * pack.stat().st_size)
    storage = Counting(tmp_path)
    with pytest.raises(CheckpointCorruptError):
        asyncio.run(restore(CheckpointStore(storage), entry))
    assert storage.reads < 50, "of 300"


def test_the_random_state_of_a_rank_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, [{"x": 1}], rng=["d", [["numpy", ["l", [1, 2]]]]])
    write_checkpoint(tmp_path, [{"x": 1}], checkpoint_id="without", way=Way(record_format=1))
    store = CheckpointStore(LocalStorage(tmp_path))
    assert asyncio.run(restore_choice(store, Choice("one"), Wanted(rng=True))).rng == {"numpy": [1, 2]}
    assert asyncio.run(restore_choice(store, Choice("one"), Wanted())).rng is None
    with pytest.raises(NotFoundError, match="rank 0 of without was saved without random state"):
        asyncio.run(restore_choice(store, Choice("without"), Wanted(rng=True)))
    with pytest.raises(InvalidArgumentError, match="random state in one is that of 1 ranks, not of 2"):
        asyncio.run(restore_choice(store, Choice("one"), Wanted(rng=True, world=2)))
