"""What training code relies on: saves do not stop it, loads check every byte, errors are told and name the way out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from storedkit import write_chunk

from strata_zmq import CheckpointInfo, CheckpointManager
from strata_zmq.checkpoint.chunks import CHUNK_BYTES_MIN
from strata_zmq.checkpoint.restore import CheckpointFallbackWarning
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import Manifest, RankEntry, RankIndex
from strata_zmq.domain.retention import Retention
from strata_zmq.errors import (
    CheckpointCorruptError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    StorageError,
)
from strata_zmq.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Gate(LocalStorage):
    """A folder whose writes wait until they are let through."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open = threading.Event()

    async def put(self, key: str, data: Any) -> None:
        await asyncio.to_thread(self.open.wait, 60)
        await super().put(key, data)


class Full(LocalStorage):
    """A folder on a device that is full when `full` is set."""

    full = False

    async def put(self, key: str, data: Any) -> None:
        if self.full and "pack" in key:
            raise StorageError(f"{key} cannot be used: No space left on device; free space")
        await super().put(key, data)


def state(value: float) -> dict[str, Any]:
    return {"w": np.full(3000, value), "step": value}


def test_the_published_calls_work(tmp_path: Path) -> None:
    manager = CheckpointManager(path=tmp_path / "made" / "when needed", keep_count=5)
    assert manager.latest() is None
    assert not (tmp_path / "made").exists(), "looking creates nothing"
    saved = manager.save(state(1), step=5000, epoch=2)
    manager.wait_pending()
    info = manager.latest()
    assert info is not None
    assert info == manager.get_by_step(5000) == manager.all_checkpoints()[0]
    assert (info.checkpoint_id, info.step, info.epoch, info.world_size) == (saved, 5000, 2, 1)
    assert info.size_bytes == 24_000
    assert abs(info.created_at - time.time()) < 60
    assert saved in info.path
    assert (tmp_path / "made" / "when needed").is_dir()
    assert manager.get_by_step(1) is None
    assert manager.load(saved)["step"] == manager.load(5000)["step"] == manager.load()["step"] == 1
    manager.close()


