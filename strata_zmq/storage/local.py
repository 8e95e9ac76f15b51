"""Objects as files under one folder: temporary file, fsync, rename, fsync of the folder; knows nothing of checkpoints.

Files that begin with a dot are this backend's own: `.tmp-...` is a write that has not been published, `.NAME.lock`
guards the compare-and-swap of NAME.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aiofiles.threadpool import wrap

from strata_zmq.domain.names import check_path
from strata_zmq.errors import InvalidArgumentError, NotFoundError, StorageError
from strata_zmq.storage.base import Data, Parts, Traits, VersionConflictError, check_key, check_prefix, parts_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

__all__ = ["LOCK_TIMEOUT_S", "LocalStorage"]

LOCK_TIMEOUT_S = 30.0
"""How long a compare-and-swap waits for the lock file; a healthy holder needs milliseconds."""

_TRAITS = Traits(object_bytes_best=8 * 1024 * 1024, puts_at_once=4)
_TEMPORARY = ".tmp-"
_LOCK_POLL_S = 0.005
_CLAIM_ATTEMPTS = 100
_OPENERS = 8
_pools: dict[int, ThreadPoolExecutor] = {}

_WAYS_OUT = {
    errno.EACCES: "give this user write permission or choose another folder",
    errno.EPERM: "give this user write permission or choose another folder",
    errno.EROFS: "the file system is mounted read-only: remount it or choose another folder",
    errno.ENOSPC: "free space on the device, lower keep_count or choose another folder",
    errno.EDQUOT: "the quota is used up: free space or choose another folder",
    errno.ENOTDIR: "a component of the path is a file: move it away or choose another folder",
    errno.EEXIST: "a file stands where a folder is needed: move it away or choose another folder",
    errno.EISDIR: "a folder stands where an object is needed: move it away or choose another key",
    errno.ENAMETOOLONG: "a name is too long for this file system: use shorter names",
    errno.ENOENT: "it cannot be made there, or somebody removed it: check the path or choose another folder",
    errno.EIO: "the device reports errors: check it and choose another folder",
}


class LocalStorage:
    """A folder as a Storage. Several processes may use the same folder at once."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(check_path("path", os.fspath(root))).expanduser().absolute()

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    @property
    def traits(self) -> Traits:
        """How it likes to be used."""
        return _TRAITS

    async def prepare(self) -> None:
        """Create the folder and prove with a small file that it can be written."""

        def probe() -> None:
            temporary = self._temporary_beside(self._root / "probe")
            with _named(self._root, writing=True):
                _make_folders(self._root)
                try:
                    temporary.write_bytes(b"strata")
                finally:
                    temporary.unlink(missing_ok=True)

        await asyncio.to_thread(probe)

    async def put(self, key: str, data: Parts) -> None:
        """Store `data` whole and durably; an object of the same key is replaced at once."""
        path = self._path(key)
        with _named(path, writing=True):
            temporary = await asyncio.to_thread(self._claim, path)
            try:
                async with _opened(temporary, "wb") as file:
                    for part in parts_of(data):
                        await file.write(part)
                    await file.flush()
                    await asyncio.to_thread(os.fsync, file.fileno())
                await asyncio.to_thread(_publish, temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return bytes [start, stop) of the object."""
        if start < 0 or (stop is not None and stop < start):
            raise InvalidArgumentError(f"range [{start}, {stop}) of {key}: need 0 <= start <= stop")
        path = self._path(key)
        with _named(path):
            async with _opened(path, "rb") as file:
                if start:
                    await file.seek(start)
                data: bytes = await file.read(-1 if stop is None else stop - start)
                return data

    async def get_into(self, key: str, start: int, into: memoryview) -> int:
        """Read from `start` on into `into`."""
        if start < 0:
            raise InvalidArgumentError(f"start is {start} for {key}: give a place in the object")
        path = self._path(key)

        def read(descriptor: int) -> int:
            done = 0
            while done < len(into):
                count = os.preadv(descriptor, [into[done:]], start + done)
                if not count:
                    break
                done += count
            return done

        with _named(path):
            async with _opened(path, "rb") as file:
                return await asyncio.to_thread(read, file.fileno())

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        path = self._path(key)
        with _named(path):
            return await asyncio.to_thread(path.is_file)

    async def list(self, prefix: str = "") -> list[str]:
        """Return all keys that begin with `prefix`, in ascending order; an absent folder is empty."""
        check_prefix(prefix)
        base = self._root / prefix.rpartition("/")[0]

        def scan() -> list[str]:
            found = (path.relative_to(self._root).as_posix() for path in _files(base))
            return sorted(key for key in found if key.startswith(prefix) and "/." not in f"/{key}")

        with _named(base):
            return await asyncio.to_thread(scan)

    async def delete(self, key: str) -> None:
        """Remove the object, and the folders that become empty by it."""
        path = self._path(key)

        def remove() -> None:
            path.unlink(missing_ok=True)
            self._prune(path.parent)

        with _named(path):
            await asyncio.to_thread(remove)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, one after the other."""
        for key in keys:
            await self.delete(key)

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        """Return the object and a digest of its bytes as its version."""
        try:
            data = await self.get(key)
        except NotFoundError:
            return None, None
        return data, _version(data)

    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        """Compare and swap under an exclusive lock on `.NAME.lock` beside the object."""
        path = self._path(key)

        def swap() -> str:
            _make_folders(path.parent)
            with _locked(path.with_name(f".{path.name}.lock")):
                found = _version(path.read_bytes()) if path.exists() else None
                if found != expected_version:
                    raise VersionConflictError(
                        f"{path} was replaced by somebody else since it was read: read it again and decide anew"
                    )
                temporary = self._temporary_beside(path)
                try:
                    with temporary.open("wb") as file:
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
                    _publish(temporary, path)
                except BaseException:
                    temporary.unlink(missing_ok=True)
                    raise
            return _version(data)

        with _named(path, writing=True):
            return await asyncio.to_thread(swap)

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """Remove temporary files that were not written to for `older_than_s` seconds, and empty folders of that age."""
        check_prefix(prefix)
        base = self._root / prefix.rpartition("/")[0]

        def remove() -> int:
            count = 0
            for folder, folders, names in os.walk(base, topdown=False):
                for path in (Path(folder) / name for name in names if name.startswith(_TEMPORARY)):
                    if path.relative_to(self._root).as_posix().startswith(prefix) and _aged(path, older_than_s):
                        path.unlink(missing_ok=True)
                        count += 1
                for path in (Path(folder) / name for name in folders):
                    if _aged(path, older_than_s):
                        with contextlib.suppress(OSError):
                            path.rmdir()
            return count

        with _named(base):
            return await asyncio.to_thread(remove)

    async def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @staticmethod
    def _temporary_beside(path: Path) -> Path:
        return path.with_name(f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}")

    def _claim(self, path: Path) -> Path:
        """Create an empty temporary file beside `path`, with the folders it needs."""
        temporary = self._temporary_beside(path)
        for remaining in reversed(range(_CLAIM_ATTEMPTS)):
            try:
                _make_folders(path.parent)
                temporary.touch(exist_ok=False)
                break
            except FileNotFoundError:
                # A deletion pruned the folder, or one above it, in between.
                if not remaining:
                    raise
        return temporary

    def _prune(self, folder: Path) -> None:
        while folder != self._root and self._root in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _threads() -> ThreadPoolExecutor:
    """Return this process's threads for opening and closing; a forked child gets its own."""
    pid = os.getpid()
    if pid not in _pools:
        _pools[pid] = ThreadPoolExecutor(_OPENERS, "strata-files")
    return _pools[pid]


@contextlib.asynccontextmanager
async def _opened(path: Path, mode: Literal["rb", "wb"]) -> AsyncIterator[Any]:
    """Open a file in a thread and close it, whatever is cancelled meanwhile, the event loop's end included."""
    opening = _threads().submit(_open, path, mode)
    try:
        file = await asyncio.shield(asyncio.wrap_future(opening))
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unused)
        raise
    try:
        yield wrap(file)
    finally:
        await asyncio.shield(asyncio.wrap_future(_threads().submit(file.close)))


