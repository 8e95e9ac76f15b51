"""Saves that meet a slow, full or failing storage: training is held up only as far as it was agreed, and is told."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from storedkit import write_chunk

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint import writing
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.retention import Retention
from strata_zmq.errors import (
    CheckpointCorruptError,
    DeadlineExceededError,
    DurabilityError,
    InvalidArgumentError,
    StorageError,
    SupersededError,
)
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path


class Gate(LocalStorage):
    """A folder whose packs wait until they are let through."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open = threading.Event()
        self.begun = threading.Event()

    async def put(self, key: str, data: Any) -> None:
        if "pack" in key:
            self.begun.set()
            await asyncio.to_thread(self.open.wait, 60)
        await super().put(key, data)


class Failing(LocalStorage):
    """A folder that fails as it is told: one error for each write of a key that holds `at`, in turn; None lets pass."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.at = "pack"
        self.errors: list[Exception | None] = []
        self.asked: list[str] = []

    async def put(self, key: str, data: Any) -> None:
        self.asked.append(key)
        if self.at in key and self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error
        await super().put(key, data)


def state(value: float) -> dict[str, Any]:
    return {"w": np.full(3000, value), "step": value}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BACK_OFF_S", 0.001)


def test_a_handle_follows_a_save_from_the_copy_to_the_commit(tmp_path: Path) -> None:
    storage = Gate(tmp_path)
    with CheckpointManager(storage) as manager:
        save = manager.save_handle(state(1), 1, 0)
        assert save.staged.done()
        assert save.stall_s > 0
        assert storage.begun.wait(30)
        assert (save.state, save.attempts, save.durable.done()) == ("STREAMING", 1, False)
        with pytest.raises(DeadlineExceededError, match="missing: storage"):
            save.wait(0.01)
        storage.open.set()
        assert save.result(30) == save.checkpoint_id
        assert [info.checkpoint_id for info in manager.all_checkpoints()] == [save.checkpoint_id]
        assert (save.state, save.nbytes, save.written_bytes) == ("DURABLE", 24_000, 24_000)
        assert save.tiers == {"local": save.durable}


def test_a_save_that_finds_all_memory_in_use_is_skipped_where_that_was_agreed(tmp_path: Path) -> None:
    storage = Gate(tmp_path)
    with CheckpointManager(storage, when_busy="skip") as manager:
        saves = [manager.save_handle(state(step), step, 0) for step in range(4)]
        assert [save.state for save in saves[2:]] == ["SKIPPED"] * 2
        with pytest.raises(SupersededError, match="all 2 staging areas"):
            saves[2].result(0)
        assert saves[2].staged.exception(0) is not None
        storage.open.set()
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [0, 1]


def test_a_newer_save_takes_the_place_of_the_newest_that_waits_and_never_of_the_one_being_written(
    tmp_path: Path,
) -> None:
    storage = Gate(tmp_path)
    with CheckpointManager(storage, when_busy="supersede", arenas=3) as manager:
        saves = [manager.save_handle(state(0), 0, 0)]
        assert storage.begun.wait(30)
        saves += [manager.save_handle(state(step), step, 0) for step in range(1, 6)]
        assert [save.state for save in saves] == ["STREAMING", "STAGED", "SKIPPED", "SKIPPED", "SKIPPED", "STAGED"]
        assert saves[3].staged.exception(0) is None, "its copy had been made"
        with pytest.raises(SupersededError, match="step 3 made way for a newer one"):
            saves[3].result(0)
        storage.open.set()
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [0, 1, 5]
        assert [manager.load(step)["w"][0] for step in (0, 1, 5)] == [0, 1, 5]


def test_one_save_may_have_another_policy_than_the_manager(tmp_path: Path) -> None:
    storage = Gate(tmp_path)
    with CheckpointManager(storage, arenas=1) as manager:
        manager.save(state(0), 0, 0)
        assert manager.save_handle(state(1), 1, 0, when_busy="skip").state == "SKIPPED"
        with pytest.raises(InvalidArgumentError, match="when_busy is 'wait'"):
            manager.save_handle(state(1), 1, 0, when_busy="wait")  # type: ignore[arg-type]
        storage.open.set()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("at", ["pack", "index", "manifest", "intent"])
def test_what_fails_for_a_moment_is_tried_again_wherever_it_fails(tmp_path: Path, at: str) -> None:
    storage = Failing(tmp_path)
    with CheckpointManager(storage) as manager:
        storage.at, storage.errors = at, [StorageError("busy"), StorageError("busy")]
        save = manager.save_handle(state(1), 1, 0)
        save.result(30)
        assert (save.attempts, save.error) == (3, None)
        assert manager.load()["step"] == 1
        assert sum("pack" in key for key in storage.asked) == (3 if at == "pack" else 1), "once durable, never again"


@pytest.mark.usefixtures("quick")
def test_three_retries_are_enough_and_then_the_save_has_failed(tmp_path: Path) -> None:
    storage = Failing(tmp_path)
    storage.errors = [StorageError("full")] * 4
    manager = CheckpointManager(storage, strict=False)
    save = manager.save_handle(state(1), 1, 0)
    with pytest.raises(StorageError, match="full"):
        save.result(30)
    assert (save.state, save.attempts, len(storage.errors)) == ("FAILED", 4, 0)
    manager.close()


@pytest.mark.parametrize("at", ["pack", "index", "manifest"])
def test_after_a_failed_fsync_nothing_of_that_save_is_tried_again(tmp_path: Path, at: str) -> None:
    storage = Failing(tmp_path)
    storage.at, storage.errors = at, [DurabilityError("fsync failed")]
    with CheckpointManager(storage, strict=False) as manager:
        save = manager.save_handle(state(1), 1, 0)
        with pytest.raises(DurabilityError, match="fsync failed"):
            save.result(30)
        assert save.attempts == 1
        manager.save_handle(state(2), 2, 0).result(30)
        assert [info.step for info in manager.all_checkpoints()] == [2]


@pytest.mark.usefixtures("quick")
def test_without_strict_no_call_of_a_training_loop_raises_for_the_storage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with CheckpointManager(tmp_path / "file", strict=False) as manager:
        saves = [manager.save_handle(state(step), step, 0) for step in range(3)]
        manager.wait_pending()
        assert {save.state for save in saves} == {"FAILED"}
        for save in saves:
            assert isinstance(save.error, StorageError)
        assert "a checkpoint was not saved" in caplog.text


def test_what_is_no_state_is_refused_whatever_the_policy(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, strict=False, when_busy="skip", arenas=1) as manager:
        with pytest.raises(InvalidArgumentError, match="which is not stored"):
            manager.save_handle({"x": print}, 1, 0)
        assert manager.save_handle(state(1), 1, 0).result(30), "its memory was given back"


def arrays(changed: int = 0, count: int = 20) -> dict[str, Any]:
    return {f"layer{i}": np.full(64 * 1024, float(i + (1000 if i < changed else 0))) for i in range(count)}


def test_a_save_of_a_state_of_which_a_tenth_changed_writes_about_a_tenth(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, keep_count=1, chunk_bytes=64 * 1024) as manager:
        first = manager.save_handle(arrays(), 1, 0)
        first.result(30)
        second = manager.save_handle(arrays(changed=2), 2, 0)
        second.result(30)
        assert first.written_bytes == first.nbytes == second.nbytes
        assert second.written_bytes == first.nbytes // 10
        on_disk = sum(path.stat().st_size for path in (tmp_path / "ckpt" / second.checkpoint_id).rglob("pack-*"))
        assert on_disk == second.written_bytes
        loaded = manager.load(second.checkpoint_id)
        assert all(loaded[name].tobytes() == array.tobytes() for name, array in arrays(changed=2).items())
        assert manager.last_restore is not None
        manifest = manager.last_restore.manifest
        assert (manifest.kind, manifest.refs) == ("INCREMENTAL", (first.checkpoint_id,))
        assert manifest.parent == first.checkpoint_id
        assert manifest.ranks[0].written_bytes == second.written_bytes


def test_what_is_referred_to_outlives_its_checkpoint_and_goes_when_nothing_refers_to_it(tmp_path: Path) -> None:
    folders = tmp_path / "ckpt"
    with CheckpointManager(tmp_path, keep_count=1) as manager:
        first = manager.save_handle(arrays(), 0, 0)
        names = [first.result(30)]
        for step in range(1, 12):
            names.append(manager.save_handle(arrays(), step, 0).result(30))
            manager.wait_pending()
            assert [info.step for info in manager.all_checkpoints()] == [step]
            assert (folders / names[0]).exists() is (step <= 8)
        assert {path.name for path in folders.iterdir()} == {names[9], names[11]}
        loaded = manager.load()
        assert all(loaded[name].tobytes() == array.tobytes() for name, array in arrays().items())


def test_a_state_of_another_shape_refers_to_what_stayed_where_it_was(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, chunk_bytes=64 * 1024) as manager:
        manager.save_handle(arrays(), 1, 0).result(30)
        grown = {**arrays(), "new": np.ones(64 * 1024)}
        save = manager.save_handle(grown, 2, 0)
        save.result(30)
        assert save.written_bytes == grown["new"].nbytes
        assert manager.load()["new"].tobytes() == grown["new"].tobytes()


def test_without_references_every_save_stands_alone(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, references=False) as manager:
        saves = [manager.save_handle(arrays(), step, 0) for step in range(2)]
        manager.wait_pending()
        assert [save.written_bytes for save in saves] == [save.nbytes for save in saves]


def test_a_parent_that_somebody_else_retired_costs_a_full_save_and_no_error(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, keep_count=1) as manager, CheckpointManager(tmp_path, keep_count=1) as other:
        manager.save_handle(arrays(), 1, 0).result(30)
        other.save_handle(arrays(changed=20), 2, 0).result(30)
        other.wait_pending()
        save = manager.save_handle(arrays(), 3, 0)
        save.result(30)
        assert (save.attempts, save.written_bytes) == (1, save.nbytes)
        assert manager.load(3)["layer3"][0] == 3.0


def test_after_damage_nothing_that_was_saved_before_is_referred_to(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as manager:
        saved = manager.save_handle(arrays(), 1, 0).result(30)
        (pack,) = (tmp_path / "ckpt" / saved).rglob("pack-*")
        with pack.open("r+b") as file:
            file.write(b"\xff")
        with pytest.raises(CheckpointCorruptError):
            manager.load(saved)
        save = manager.save_handle(arrays(), 2, 0)
        save.result(30)
        assert save.written_bytes == save.nbytes
        assert manager.load()["layer0"].tobytes() == arrays()["layer0"].tobytes()


def test_damage_that_is_met_while_a_save_is_under_way_is_not_passed_on_by_it(tmp_path: Path) -> None:
    storage = Gate(tmp_path)
    storage.open.set()
    with CheckpointManager(storage, chunk_bytes=64 * 1024) as manager:
        saved = manager.save_handle(arrays(), 1, 0).result(30)
        (pack,) = (tmp_path / "ckpt" / saved).rglob("pack-*")
        storage.open.clear()
        storage.begun.clear()
        under_way = manager.save_handle(arrays(changed=1), 2, 0)
        assert storage.begun.wait(30), "it has decided what to refer to, and writes what is new"
        os.truncate(pack, 100)
        assert not manager.verify(1).ok
        storage.open.set()
        under_way.result(30)
        assert under_way.written_bytes < under_way.nbytes
        assert (save := manager.save_handle(arrays(changed=1), 3, 0)).result(30)
        assert save.written_bytes == save.nbytes
        assert manager.load(3)["layer3"][0] == 3.0


def test_a_milestone_refers_to_nothing(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, retention=Retention(2, keep_every=10)) as manager:
        saves = [manager.save_handle(arrays(), step, 0) for step in (8, 9, 10, 11)]
        manager.wait_pending()
        assert [save.written_bytes > 0 for save in saves] == [True, False, True, False]


def test_random_numbers_go_on_as_they_would_have(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)

    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), generator.random()]

    with CheckpointManager(tmp_path) as manager:
        manager.save_handle(state(1), 1, 0, rng=True, generators=[generator]).result(30)
        wanted = [draw() for _ in range(3)]
        manager.load(rng=True, generators=[generator])
        assert [draw() for _ in range(3)] == wanted
        with pytest.raises(InvalidArgumentError, match="generators PCG64 beside the global ones, given are none"):
            manager.load(rng=True)


@pytest.mark.parametrize("compression", ["zstd", "auto"])
def test_compressed_checkpoints_load_bit_by_bit(tmp_path: Path, compression: Any) -> None:
    with CheckpointManager(tmp_path, compression=compression, chunk_bytes=64 * 1024) as manager:
        data = {**arrays(), "noise": np.random.default_rng(1).random(50_000)}
        save = manager.save_handle(data, 1, 0)
        save.result(30)
        if compression == "zstd":
            assert save.written_bytes < save.nbytes / 5
        loaded = manager.load()
        assert all(loaded[name].tobytes() == array.tobytes() for name, array in data.items())


def test_metrics_choose_the_best_and_a_pin_keeps_what_retention_would_not(tmp_path: Path) -> None:
    keep = Retention(keep_count=1, best_metric="loss", best_count=1)
    with CheckpointManager(tmp_path, retention=keep) as manager:
        for step, loss in enumerate([0.9, 0.2, 0.5, 0.4]):
            manager.save_handle(state(step), step, 0, metrics={"loss": loss}).result(30)
        assert [info.step for info in manager.all_checkpoints()] == [1, 3]
        assert manager.load("best", metric="loss")["step"] == 1
        manager.pin(manager.all_checkpoints()[1].checkpoint_id)
        manager.save_handle(state(4), 4, 0).result(30)
        assert [info.step for info in manager.all_checkpoints()] == [1, 3, 4]
        manager.unpin(manager.all_checkpoints()[1].checkpoint_id)
        manager.save_handle(state(5), 5, 0).result(30)
        assert [info.step for info in manager.all_checkpoints()] == [1, 5]


def test_memory_that_was_reserved_is_what_the_first_saves_use(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as manager:
        manager.reserve(1 << 20).result(60)
        with pytest.MonkeyPatch.context() as none:
            none.setattr("strata_zmq.feed.segment.MemfdSegment.create", _refuse)
            for step in range(3):
                manager.save_handle({"w": np.zeros(1 << 17)}, step, 0).result(30)


def _refuse(*_: object, **__: object) -> None:
    pytest.fail("memory was made anew")


def test_what_lies_in_the_store_is_what_was_staged_whatever_the_loop_does_meanwhile(tmp_path: Path) -> None:
    """The arrays change in place as soon as the call returns."""
    array = np.zeros(100_000)
    with CheckpointManager(tmp_path, keep_count=50) as manager:
        for step in range(20):
            array[:] = step
            manager.save(({"w": array}), step, 0)
            array[:] = -1
        manager.wait_pending()
        for step in range(20):
            found = manager.load(step)["w"]
            assert found.min() == found.max() == step


def test_a_store_that_another_release_wrote_is_loaded(tmp_path: Path) -> None:
    """Chunks in objects of their own, as they were before packs."""
    from strata_zmq.domain.manifest import Manifest, RankEntry, RankIndex

    store = CheckpointStore(LocalStorage(tmp_path))

    async def write() -> None:
        chunk = await write_chunk(store, "old", 0, b"x" * 100)
        key, digest = await store.write_rank_index("old", RankIndex(0, ["d", [["step", 3]]], (), (chunk,)))
        await store.commit(Manifest("old", 3, 0, 0, 0, 1.0, (RankEntry(0, "w", key, digest, 100),)), Retention(5))

    asyncio.run(write())
    with CheckpointManager(tmp_path) as manager:
        assert manager.load() == {"step": 3}


def test_nothing_is_left_of_saves_that_came_to_nothing(tmp_path: Path) -> None:
    """Of one that made way for another, and of one whose copy failed."""
    storage = Gate(tmp_path)
    with CheckpointManager(storage, when_busy="supersede") as manager:
        saves = [manager.save_handle(state(step), step, 0) for step in range(3)]
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr("strata_zmq.checkpoint.snapshot.copy_all", _raise)
            with pytest.raises(MemoryError):
                manager.save_handle(state(3), 3, 0)
        storage.open.set()
        manager.wait_pending()
        kept = {save.checkpoint_id for save in saves if save.is_durable}
        assert {path.name for path in (tmp_path / "ckpt").iterdir()} == kept
        assert len(kept) == 1


def _raise(*_: object, **__: object) -> None:
    raise MemoryError
