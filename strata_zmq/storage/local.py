"""Objects as files under one folder: temporary file, fsync, rename, fsync of the folder; knows nothing of checkpoints.

Files that begin with a dot are this backend's own: `.tmp-...` is a write that has not been published, `.NAME.lock`
guards the compare-and-swap of NAME.

Whole objects are read by aiofiles. Writing needs what aiofiles has not (several pieces in one call, direct writes,
fsync, and an end that can be waited for before the caller's memory is used again), and so it has threads of its own.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiofiles.threadpool import wrap

from strata_zmq.domain.names import check_path
from strata_zmq.errors import DurabilityError, InvalidArgumentError, NotFoundError, StorageError
from strata_zmq.storage.base import (
    Arrived,
    Data,
    Parts,
    Traits,
    VersionConflictError,
    check_key,
    check_prefix,
    parts_of,
)
from strata_zmq.storage.direct import BLOCK, DIRECT_BYTES_MIN, write_object
from strata_zmq.storage.files import Files
from strata_zmq.storage.threads import SharedCalls, in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

__all__ = ["LOCK_TIMEOUT_S", "LocalStorage"]

LOCK_TIMEOUT_S = 30.0
"""How long a compare-and-swap waits for the lock file; a healthy holder needs milliseconds."""

_OBJECT_BYTES_BEST = 64 << 20
_PUTS_AT_ONCE = 3
_TEMPORARY = ".tmp-"
_LOCK_POLL_S = 0.005
_CLAIM_ATTEMPTS = 100
_READ_BYTES = 8 << 20

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
    """A folder as a Storage. Several processes may use the same folder at once.

    Objects from 1 MiB upwards are written past the page cache, straight from memory that lies at multiples of 4096,
    unless `direct` is False or the file system refuses. `files` makes the system calls.
    """

    def __init__(self, root: str | os.PathLike[str], *, direct: bool = True, files: Files | None = None) -> None:
        self._root = Path(check_path("path", os.fspath(root))).expanduser().absolute()
        self._direct = direct
        self._files = files or Files()
        self._sync_folder = SharedCalls(self._files.sync_folder)
        self._durable: set[Path] = set()
        """Folders from the root downwards whose names are known to outlive a power cut."""

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    @property
    def traits(self) -> Traits:
        """How it likes to be used."""
        return Traits(_OBJECT_BYTES_BEST, _PUTS_AT_ONCE, aligned=BLOCK if self._direct else 1)

    async def prepare(self) -> None:
        """Create the folder and prove with a small file that it can be written."""

        def probe(proceed: Callable[[], None]) -> None:
            self._make_folders(self._root)
            descriptor, temporary = self._claim(self._root / "probe")
            try:
                try:
                    self._write(descriptor, [memoryview(b"strata")], proceed)
                finally:
                    self._files.close(descriptor)
            finally:
                self._remove(temporary)

        with _named(self._root, writing=True):
            await in_thread(probe)

    async def put(self, key: str, data: Parts) -> None:
        """Store `data` whole and durably; an object of the same key is replaced at once.

        When it is cancelled, it ends after the write under way: nobody reads `data` any more then.
        """
        path, parts = self._path(key), parts_of(data)
        large = sum(part.nbytes for part in parts) >= DIRECT_BYTES_MIN
        with _named(path, writing=True):
            await in_thread(lambda proceed: self._store(path, parts, proceed), bulk=large)

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return bytes [start, stop) of the object."""
        if start < 0 or (stop is not None and stop < start):
            raise InvalidArgumentError(f"range [{start}, {stop}) of {key}: need 0 <= start <= stop")
        path = self._path(key)
        with _named(path):
            async with _opened(path) as file:
                if start:
                    await file.seek(start)
                data: bytes = await file.read(-1 if stop is None else stop - start)
                return data

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        """Read from `start` on into `into`, which nobody writes to any more when this ends, cancelled or not."""
        if start < 0:
            raise InvalidArgumentError(f"start is {start} for {key}: give a place in the object")
        path, room = self._path(key), into.cast("B")
        if room.readonly:
            raise InvalidArgumentError(f"into is read-only: give memory that {key} can be read into")

        def read(proceed: Callable[[], None]) -> int:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                done = 0
                while done < room.nbytes:
                    proceed()
                    count = os.preadv(descriptor, [room[done : done + _READ_BYTES]], start + done)
                    if not count:
                        break
                    done += count
                    if arrived is not None:
                        arrived(done)
                return done
            finally:
                os.close(descriptor)

        with _named(path):
            return await in_thread(read, bulk=room.nbytes >= DIRECT_BYTES_MIN)

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
        await self.delete_many([key])

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, and the folders that become empty by it."""
        paths = [self._path(key) for key in keys]

        def remove(proceed: Callable[[], None]) -> None:
            self._settle_above(paths)
            for path in paths:
                proceed()
                self._remove(path)
            for folder in dict.fromkeys(path.parent for path in paths):
                self._prune(folder)

        with _named(paths[0] if paths else self._root):
            await in_thread(remove)

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

        def swap(proceed: Callable[[], None]) -> str:
            with _locked(self._open_lock(path), path):
                found = _version(path.read_bytes()) if path.exists() else None
                if found != expected_version:
                    raise VersionConflictError(
                        f"{path} was replaced by somebody else since it was read: read it again and decide anew"
                    )
                self._store(path, parts_of(data), proceed)
            return _version(data)

        with _named(path, writing=True):
            return await in_thread(swap)

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """Remove temporary files that were not written to for `older_than_s` seconds, and empty folders of that age."""
        check_prefix(prefix)
        base = self._root / prefix.rpartition("/")[0]

        def remove(proceed: Callable[[], None]) -> int:
            count = 0
            for folder, folders, names in os.walk(base, topdown=False):
                for path in (Path(folder) / name for name in names if name.startswith(_TEMPORARY)):
                    if path.relative_to(self._root).as_posix().startswith(prefix) and _aged(path, older_than_s):
                        proceed()
                        self._remove(path)
                        count += 1
                for path in (Path(folder) / name for name in folders):
                    if _aged(path, older_than_s):
                        with contextlib.suppress(OSError):
                            self._remove_folder(path)
            return count

        with _named(base):
            return await in_thread(remove)

    async def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _store(self, path: Path, parts: Sequence[memoryview], proceed: Callable[[], None]) -> None:
        """Write, sync, rename, sync the folder. Whatever fails, no part is left behind."""
        descriptor, temporary = self._claim(path)
        try:
            try:
                self._write(descriptor, parts, proceed)
                with _lasting(path):
                    self._files.sync(descriptor)
            finally:
                self._files.close(descriptor)
            proceed()
            self._files.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self._remove(temporary)
            raise
        with _lasting(path):
            self._sync_folder(path.parent)

    def _write(self, descriptor: int, parts: Sequence[memoryview], proceed: Callable[[], None]) -> None:
        if not write_object(self._files, descriptor, parts, direct=self._direct, proceed=proceed):
            # Asked once, and not for every object again.
            self._direct = False

    def _claim(self, path: Path) -> tuple[int, Path]:
        """Create an empty temporary file beside `path`, with the folders it needs; return its descriptor, too."""
        temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}")
        return self._in_folder(path.parent, lambda: self._files.create(temporary)), temporary

    def _in_folder(self, folder: Path, make: Callable[[], int]) -> int:
        """Make something in a folder, and the folder first; tries again when a deletion prunes it in between."""
        attempts = 0
        while True:
            attempts += 1
            try:
                self._make_folders(folder)
                return make()
            except FileNotFoundError:
                self._durable.difference_update([folder, *folder.parents])
                if attempts == _CLAIM_ATTEMPTS:
                    raise

    def _settle_above(self, paths: Sequence[Path]) -> None:
        """Make names durable in the folders above those that are about to lose some.

        What a HEAD allows to be deleted must not be gone while a power cut can still bring the HEAD before it back. Who
        put it there syncs it, but may have died just before.
        """
        losing = {path.parent for path in paths}
        for folder in dict.fromkeys(above for one in sorted(losing) for above in one.parents):
            if folder == self._root or self._root in folder.parents:
                with _lasting(folder), contextlib.suppress(FileNotFoundError):
                    self._sync_folder(folder)

    def _open_lock(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        return self._in_folder(path.parent, lambda: os.open(_lock_path(path), flags, 0o644))

    def _make_folders(self, folder: Path) -> None:
        """Make sure that `folder` and those above it are there and that their names outlive a power cut.

        A folder that somebody else has just made is not durable yet: its parent is synced all the same, once.
        """
        doubtful: list[Path] = []
        while folder not in self._durable and not (folder in self._root.parents and folder.is_dir()):
            doubtful.append(folder)
            if folder == folder.parent:
                break
            folder = folder.parent
        for path in reversed(doubtful):
            made = not path.is_dir()
            if made:
                try:
                    self._files.make_folder(path)
                except FileExistsError:
                    # Somebody else made it, and may have pruned it again by now: whoever claims a file in it finds out.
                    if path.exists() and not path.is_dir():
                        raise
            with _lasting(path):
                try:
                    self._sync_folder(path.parent)
                except PermissionError:
                    # The folder above one that was given to us may be closed to us.
                    if made:
                        raise
            self._durable.add(path)

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(path)

    def _remove_folder(self, folder: Path) -> None:
        self._durable.discard(folder)
        self._files.remove_folder(folder)

    def _prune(self, folder: Path) -> None:
        while folder != self._root and self._root in folder.parents:
            try:
                self._remove_folder(folder)
            except OSError:
                return
            folder = folder.parent


@contextlib.asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[Any]:
    """Open a file for reading in a thread and close it, whatever is cancelled meanwhile."""
    file = await in_thread(lambda proceed: path.open("rb"), drop=lambda file: file.close())
    try:
        yield wrap(file)
    finally:
        await in_thread(lambda proceed: file.close())


@contextlib.contextmanager
def _lasting(path: Path) -> Iterator[None]:
    """Turn a failed fsync into what it means: nobody knows what of it is on the disk."""
    try:
        yield
    except FileNotFoundError:
        # The folder to be synced was removed: nothing was lost that anybody can still name.
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DurabilityError(
            f"{path} is given up, since the disk did not say that it will last: {reason}; "
            f"{_WAYS_OUT.get(error.errno or 0, 'check the device or choose another folder')}"
        ) from error


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


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


@contextlib.contextmanager
def _locked(descriptor: int, path: Path) -> Iterator[None]:
    try:
        _lock(descriptor, _lock_path(path))
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
