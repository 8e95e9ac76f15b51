"""Disks that are full or broken: the error says so, nothing half-written stays, and no fsync is tried a second time."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from strata_zmq import CheckpointManager
from strata_zmq.errors import DurabilityError, StorageError, StrataError
from strata_zmq.storage import LocalStorage
from strata_zmq.storage.files import Files

if TYPE_CHECKING:
    from collections.abc import Sequence

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("mount") is None,
    reason="needs root, unshare and mount, to mount a small file system",
)
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to make system calls fail")


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- full ---------------------------------------------------------------------------------------------------------

_FULL = """
import asyncio, json, pathlib, sys
import numpy as np
from strata_zmq import CheckpointManager
from strata_zmq.errors import StorageError, StrataError
from strata_zmq.storage import LocalStorage

root = pathlib.Path(sys.argv[1])
def files():
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
told = []
async def puts():
    for direct in (True, False):
        storage = LocalStorage(root, direct=direct)
        await storage.put("a/k", b"old")
        for data in (bytes(4 << 20), [bytes(600_000), bytes(900_000)]):
            try:
                await storage.put("a/k", data)
            except StorageError as error:
                told.append(str(error))
        told.append(files())
        await storage.put("a/k", bytes(500_000))
        await storage.delete("a/k")
asyncio.run(puts())
with CheckpointManager(root / "c", keep_count=3) as manager:
    first = np.arange(30_000.0)
    manager.save({"w": first}, 1, 0)
    manager.wait_pending()
    before = files()
    try:
        manager.save({"w": np.arange(200_000.0)}, 2, 0)
        manager.wait_pending()
    except StrataError as error:
        told.append(str(error))
    told.append(files() == before)
    told.append([info.step for info in manager.all_checkpoints()])
    told.append(bool((manager.load()["w"] == first).all()))
    manager.save({"w": first + 1}, 3, 0)
    manager.wait_pending()
    told.append([info.step for info in manager.all_checkpoints()])
print(json.dumps(told))
"""


@needs_mounts
def test_a_full_disk_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    """On 1 MiB of tmpfs: what does not fit leaves no part, the old object stays, what fits is written after it."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(mounted), sys.executable, _FULL]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    for _ in range(2):
        large, pieces, left = told[:3]
        del told[:3]
        for message in (large, pieces):
            assert "No space left on device" in message
            assert "free space" in message
        assert left == ["a/k"]
    message, as_before, steps, same, then = told
    assert "No space left on device" in message
    assert as_before
    assert (steps, same, then) == ([1], True, [1, 3])


# ---- broken -------------------------------------------------------------------------------------------------------

_PUT_TWICE = """
import asyncio, sys
from strata_zmq.errors import DurabilityError
from strata_zmq.storage import LocalStorage
async def main():
    storage = LocalStorage(sys.argv[1])
    # Puts of one size use one thread, and strace counts each thread's calls.
    await storage.put("a/k", b"o" * int(sys.argv[2]))
    try:
        await storage.put("a/k", b"n" * int(sys.argv[2]))
    except DurabilityError as error:
        print("durability:", error)
    await storage.put("a/l", b"another")
asyncio.run(main())
"""

_FSYNC = re.compile(r"fsync\(\d+<([^>]*)>\) += (0|-1 EIO)")


