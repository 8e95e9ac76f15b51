"""The system calls by which the local backend changes a disk, one method each; never when or why they are made.

Tests put another Files in its place: one that writes down every call, so that each state in which a power cut could
leave the disk can be made and looked at. Failpoints sit here, before the call that they are named after.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from strata_zmq.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Files"]


class Files:
    """The file system. Every method may raise OSError."""

    def create(self, path: Path) -> int:
        """Make a new file and return its descriptor, for writing; FileExistsError where there is one."""
        failpoint("storage.create")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def set_direct(self, descriptor: int, *, direct: bool) -> None:
        """Write past the page cache from now on, or through it again; EINVAL where the file system cannot."""
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT)

    def write(self, descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
        """Write pieces one after the other from `offset` on; returns how many bytes were taken."""
        failpoint("storage.write")
        return os.pwritev(descriptor, pieces, offset)

    def sync(self, descriptor: int) -> None:
        """Return when what was written to the file is durable."""
        failpoint("storage.sync")
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name at once; what had that name is gone."""
        failpoint("storage.rename")
        os.replace(source, target)  # noqa: PTH105 - one name for tests that cut the power here

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        failpoint("storage.unlink")
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Make a folder in one that is there."""
        failpoint("storage.make_folder")
        path.mkdir()

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        failpoint("storage.remove_folder")
        path.rmdir()

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder are durable: files and folders made, renamed and removed in it."""
        failpoint("storage.sync_folder")
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
