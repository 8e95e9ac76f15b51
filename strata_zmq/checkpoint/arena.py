"""Staging memory: large pieces of shared memory, made and touched once and used again; knows no arrays, no chunks.

The first page of an arena is its header, which whoever maps the arena can read: above all the epoch, a counter that is
raised before the memory is used again. Who reads it before and after has read bytes of one save, or knows better.
Behind the data of a save its will may lie: what another process needs to finish the save without its maker.
"""

from __future__ import annotations

import struct
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from strata_zmq.errors import DeadlineExceededError, InvalidArgumentError, ProtocolError, StrataError
from strata_zmq.feed.segment import MemfdSegment

__all__ = ["HEADER", "HEADER_BYTES", "MAGIC", "STAGED", "Arena", "ArenaPool", "Header", "read_epoch", "read_header"]

HEADER = struct.Struct("<8sQIQQ32s")
"""Magic, epoch, state, and the will's offset, size in bytes and blake3."""

HEADER_BYTES = 4096
"""Where the data begins: a page of its own, so that everything behind it is aligned."""

MAGIC = b"strataA1"
STAGED = 1
"""State of an arena that holds a whole save and its will; 0 otherwise."""

_EPOCH_AT = 8
_EPOCH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Header:
    """What an arena says of itself. `will_digest` is a blake3 of 32 bytes."""

    epoch: int
    state: int = 0
    will_offset: int = 0
    will_bytes: int = 0
    will_digest: bytes = bytes(32)


def read_header(view: memoryview) -> Header:
    """Return the header of the arena that `view` shows from its beginning; ProtocolError where there is none."""
    if view.nbytes < HEADER_BYTES:
        raise ProtocolError(f"staging memory of {view.nbytes} bytes has no header, which takes {HEADER_BYTES}")
    magic, epoch, state, offset, nbytes, digest = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise ProtocolError(f"staging memory begins with {magic!r} instead of {MAGIC!r}")
    return Header(epoch, state, offset, nbytes, digest)


def read_epoch(view: memoryview) -> int:
    """Return the epoch alone, as often as one likes."""
    epoch: int = _EPOCH.unpack_from(view, _EPOCH_AT)[0]
    return epoch


class Arena:
    """One reusable piece of staging memory; `number` is unique within its pool."""

    __slots__ = ("_epoch", "number", "segment")

    def __init__(self, number: int, segment: MemfdSegment) -> None:
        self.number = number
        self.segment = segment
        # A store of one aligned word: no other process ever sees half of it.
        self._epoch = segment.array(np.uint64, (1,), _EPOCH_AT)
        HEADER.pack_into(segment.view, 0, MAGIC, 0, 0, 0, 0, bytes(32))

    @property
    def epoch(self) -> int:
        """How often the memory has been given to a save."""
        return int(self._epoch[0])

    @property
    def header(self) -> Header:
        """What it says of itself."""
        return read_header(self.segment.view)

    def renew(self) -> int:
        """Begin a new epoch: what anybody still reads here is void from now on. Returns it."""
        epoch = self.epoch + 1
        self._epoch[0] = epoch
        HEADER.pack_into(self.segment.view, 0, MAGIC, epoch, 0, 0, 0, bytes(32))
        return epoch

    def leave_will(self, offset: int, will: bytes) -> Header:
        """Put the will of the present save at `offset`, behind its data, and declare the arena staged."""
        end = offset + len(will)
        if offset < HEADER_BYTES or end > self.segment.size:
            raise InvalidArgumentError(
                f"a will of {len(will)} bytes at {offset} does not fit into {self.segment.size} bytes of staging memory"
            )
        view = self.segment.view
        view[offset:end] = will
        digest = blake3(will).digest()
        # The state last: who sees it sees the rest.
        HEADER.pack_into(view, 0, MAGIC, self.epoch, 0, offset, len(will), digest)
        HEADER.pack_into(view, 0, MAGIC, self.epoch, STAGED, offset, len(will), digest)
        return self.header


