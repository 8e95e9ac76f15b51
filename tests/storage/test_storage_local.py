"""What a folder promises beyond the port: whole files after a kill, named errors, several processes at once."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from strata_zmq.errors import InvalidArgumentError, StorageError
from strata_zmq.storage import LocalStorage, VersionConflictError, local, open_storage

if TYPE_CHECKING:
    from pathlib import Path


def test_a_path_and_a_file_url_name_the_same_place(tmp_path: Path) -> None:
    assert open_storage(tmp_path).url == open_storage(f"file://{tmp_path}").url == str(tmp_path)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("gs://bucket", "scheme 'gs' is unknown"),
        ("", "empty"),
        ("a/../b", r"'\.\.'"),
        ("a\0b", "NUL"),
        ("x" * 5000, "4096"),
    ],
)
def test_a_place_that_is_not_offered_says_what_is(place: str, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        open_storage(place)


def test_a_path_through_a_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    storage = LocalStorage(tmp_path / "file" / "sub")
    with pytest.raises(StorageError, match=r"file.*choose another folder"):
        asyncio.run(storage.prepare())
    with pytest.raises(StorageError, match=r"file.*choose another folder"):
        asyncio.run(storage.put("a", b""))


def test_an_object_where_a_folder_is_needed_is_a_named_error(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)

    async def scenario() -> None:
        await storage.put("a", b"")
        await storage.put("a/b", b"")

    with pytest.raises(StorageError, match=f"{tmp_path}/a"):
        asyncio.run(scenario())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_failing_device_is_named_and_leaves_no_part_behind(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    asyncio.run(storage.put("a/k", b"old"))

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(local.os, "fsync", fail)
        for call in (storage.put("a/k", b"new"), storage.replace("a/k", b"new", local._version(b"old"))):
            with pytest.raises(StorageError, match=os.strerror(code)) as caught:
                asyncio.run(call)
            assert str(tmp_path) in str(caught.value)
            assert ";" in str(caught.value)
    assert asyncio.run(storage.get("a/k")) == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir() if path.name.startswith(".tmp")] == []


_KILLED_AT = """
import asyncio, os, signal, sys
from strata_zmq.storage import LocalStorage, local
point, count = sys.argv[2], 0
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
async def main():
    storage = LocalStorage(sys.argv[1])
    await storage.put("a/k", b"old")
    setattr(local.os, point, die)
    await storage.put("a/k", b"new" * 1000)
asyncio.run(main())
"""


@pytest.mark.parametrize("point", ["fsync", "replace"])
def test_a_killed_put_leaves_the_old_object_and_what_sweep_collects(tmp_path: Path, point: str) -> None:
    storage = LocalStorage(tmp_path)
    asyncio.run(storage.put("a/k", b"old"))
    ended = subprocess.run([sys.executable, "-c", _KILLED_AT, tmp_path, point], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert asyncio.run(storage.get("a/k")) == b"old"
    assert asyncio.run(storage.list()) == ["a/k"]
    assert asyncio.run(storage.sweep()) == 0, "a write that may still be going on is not touched"
    assert asyncio.run(storage.sweep("other/", older_than_s=0.0)) == 0
    assert asyncio.run(storage.sweep(older_than_s=0.0)) == 1
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["k"]


_INCREMENT = """
import asyncio, sys
from strata_zmq.storage import LocalStorage, VersionConflictError
async def main():
    storage = LocalStorage(sys.argv[1])
    for _ in range(25):
        while True:
            data, version = await storage.read_versioned("counter")
            try:
                await storage.replace("counter", b"%d" % (int(data or b"0") + 1), version)
                break
            except VersionConflictError:
                pass
asyncio.run(main())
"""


def test_processes_that_compare_and_swap_lose_no_update(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", _INCREMENT, tmp_path]) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    assert asyncio.run(LocalStorage(tmp_path).get("counter")) == b"75"


def test_a_lock_that_is_never_given_back_is_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    storage = LocalStorage(tmp_path)
    asyncio.run(storage.replace("HEAD", b"1", None))
    monkeypatch.setattr(local, "LOCK_TIMEOUT_S", 0.05)
    with (tmp_path / ".HEAD.lock").open("r+") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"\.HEAD\.lock has been locked"):
            asyncio.run(storage.replace("HEAD", b"2", None))
    with pytest.raises(VersionConflictError):
        asyncio.run(storage.replace("HEAD", b"2", None))


def test_a_deleted_object_takes_its_empty_folders_along(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)

    async def scenario() -> None:
        await storage.put("a/b/c/d", b"")
        await storage.put("a/x", b"")
        await storage.delete("a/b/c/d")

    asyncio.run(scenario())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "x"]