def _open(path: Path, mode: Literal["rb", "wb"]) -> Any:
    return path.open(mode)


def _close_unused(opening: Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _version(data: Data) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _files(base: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(base):
        for name in names:
            yield Path(folder) / name


def _aged(path: Path, older_than_s: float) -> bool:
    try:
        # A file's age is told by the clock that stamped it, not by a monotonic one.
        return time.time() - path.stat().st_mtime >= older_than_s
    except FileNotFoundError:
        return False


def _make_folders(folder: Path) -> None:
    """Create `folder` and its parents durably: a new folder exists after a crash only if its parent was synced."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        if folder == folder.parent:
            break
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir()
        except FileExistsError:
            # Somebody else made it, and may have pruned it again by now: whoever claims a file in it finds out.
            if path.exists() and not path.is_dir():
                raise
        _sync_folder(path.parent)


def _publish(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)  # noqa: PTH105 - one name for tests that cut the power here
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, path)
        yield
    finally:
        # Closing lets the lock go, as the kernel does when the process dies.
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{path} has been locked by another process for {LOCK_TIMEOUT_S:.0f} s: "
                    "find it (for example with `lslocks`) and let it finish or end it"
                ) from None
            time.sleep(_LOCK_POLL_S)
        else:
            return


@contextlib.contextmanager
def _named(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Turn the system's errors into ours, which name the path, the reason and the way out."""
    try:
        yield
    except (StorageError, NotFoundError):
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise NotFoundError(f"{error.filename or path} does not exist") from None
        reason = error.strerror or str(error)
        way_out = _WAYS_OUT.get(error.errno or 0, "check the path and the device, then try again")
        raise StorageError(f"{error.filename or path} cannot be used: {reason}; {way_out}") from error