def test_another_process_and_another_day_find_the_same(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as manager:
        saved = manager.save(state(3), 1, 0, {"note": "ä", "loss": "0.5"})
    with CheckpointManager(tmp_path) as manager:
        assert manager.load()["w"].tolist() == [3.0] * 3000
        assert manager.last_restore is not None
        assert manager.last_restore.manifest.metadata == {"note": "ä", "loss": "0.5"}
        assert manager.last_restore.manifest.checkpoint_id == saved
        assert manager.last_restore.skipped == ()


def test_saving_does_not_wait_for_the_storage(tmp_path: Path) -> None:
    storage = Gate(tmp_path)
    with CheckpointManager(storage) as manager:
        manager.save(state(1), 1, 0)
        assert manager.all_checkpoints() == [], "not committed yet"
        with pytest.raises(DeadlineExceededError, match=r"step-0000000001-.*still being written") as late:
            manager.wait_pending(timeout_s=0.05)
        assert late.value.missing
        storage.open.set()
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [1]


def test_a_third_save_waits_for_the_first_and_says_so_when_it_takes_too_long(tmp_path: Path) -> None:
    storage = Gate(tmp_path)
    with CheckpointManager(storage) as manager:
        for step in (1, 2):
            manager.save(state(step), step, 0)
        with pytest.raises(DeadlineExceededError, match=r"no staging memory .* save less often"):
            manager.save(state(3), 3, 0, timeout_s=0.05)
        storage.open.set()
        manager.save(state(3), 3, 0)
        manager.wait_pending()
        assert [info.step for info in manager.all_checkpoints()] == [1, 2, 3]
        assert [manager.load(step)["step"] for step in (1, 2, 3)] == [1, 2, 3]


def test_the_newest_are_kept_and_the_files_of_the_others_go(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, keep_count=2) as manager:
        for step in range(5):
            manager.save(state(step), step, 0)
        manager.wait_pending()
        kept = manager.all_checkpoints()
        assert [info.step for info in kept] == [3, 4]
        assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == [info.checkpoint_id for info in kept]


def test_a_failed_save_is_raised_by_the_next_call_and_leaves_the_others_good(tmp_path: Path) -> None:
    storage = Full(tmp_path)
    manager = CheckpointManager(storage)
    manager.save(state(1), 1, 0)
    manager.wait_pending()
    storage.full = True
    failed = manager.save(state(2), 2, 0)
    with pytest.raises(StorageError, match="No space left") as told:
        manager.wait_pending()
    assert failed in told.value.__notes__[0]
    assert [path.name for path in (tmp_path / "ckpt").iterdir()] != [], "the first one is still there"
    assert not (tmp_path / "ckpt" / failed).exists(), "a failed save gives its space back"
    manager.save(state(3), 3, 0)
    with pytest.raises(StorageError, match="No space left"):
        manager.close()
    with CheckpointManager(tmp_path) as again:
        assert again.load()["step"] == 1


def test_a_folder_that_cannot_be_written_is_told_by_the_first_save(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with CheckpointManager(tmp_path / "file") as manager:
        with pytest.raises(StorageError, match=f"{tmp_path}/file.*choose another folder"):
            manager.save(state(1), 1, 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"compression": "lz4"}, "compression is 'lz4': choose None, 'zstd' or 'auto'"),
        ({"when_busy": "panic"}, "when_busy is 'panic': choose 'block', 'skip' or 'supersede'"),
        ({"arenas": 0}, "arena count is 0"),
        ({"reserve_bytes": -1}, "reserve_bytes"),
        ({"keep_count": 3, "retention": Retention(4)}, "keep_count is 3, that of retention is 4"),
        ({"keep_count": 0}, "keep_count"),
        ({"keep_count": True}, "keep_count"),
        ({"chunk_bytes": 1}, "chunk_bytes is 1, the least is 4096"),
        ({"path": 5}, "path is a int"),
    ],
)
def test_arguments_outside_their_limits_are_refused(tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        CheckpointManager(**{"path": tmp_path, **arguments})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"step": -1}, "step"),
        ({"step": 1.5}, "step"),
        ({"epoch": -1}, "epoch"),
        ({"metadata": {"loss": 0.5}}, "metadata"),
        ({"metadata": {str(i): "" for i in range(65)}}, "65 entries, the limit is 64"),
        ({"metadata": {"k": "x" * 1025}}, "1024"),
    ],
)
def test_saves_outside_their_limits_are_refused(tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(InvalidArgumentError, match=reason):
            manager.save(**{"data": {}, "step": 1, "epoch": 0, **arguments})
        assert manager.all_checkpoints() == []


def test_what_is_not_there_is_named_beside_what_is(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path) as manager:
        with pytest.raises(NotFoundError, match="no checkpoint is committed in"):
            manager.load()
        saved = manager.save(state(1), 7, 0)
        manager.wait_pending()
        with pytest.raises(NotFoundError, match=rf"'nonsense' is not among the committed.*{saved}"):
            manager.load("nonsense")
        with pytest.raises(NotFoundError, match=r"no checkpoint of step 8 .* there are: 7"):
            manager.load(8)
        with pytest.raises(InvalidArgumentError, match=r"rank is 1: .* ranks 0 to 0"):
            manager.load(saved, rank=1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, lambda path: os.truncate(path, 7), lambda path: path.unlink()])
@pytest.mark.parametrize("kind", ["pack", "index", "manifest"])
def test_damage_is_named_when_asked_for_and_stepped_over_loudly_when_not(
    tmp_path: Path, kind: str, damage: Callable[[Path], object]
) -> None:
    with CheckpointManager(tmp_path, chunk_bytes=CHUNK_BYTES_MIN) as manager:
        good, bad = (manager.save(state(step), step, 0) for step in (1, 2))
        manager.wait_pending()
        (file,) = (tmp_path / "ckpt" / bad).rglob(f"{kind}-*")
        damage(file)
        with pytest.raises(CheckpointCorruptError, match=file.name):
            manager.load(bad)
        with pytest.warns(CheckpointFallbackWarning, match=rf"loaded {good} \(step 1\).*{bad}.*{file.name}") as warned:
            assert manager.load()["step"] == 1
        assert warned[0].filename == __file__
        assert manager.last_restore is not None
        assert [name for name, _ in manager.last_restore.skipped] == [bad]
        (tmp_path / "ckpt" / good / "gone").mkdir()
        for path in (tmp_path / "ckpt" / good).rglob("manifest-*"):
            path.unlink()
        with pytest.raises(CheckpointCorruptError, match=rf"none of the 2 checkpoints .* is whole: {bad}.*{good}"):
            manager.load()


