"""One sealed piece of shared memory, and handing it to another process: descriptors, never names, never copies.

Knows nothing about batches, chunks or rings. A memfd lives exactly as long as somebody holds it: there is nothing to
unlink, a killed process group leaves nothing behind, and the size of /dev/shm does not matter.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import math
import mmap
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from strata_zmq.errors import InvalidArgumentError, ProtocolError, ResourceExhaustedError
from strata_zmq.feed.descriptors import LABEL_BYTES_MAX, recv_descriptors, send_descriptors
from strata_zmq.feed.memory import available_memory

if TYPE_CHECKING:
    import socket

    from numpy.typing import DTypeLike, NDArray

__all__ = ["LABEL_BYTES_MAX", "MemfdSegment", "recv_segment", "send_segment"]

_NAME_BYTES_MAX = 200  # the kernel allows 249
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_MADV_POPULATE_WRITE = 23  # Linux 5.14; the mmap module has no name for it before Python 3.15
_libc = ctypes.CDLL(None, use_errno=True)


class MemfdSegment:
    """A fixed number of bytes that several processes map; `create` makes one, `attach` maps a received descriptor.

    The size is rounded up to whole pages and sealed: no holder can shrink it under another holder's feet, so a
    checked offset stays valid (a shrunk file would be SIGBUS). Contents start as zeros.
    """

    def __init__(self, fd: int, size: int, *, writable: bool) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map: mmap.mmap | None = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=access)
        self._fd = fd
        self.size = size
        self.writable = writable

    @classmethod
    def create(cls, name: str, size: int, *, populate: bool = True) -> Self:
        """Allocate `size` bytes; `name` is what /proc shows, it need not be unique.

        With `populate` every page is touched here, once: the first touch of a page runs at about 1 GB/s, a reused
        page at memory speed. The interpreter lock is free meanwhile, so heartbeats of this process go on.

        Raises InvalidArgumentError for a name or size outside the limits, and ResourceExhaustedError where the
        machine or a cgroup has not that much memory left.
        """
        if not 0 < len(name.encode()) <= _NAME_BYTES_MAX or "\0" in name:
            raise InvalidArgumentError(f"segment name: 1 to {_NAME_BYTES_MAX} bytes without NUL, got {name!r}")
        if size <= 0:
            raise InvalidArgumentError(f"segment size: at least 1 byte, got {size}")
        size = _whole_pages(size)
        room = available_memory()
        if room is not None and size > room:
            raise _no_room(name, size, f"{room} bytes are available here")
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # Without this a shortage would be a SIGBUS at some later touch; here it is an error code.
            os.ftruncate(fd, size)
            os.posix_fallocate(fd, 0, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            segment = cls(fd, size, writable=True)
        except (OSError, OverflowError) as error:
            os.close(fd)
            raise _no_room(name, size, f"the system says: {error}") from error
        if populate:
            segment._populate()
        return segment

    @classmethod
    def attach(cls, fd: int, size: int | None = None, *, writable: bool = True) -> Self:
        """Map the segment behind `fd`; the new object owns the descriptor, also when this raises.

        `size` is what the sender claims: a smaller file, or one that its sender could still shrink, is a ProtocolError.
        """
        try:
            return cls(fd, _sealed_size(fd, size), writable=writable)
        except OSError as error:
            os.close(fd)
            raise ProtocolError(f"segment: the descriptor is no memfd that can be mapped ({error.strerror})") from error
        except ProtocolError:
            os.close(fd)
            raise

    @property
    def fd(self) -> int:
        """The memfd, owned by this object; pass it on with `send_segment` or `subprocess`'s `pass_fds`."""
        self._mapping()
        return self._fd

    @property
    def view(self) -> memoryview:
        """All bytes, read-only if the segment was attached so."""
        return memoryview(self._mapping())

    def array(self, dtype: DTypeLike, shape: tuple[int, ...], offset: int = 0) -> NDArray[Any]:
        """Return a NumPy view (no copy) of `shape` elements of `dtype`, C order, starting `offset` bytes in."""
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise InvalidArgumentError(f"segment array: dtype {kind} holds Python objects, which cannot be shared")
        end = offset + kind.itemsize * math.prod(shape)
        if offset < 0 or min(shape, default=0) < 0 or end > self.size:
            raise InvalidArgumentError(
                f"segment array: bytes {offset} to {end} are asked for, the segment has {self.size}"
            )
        return np.ndarray(shape, kind, buffer=self._mapping(), offset=offset)

    def close(self) -> None:
        """Give the descriptor back and let go of the memory; calling again is harmless.

        Arrays and slices of `view` that still exist stay valid: the memory is unmapped with the last of them.
        """
        if self._map is not None:
            # Dropped, not closed: NumPy arrays refer to the mmap without exporting its buffer, so that mmap.close()
            # would unmap the memory under them.
            self._map = None
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_map", None) is not None:
            self.close()

    def _mapping(self) -> mmap.mmap:
        if self._map is None:
            raise InvalidArgumentError("segment: closed; use it inside its `with` block")
        return self._map

    def _populate(self) -> None:
        """Touch every page, with the interpreter lock free (mmap's own MAP_POPULATE and madvise would hold it)."""
        page = self.array(np.uint8, (self.size,))
        if _libc.madvise(ctypes.c_void_p(page.ctypes.data), ctypes.c_size_t(self.size), _MADV_POPULATE_WRITE) == 0:
            return
        if ctypes.get_errno() != errno.EINVAL:
            raise _no_room("segment", self.size, f"the system says: {os.strerror(ctypes.get_errno())}")
        page[:: mmap.PAGESIZE] = 0  # a kernel before 5.14; the pages are allocated, so this cannot fail


def send_segment(sock: socket.socket, segment: MemfdSegment, label: bytes, *, timeout_s: float = 10.0) -> None:
    """Hand `segment` to the process at the other end of a connected AF_UNIX stream socket.

    `label` (at most LABEL_BYTES_MAX bytes) says what it is for. The sender keeps its own mapping and may close it
    at once: the memory lives while either side holds it. Errors are those of `send_descriptors`.
    """
    send_descriptors(sock, [segment.fd], label, timeout_s=timeout_s)


def recv_segment(sock: socket.socket, *, timeout_s: float = 10.0, writable: bool = True) -> tuple[MemfdSegment, bytes]:
    """Return the next segment and its label, sent by `send_segment` over the same AF_UNIX stream socket.

    Errors are those of `recv_descriptors`; a descriptor that is no sealed segment is a ProtocolError.
    """
    (fd,), label = recv_descriptors(sock, 1, timeout_s=timeout_s)
    return MemfdSegment.attach(fd, writable=writable), label


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _sealed_size(fd: int, announced: int | None) -> int:
    actual = os.fstat(fd).st_size
    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
        raise ProtocolError("segment: not sealed against shrinking; send one made by MemfdSegment.create")
    if actual == 0 or (announced is not None and _whole_pages(announced) != actual):
        raise ProtocolError(f"segment: {announced} bytes were announced, the descriptor holds {actual}")
    return actual


def _no_room(name: str, size: int, reason: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"segment {name}: {size} bytes do not fit, {reason}; make it smaller or raise the memory limit"
    )