def traced(folder: Path, size: int, *inject: str) -> tuple[str, list[tuple[str, bool]]]:
    """Run two puts under strace; return what was printed and each fsync's file, and whether it was made to fail."""
    log = folder.with_suffix(".strace")
    command = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync,sync_file_range", *inject]
    command += [sys.executable, "-c", _PUT_TWICE, str(folder), str(size)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, [(path, result != "0") for path, result in _FSYNC.findall(log.read_text())]


@needs_strace
@pytest.mark.parametrize("size", [1000, 3_000_000], ids=["small", "direct"])
def test_an_fsync_that_fails_is_made_once_and_its_file_given_up(tmp_path: Path, size: int) -> None:
    """EIO from the kernel on the second file: DurabilityError, one fsync of that file, and the old object stays."""
    _, peaceful = traced(tmp_path / "peace", size)
    temporary = [number for number, (path, _) in enumerate(peaceful, 1) if "/.tmp-" in path]
    assert len(temporary) == 3
    assert len({path for path, _ in peaceful[: temporary[1]] if "/.tmp-" in path}) == 2
    folder = tmp_path / "store"
    printed, syncs = traced(folder, size, "-e", f"inject=fsync:error=EIO:when={temporary[1]}")
    assert "durability:" in printed
    assert "Input/output error" in printed
    (broken,) = [path for path, failed in syncs if failed]
    assert "/.tmp-" in broken
    assert [path for path, _ in syncs].count(broken) == 1
    assert files_in(folder) == ["a/k", "a/l"]
    assert (folder / "a" / "k").read_bytes() == b"o" * size


class FailingSync(Files):
    """Fails the `at`-th sync, of whatever it may be, and notes which file or folder was synced how often."""

    def __init__(self, at: int, code: int = errno.EIO) -> None:
        self.count = 0
        self.failed: str | None = None
        self.synced: Counter[str] = Counter()
        self._at = at
        self._code = code

    def sync(self, descriptor: int) -> None:
        self._step(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def sync_folder(self, path: Path) -> None:
        self._step(str(path))

    def _step(self, path: str) -> None:
        self.count += 1
        self.synced[path] += 1
        if self.count == self._at:
            self.failed = path
            raise OSError(self._code, os.strerror(self._code))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("large", [False, True])
def test_whatever_an_fsync_says_the_object_is_given_up(tmp_path: Path, code: int, large: bool) -> None:
    """Networks and thin disks tell a lack of space at the fsync: bytes that were taken are lost all the same."""
    asyncio.run(LocalStorage(tmp_path).put("a/k", b"old"))
    files = FailingSync(3, code)
    with pytest.raises(DurabilityError, match=os.strerror(code)) as caught:
        asyncio.run(LocalStorage(tmp_path, files=files).put("a/k", bytes(3_000_000 if large else 5)))
    assert not caught.value.retryable
    assert files.failed is not None
    assert "/.tmp-" in files.failed
    assert files.synced[files.failed] == 1
    assert files_in(tmp_path) == ["a/k"]
    assert asyncio.run(LocalStorage(tmp_path).get("a/k")) == b"old"


def state_of(step: int) -> dict[str, object]:
    return {"w": np.full(2000, float(step))}


def test_whichever_fsync_fails_only_that_checkpoint_is_lost(tmp_path: Path) -> None:
    """Each fsync of two saves fails in turn: what was acknowledged is there, and the next save goes through."""
    outcomes = Counter[str]()
    for at in range(1, 200):
        folder = tmp_path / str(at)
        files = FailingSync(at)
        acked = 0
        manager = CheckpointManager(LocalStorage(folder, files=files), keep_count=2, chunk_bytes=4096)
        for step in (1, 2):
            try:
                manager.save(state_of(step), step, 0)
                manager.wait_pending()
                acked = step
            except StrataError as error:
                outcomes[error.code] += 1
        assert committed(manager, at) >= ({acked} if acked else set())
        if files.failed is None:
            manager.close()
            break
        manager.save(state_of(3), 3, 0)
        manager.wait_pending()
        assert 3 in committed(manager, at)
        manager.close()
        if "/.tmp-" in files.failed:
            assert files.synced[files.failed] == 1, "an fsync was tried again"
        with CheckpointManager(folder) as another:
            assert committed(another, at) >= {3}
    else:
        pytest.fail("the saves never came through")
    assert at > 15
    # Where the fault hit something that was not needed (a retirement, a probe), nobody was told.
    assert set(outcomes) == {DurabilityError.code}
    assert outcomes.total() > 10


def committed(manager: CheckpointManager, at: int) -> set[int]:
    """Return the steps that are committed, after each was read bit by bit."""
    steps = set()
    for info in manager.all_checkpoints():
        assert manager.load(info.checkpoint_id)["w"].tolist() == [float(info.step)] * 2000, at
        steps.add(info.step)
    return steps


def test_a_write_that_fails_leaves_no_part(tmp_path: Path) -> None:
    """Whichever of an object's writes the device refuses."""

    class Broken(Files):
        left = 0

        def write(self, descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
            if not self.left:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self.left -= 1
            return super().write(descriptor, pieces, offset)

    asyncio.run(LocalStorage(tmp_path).put("a/k", b"old"))
    data = memoryview(bytes(20 << 20))[1:]
    for direct in (True, False):
        for Broken.left in range(3):
            with pytest.raises(StorageError, match="check it and choose another folder"):
                asyncio.run(LocalStorage(tmp_path, direct=direct, files=Broken()).put("a/k", data))
            assert files_in(tmp_path) == ["a/k"]
    assert asyncio.run(LocalStorage(tmp_path).get("a/k")) == b"old"
