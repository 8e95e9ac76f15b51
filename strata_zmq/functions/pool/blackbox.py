"""The memory that a child shares with its parent: what it is doing, what it printed last, results not sent yet.

Knows nothing about processes and planning. The child writes with a few stores, no system call; the parent reads
whenever it likes, also after the child's death. One memfd per child (`create`):

    word 0  state: n << 3 | phase    one store, so n and phase always belong together
    word 1  when the call's function was called: time.monotonic_ns()
    word 2  outbox: bytes << 16 | results    one store, so a result is there whole or not at all
    word 3  how many bytes the call has printed; the last TAIL_BYTES of them stand in a ring at TAIL_OFFSET
    word 4  the most memory that the process had held when the present packet of calls began, in bytes
    OUTBOX_OFFSET  packed results, one behind the other, as the packet that will be sent
    FAULT_OFFSET   the file's end: faulthandler appends here by write(2), which moves the descriptor's file offset.
                   The parent's descriptor shares that offset: it maps and preads only, and never seeks.
"""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

__all__ = [
    "FAULT_OFFSET",
    "IDLE",
    "LOADING",
    "OUTBOX_BYTES",
    "OUTBOX_OFFSET",
    "PACKING",
    "PHASES",
    "RESULTS_PREFIX_BYTES",
    "RUNNING",
    "TAIL_BYTES",
    "BlackBox",
    "BoxReader",
    "Look",
    "create",
    "results_prefix",
]

IDLE, LOADING, RUNNING, PACKING = range(4)
PHASES = ("idle", "loading", "running", "packing")
"""Between calls; unpickling the call; in the function; packing what came of it."""

TAIL_OFFSET = 2048
TAIL_BYTES = 2048
OUTBOX_OFFSET = 4096
OUTBOX_BYTES = 64 * 1024
"""As much as one packet."""
FAULT_OFFSET = OUTBOX_OFFSET + OUTBOX_BYTES
_FAULT_BYTES_MAX = 16 * 1024
_WORD_BYTES = 8
_STATE, _STARTED, _OUTBOX, _PRINTED, _RSS = range(5)
_WORDS = 5
_PHASE_BITS = 3
_PHASE_MASK = (1 << _PHASE_BITS) - 1
_COUNT_BITS = 16
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_READS_MAX = 100


RESULTS_PREFIX_BYTES = 4


def results_prefix(count: int) -> bytes:
    """Return what stands before `count` results, each msgpack, to make them a packet."""
    return b"R\xdc" + count.to_bytes(2, "big")


class Look(NamedTuple):
    """What a child was doing: call `n` (0: none yet), a phase, and when its function was called (0: not yet)."""

    n: int
    phase: int
    started_ns: int


def create() -> int:
    """Return the descriptor of a new box, all zero."""
    descriptor = os.memfd_create("strata-child", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, FAULT_OFFSET)
    return descriptor


