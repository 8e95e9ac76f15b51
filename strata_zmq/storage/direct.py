"""Bytes from several places in memory into one new file, past the page cache where the file system can; never names.

A buffered write copies every byte once more and leaves the disk to the kernel's write-back, which is several times
slower than the disk. A direct write (O_DIRECT) takes memory, lengths and offsets at multiples of 4096 only: pieces that
lie so are given to the kernel as they are, others pass through a buffer, and what is left at the end is written with
direct writing switched off.
"""

from __future__ import annotations

import errno
import mmap
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from strata_zmq.storage.files import Files

__all__ = ["BLOCK", "DIRECT_BYTES_MIN", "address_of", "write_object"]

BLOCK = 4096
"""Bytes to whose multiples direct writes are bound: a page, and no less than any disk's sector."""

DIRECT_BYTES_MIN = 1 << 20
"""Objects below this are written through the page cache: one fsync costs more than the copy."""

_PIECE_BYTES = 64 << 20
_BOUNCE_BYTES = 8 << 20
_PIECES_MAX = 512
"""The kernel takes 1024 pieces in one call."""
_RUN_BYTES_MIN = 256 << 10
"""Shorter runs are copied together: a direct write waits for the disk each time."""
_BOUNCES_KEPT = 4
_bounces: deque[mmap.mmap] = deque(maxlen=_BOUNCES_KEPT)


@dataclass(slots=True)
class _Step:
    """What one write takes: pieces that all lie at multiples of BLOCK, or pieces to be copied together first."""

    pieces: list[memoryview]
    nbytes: int
    as_it_lies: bool


def write_object(
    files: Files, descriptor: int, parts: Sequence[memoryview], *, direct: bool, proceed: Callable[[], None]
) -> bool:
    """Write `parts` (bytes, one after the other) from the beginning of an empty file; nothing is synced.

    `proceed` is called before every write and may raise. Returns False if direct writes were asked for and the file
    system refused them: the object was then written through the page cache.
    """
    parts = [part for part in parts if part.nbytes]
    wanted = direct and sum(part.nbytes for part in parts) >= DIRECT_BYTES_MIN
    writer = _Writer(files, descriptor, proceed, direct=wanted)
    if not writer.direct:
        for step in _gathered(parts):
            writer.write(step.pieces)
        return not wanted
    bounce: mmap.mmap | None = None
    try:
        for step in plan(parts):
            if step.as_it_lies:
                writer.write(step.pieces)
                continue
            bounce = bounce or _take_bounce()
            with memoryview(bounce) as room:
                _join(step.pieces, room)
                whole = step.nbytes // BLOCK * BLOCK
                with room[:whole] as front, room[whole : step.nbytes] as tail:
                    if front.nbytes:
                        writer.write([front])
                    if tail.nbytes:
                        writer.end_direct()
                        writer.write([tail])
    finally:
        if bounce is not None:
            _bounces.append(bounce)
    return not writer.refused


def plan(parts: Sequence[memoryview]) -> Iterator[_Step]:
    """Cut `parts` into writes: every step but the last has a multiple of BLOCK bytes."""
    lying, copied = _Step([], 0, as_it_lies=True), _Step([], 0, as_it_lies=False)
    for part in parts:
        address, at, end = address_of(part), 0, part.nbytes
        while at < end:
            fits = (address + at - copied.nbytes) % BLOCK == 0
            whole = (end - at) // BLOCK * BLOCK
            if fits and copied.nbytes % BLOCK == 0 and whole >= _RUN_BYTES_MIN:
                if copied.nbytes:
                    yield copied
                    copied = _Step([], 0, as_it_lies=False)
                take = min(whole, _PIECE_BYTES - lying.nbytes)
                _add(lying, part[at : at + take])
                if lying.nbytes == _PIECE_BYTES or len(lying.pieces) == _PIECES_MAX:
                    yield lying
                    lying = _Step([], 0, as_it_lies=True)
            else:
                if lying.nbytes:
                    yield lying
                    lying = _Step([], 0, as_it_lies=True)
                take = min(end - at, _BOUNCE_BYTES - copied.nbytes)
                if fits and whole >= _RUN_BYTES_MIN:
                    # Up to the next multiple only: from there on the part can be written as it lies.
                    take = min(take, BLOCK - copied.nbytes % BLOCK)
                _add(copied, part[at : at + take])
                if copied.nbytes == _BOUNCE_BYTES:
                    yield copied
                    copied = _Step([], 0, as_it_lies=False)
            at += take
    for step in (lying, copied):
        if step.nbytes:
            yield step


def address_of(data: memoryview) -> int:
    """Return where bytes lie in memory."""
    address: int = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    return address


class _Writer:
    """Writes all of what it is given at the file's end, however much the kernel takes at once."""

    def __init__(self, files: Files, descriptor: int, proceed: Callable[[], None], *, direct: bool) -> None:
        self._files = files
        self._descriptor = descriptor
        self._proceed = proceed
        self._offset = 0
        self.direct = False
        self.refused = False
        if direct:
            try:
                files.set_direct(descriptor, direct=True)
                self.direct = True
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise

    def write(self, pieces: Sequence[memoryview]) -> None:
        left = list(pieces)
        while left:
            self._proceed()
            try:
                count = self._files.write(self._descriptor, left, self._offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self.direct:
                    raise
                # Some file systems agree to direct writing and refuse the first write.
                self.refused = True
                self.end_direct()
                continue
            self._offset += count
            left = _without(left, count)
            if left and count % BLOCK:
                self.end_direct()

    def end_direct(self) -> None:
        if self.direct:
            self._files.set_direct(self._descriptor, direct=False)
            self.direct = False


def _gathered(parts: Sequence[memoryview]) -> Iterator[_Step]:
    step = _Step([], 0, as_it_lies=True)
    for part in parts:
        for at in range(0, part.nbytes, _BOUNCE_BYTES):
            _add(step, part[at : at + _BOUNCE_BYTES])
            if step.nbytes >= _BOUNCE_BYTES or len(step.pieces) == _PIECES_MAX:
                yield step
                step = _Step([], 0, as_it_lies=True)
    if step.nbytes:
        yield step


def _add(step: _Step, piece: memoryview) -> None:
    step.pieces.append(piece)
    step.nbytes += piece.nbytes


def _without(pieces: list[memoryview], count: int) -> list[memoryview]:
    """Return what is left of pieces after their first `count` bytes."""
    for number, piece in enumerate(pieces):
        if count < piece.nbytes:
            return [piece[count:], *pieces[number + 1 :]]
        count -= piece.nbytes
    return []


def _join(pieces: Sequence[memoryview], room: memoryview) -> None:
    at = 0
    for piece in pieces:
        room[at : at + piece.nbytes] = piece
        at += piece.nbytes


def _take_bounce() -> mmap.mmap:
    try:
        return _bounces.pop()
    except IndexError:
        # Private: a forked child must not share it with its parent.
        return mmap.mmap(-1, _BOUNCE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
