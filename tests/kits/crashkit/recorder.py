"""Writes down every call by which the local backend changes a disk; the disk is changed, too, but nothing is synced."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from strata_zmq.storage.files import Files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Op", "RecordingFiles", "UnsyncedFiles"]

Kind = Literal["create", "write", "sync", "rename", "unlink", "make_folder", "remove_folder", "sync_folder", "ack"]


@dataclass(frozen=True, slots=True)
class Op:
    """One call. `node` is the file's number, one for each file ever made; `number` is what an ack acknowledges."""

    kind: Kind
    path: str = ""
    node: int = 0
    offset: int = 0
    data: bytes = b""
    target: str = ""
    number: int = 0


class UnsyncedFiles(Files):
    """The file system without its slowest part, for what need not outlive a power cut."""

    def sync(self, descriptor: int) -> None:
        """Promise nothing."""

    def sync_folder(self, path: Path) -> None:
        """Promise nothing, but that there is such a folder."""
        path.stat()


class RecordingFiles(UnsyncedFiles):
    """Calls go through one at a time, so that their order is known."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self._lock = threading.Lock()
        self._open: dict[int, tuple[str, int]] = {}
        self._nodes = 0

    def ack(self, number: int) -> None:
        """Note that somebody was told that `number` is durable."""
        with self._lock:
            self.ops.append(Op("ack", number=number))

    def create(self, path: Path) -> int:
        """Make a new file."""
        with self._lock:
            descriptor = super().create(path)
            self._nodes += 1
            self._open[descriptor] = (str(path), self._nodes)
            self.ops.append(Op("create", str(path), self._nodes))
            return descriptor

    def write(self, descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
        """Write, and keep a copy."""
        with self._lock:
            count = super().write(descriptor, pieces, offset)
            path, node = self._open[descriptor]
            self.ops.append(Op("write", path, node, offset, b"".join(pieces)[:count]))
            return count

    def sync(self, descriptor: int) -> None:
        """Note that the file's bytes are durable now."""
        with self._lock:
            path, node = self._open[descriptor]
            self.ops.append(Op("sync", path, node))

    def close(self, descriptor: int) -> None:
        """Close a descriptor, whose number may come again."""
        with self._lock:
            self._open.pop(descriptor)
            super().close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name."""
        with self._lock:
            super().rename(source, target)
            self.ops.append(Op("rename", str(source), target=str(target)))

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        with self._lock:
            super().unlink(path)
            self.ops.append(Op("unlink", str(path)))

    def make_folder(self, path: Path) -> None:
        """Make a folder."""
        with self._lock:
            super().make_folder(path)
            self.ops.append(Op("make_folder", str(path)))

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        with self._lock:
            super().remove_folder(path)
            self.ops.append(Op("remove_folder", str(path)))

    def sync_folder(self, path: Path) -> None:
        """Note that the folder's names are durable now."""
        with self._lock:
            super().sync_folder(path)
            self.ops.append(Op("sync_folder", str(path)))