class BlackBox:
    """The child's side. One thread writes calls and results; what is printed may come from any."""

    def __init__(self, descriptor: int) -> None:
        self._memory = memoryview(mmap.mmap(descriptor, FAULT_OFFSET))
        self._words = self._memory[: _WORDS * _WORD_BYTES].cast("Q")
        self._tail = self._memory[TAIL_OFFSET : TAIL_OFFSET + TAIL_BYTES]
        self.outbox = self._memory[OUTBOX_OFFSET:FAULT_OFFSET]

    def holds(self, rss_bytes: int) -> None:
        """Note how much memory the process has held at most."""
        self._words[_RSS] = rss_bytes

    def loading(self, n: int) -> None:
        """Call `n` begins: what it prints counts from here."""
        words = self._words
        words[_PRINTED] = 0
        words[_STATE] = n << _PHASE_BITS | LOADING

    def running(self, n: int, now_ns: int) -> None:
        """The function of call `n` is called now."""
        words = self._words
        words[_STARTED] = now_ns
        words[_STATE] = n << _PHASE_BITS | RUNNING

    def packing(self, n: int) -> None:
        """The function of call `n` is back."""
        self._words[_STATE] = n << _PHASE_BITS | PACKING

    def idle(self, n: int) -> None:
        """Call `n` is over: its result is in the outbox or sent."""
        self._words[_STATE] = n << _PHASE_BITS

    @property
    def phase(self) -> int:
        """The phase as last written."""
        return self._words[_STATE] & _PHASE_MASK

    def fill(self, nbytes: int, count: int) -> None:
        """The first `nbytes` of the outbox are a packet's prefix and `count` whole results; 0, 0: all is sent."""
        self._words[_OUTBOX] = nbytes << _COUNT_BITS | count

    def printed(self, data: bytes) -> None:
        """Append to the ring of what is printed; only the last TAIL_BYTES stay."""
        words, tail = self._words, self._tail
        total = words[_PRINTED]
        if len(data) > TAIL_BYTES:
            total += len(data) - TAIL_BYTES
            data = data[-TAIL_BYTES:]
        at = total % TAIL_BYTES
        first = min(len(data), TAIL_BYTES - at)
        tail[at : at + first] = data[:first]
        tail[: len(data) - first] = data[first:]
        words[_PRINTED] = total + len(data)


class BoxReader:
    """The parent's side, for a child that lives or is dead; the descriptor stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, FAULT_OFFSET, prot=mmap.PROT_READ)
        self._memory = memoryview(self._map)
        self._words = self._memory[: _WORDS * _WORD_BYTES].cast("Q")

    def look(self) -> Look:
        """Return what the child is doing, or did last; the three values belong together.

        A child may go on between this and what the reader does about it: who means to kill one call stops the process
        (SIGSTOP), looks again, and kills or continues it.
        """
        words = self._words
        state = words[_STATE]
        for _ in range(_READS_MAX):
            started, before, state = words[_STARTED], state, words[_STATE]
            if before == state:
                return Look(state >> _PHASE_BITS, state & _PHASE_MASK, started if state & _PHASE_MASK >= RUNNING else 0)
        return Look(state >> _PHASE_BITS, LOADING, 0)  # it runs through short calls; none of them is of interest

    @property
    def rss_bytes(self) -> int:
        """The most memory that the process had held when its last packet of calls began; 0 before the first."""
        return self._words[_RSS]

    def unsent(self) -> bytes:
        """Return the results that wait in the outbox as a packet for `decode_answer`, b"" where there are none.

        Of a dead child: all that it had finished and may not have sent; what has arrived by packet comes here again and
        is told by its `n`. Of a living one: only while its call runs, b"" otherwise. No result here has descriptors.
        """
        words = self._words
        state, fill = words[_STATE], words[_OUTBOX]
        nbytes, count = fill >> _COUNT_BITS, fill & _COUNT_MASK
        if count == 0:
            return b""
        results = bytes(self._memory[OUTBOX_OFFSET + RESULTS_PREFIX_BYTES : OUTBOX_OFFSET + nbytes])
        if words[_STATE] != state or words[_OUTBOX] != fill:
            return b""
        return results_prefix(count) + results

    def last_lines(self) -> str:
        """Return the end of what the present or last call has printed."""
        total = self._words[_PRINTED]
        tail = bytes(self._memory[TAIL_OFFSET : TAIL_OFFSET + TAIL_BYTES])
        at = total % TAIL_BYTES
        data = tail[at:] + tail[:at] if total > TAIL_BYTES else tail[:total]
        return data.decode("utf-8", "replace")

    def fault_text(self) -> str:
        """Return what faulthandler wrote as the child died, "" for other deaths."""
        return os.pread(self._descriptor, _FAULT_BYTES_MAX, FAULT_OFFSET).decode("utf-8", "replace")

    def close(self) -> None:
        """Unmap the memory."""
        self._words.release()
        self._memory.release()
        self._map.close()