def test_checkpoints_of_several_ranks_are_listed_and_loaded_rank_by_rank(tmp_path: Path) -> None:
    """A cluster's checkpoint is read without a cluster."""
    store = CheckpointStore(LocalStorage(tmp_path))

    async def cluster() -> None:
        entries = []
        for rank in range(3):
            chunk = await write_chunk(store, "c", rank, b"x" * (rank + 1))
            key, digest = await store.write_rank_index("c", RankIndex(rank, ["t", [rank, "text"]], (), (chunk,)))
            entries.append(RankEntry(rank, f"w{rank}", key, digest, chunk.nbytes))
        await store.commit(Manifest("c", 4, 1, 9, 2, 100.0, tuple(entries), ledger={"epoch": 1}), Retention(5))

    asyncio.run(cluster())
    with CheckpointManager(tmp_path) as manager:
        info = manager.latest()
        assert info == CheckpointInfo("c", 4, 1, f"{tmp_path}/ckpt/c", 6, 100.0, world_size=3)
        assert [manager.load("c", rank=rank) for rank in range(3)] == [(rank, "text") for rank in range(3)]
        assert manager.last_restore is not None
        assert manager.last_restore.manifest.ledger == {"epoch": 1}
        manager.save({}, 5, 1)
        manager.wait_pending()
        assert [info.world_size for info in manager.all_checkpoints()] == [3, 1]


def test_two_managers_in_one_folder_do_not_undo_each_other(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path, keep_count=20) as one, CheckpointManager(tmp_path, keep_count=20) as two:
        for step in range(5):
            one.save(state(step), step, 0)
            two.save(state(step), 100 + step, 0)
        one.wait_pending()
        two.wait_pending()
        assert sorted(info.step for info in one.all_checkpoints()) == [*range(5), *range(100, 105)]
        assert [info.step for info in one.all_checkpoints() if info.step < 100] == list(range(5))


def test_the_asyncio_face_does_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        with CheckpointManager(tmp_path) as manager:
            saved = await manager.save_async(state(1), 1, 0)
            await manager.wait_pending_async()
            assert (await manager.load_async(saved))["step"] == 1

    asyncio.run(scenario())


def test_a_closed_manager_says_so_and_closing_again_is_harmless(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    manager.save(state(1), 1, 0)
    manager.close()
    manager.close()
    for call in (lambda: manager.save({}, 1, 0), manager.load, manager.latest):
        with pytest.raises(InvalidArgumentError, match="closed"):
            call()


def test_an_error_inside_the_with_block_is_the_one_that_is_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Full(tmp_path)
    storage.full = True
    with pytest.raises(ZeroDivisionError), CheckpointManager(storage) as manager:  # noqa: PT012 - the block is the subject
        manager.save(state(1), 1, 0)
        raise ZeroDivisionError
    assert "a checkpoint was not saved" in caplog.text
    assert "No space left" in caplog.text


def test_a_dropped_manager_finishes_its_saves_and_leaves_no_thread(
    tmp_path: Path, eventually: Callable[..., object]
) -> None:
    CheckpointManager(tmp_path).save(state(1), 1, 0)

    def ended() -> bool:
        return not any(thread.name == "strata-checkpoint" for thread in threading.enumerate())

    eventually(ended)
    with CheckpointManager(tmp_path) as manager:
        assert manager.load()["step"] == 1


def test_after_a_fork_the_child_is_told_to_make_its_own(tmp_path: Path) -> None:
    program = f"""
import os, sys
from strata_zmq import CheckpointManager
from strata_zmq.errors import InvalidArgumentError
manager = CheckpointManager({str(tmp_path)!r})
manager.save({{}}, 1, 0)
manager.wait_pending()
child = os.fork()
if child == 0:
    try:
        manager.save({{}}, 2, 0)
    except InvalidArgumentError as error:
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 7


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "raise KeyboardInterrupt"])
def test_a_program_that_ends_normally_finishes_its_saves(tmp_path: Path, ending: str) -> None:
    program = f"""
import sys
import numpy as np
from strata_zmq import CheckpointManager
manager = CheckpointManager({str(tmp_path)!r})
manager.save({{"w": np.arange(3_000_000)}}, 1, 0)
manager.save({{"w": np.arange(3_000_000)}}, 2, 0)
{ending}
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, stderr=subprocess.DEVNULL)
    with CheckpointManager(tmp_path) as manager:
        assert [info.step for info in manager.all_checkpoints()] == [1, 2]


def test_a_program_that_ends_with_a_failed_save_reports_it(tmp_path: Path) -> None:
    program = f"""
import numpy as np
from strata_zmq import CheckpointManager
from strata_zmq.errors import StorageError
from strata_zmq.storage import LocalStorage
class Full(LocalStorage):
    async def put(self, key, data):
        raise StorageError(key + ": no space left")
CheckpointManager(Full({str(tmp_path)!r})).save({{}}, 1, 0)
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert "a checkpoint was not saved" in ended.stderr
    assert "no space left" in ended.stderr