class ArenaPool:
    """At most `count` arenas, reused because the first touch of a page is many times slower than the second.

    An arena grows to the largest state that it has held. Thread-safe.
    """

    def __init__(self, count: int = 2, name: str = "strata-staging") -> None:
        if not 1 <= count <= 64:
            raise InvalidArgumentError(f"arena count is {count}: choose from 1 to 64")
        self._name = name
        self._condition = threading.Condition()
        self._free: list[Arena | None] = [None] * count
        self._count = count
        self._made = 0
        self._closed = False

    def reserve(self, nbytes: int) -> Future[None]:
        """Make all arenas at least `nbytes` large, on a thread of their own, before they are needed.

        The future is done when they are, and carries a ResourceExhaustedError where there is not so much memory.
        Arenas that are lent at that moment stay as they are.
        """
        if nbytes < 0:
            raise InvalidArgumentError(f"bytes to reserve are {nbytes}: give the size of the state, in bytes")
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        threading.Thread(target=self._reserve, args=(nbytes, done), name="strata-populate", daemon=True).start()
        return done

    def acquire(self, nbytes: int, timeout_s: float) -> Arena:
        """Return an arena of at least `nbytes` in a new epoch, waiting while all are lent.

        DeadlineExceededError after `timeout_s`, ResourceExhaustedError where there is not so much memory.
        """
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while not self._free:
                if not self._condition.wait(deadline - time.monotonic()) and not self._free:
                    raise DeadlineExceededError(
                        f"no staging memory was given back within {timeout_s:.0f} s: earlier saves are still being "
                        "written; save less often, or look at the speed of the storage",
                        missing=("storage",),
                    )
            arena = self._take()
        return self._prepared(arena, nbytes)

    def try_acquire(self, nbytes: int) -> Arena | None:
        """Return an arena as `acquire` does, or None while all are lent."""
        with self._condition:
            if not self._free:
                return None
            arena = self._take()
        return self._prepared(arena, nbytes)

    def release(self, arena: Arena) -> None:
        """Give an arena back; its content may be overwritten from now on."""
        self._give_back(arena)

    def close(self) -> None:
        """Free the arenas that are not lent now, and the others when they come back."""
        with self._condition:
            self._closed = True
            for position, arena in enumerate(self._free):
                if arena is not None:
                    arena.segment.close()
                self._free[position] = None

    def _take(self) -> Arena | None:
        # The largest first, so that small arenas are the ones that grow.
        self._free.sort(key=lambda arena: arena.segment.size if arena else 0)
        return self._free.pop()

    def _prepared(self, arena: Arena | None, nbytes: int) -> Arena:
        arena = self._grown(arena, nbytes)
        arena.renew()
        return arena

    def _grown(self, arena: Arena | None, nbytes: int) -> Arena:
        if arena is not None and arena.segment.size >= nbytes:
            return arena
        try:
            if arena is not None:
                arena.segment.close()
            # An eighth more: a state that grows a little each time does not cost a new arena each time.
            segment = MemfdSegment.create(self._name, max(nbytes + nbytes // 8, HEADER_BYTES))
        except BaseException:
            self._give_back(None)
            raise
        with self._condition:
            self._made += 1
            return Arena(self._made, segment)

    def _reserve(self, nbytes: int, done: Future[None]) -> None:
        needed = nbytes + HEADER_BYTES
        try:
            for _ in range(self._count):
                with self._condition:
                    small = [arena for arena in self._free if arena is None or arena.segment.size < needed]
                    if not small or self._closed:
                        break
                    # One at a time: whoever saves meanwhile finds the others.
                    self._free.remove(small[0])
                self._give_back(self._grown(small[0], needed))
        except StrataError as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _give_back(self, arena: Arena | None) -> None:
        with self._condition:
            if self._closed and arena is not None:
                arena.segment.close()
                arena = None
            self._free.append(arena)
            self._condition.notify()
