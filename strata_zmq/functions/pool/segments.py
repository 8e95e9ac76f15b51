"""Shared memory for the large buffers of calls: copied in once by the caller, mapped by a child, and used again.

Knows nothing about calls or children. The first touch of a page runs at about 1 GB/s and a reused one at memory speed,
so a segment that nobody maps any more is kept for the next call of its size.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from strata_zmq.errors import UnavailableError
from strata_zmq.feed.segment import MemfdSegment

__all__ = ["IDLE_BYTES_MAX", "IDLE_SEGMENTS_MAX", "SegmentPool", "SharedParts"]

IDLE_BYTES_MAX = 256 * 2**20
IDLE_SEGMENTS_MAX = 64
_ALIGNMENT = 64
_SMALLEST = 64 * 1024
_SPARE = 2
"""A segment serves buffers of at least half its size."""


class SharedParts:
    """A payload whose buffers lie in shared memory: the stream, and where in the memfd `fd` each buffer is.

    `spans` are (offset, length), `nbytes` counts stream and buffers. `kept` says that some process may still have the
    segment mapped: it is not used again.
    """

    __slots__ = ("_segment", "fd", "kept", "nbytes", "spans", "stream")

    def __init__(self, stream: bytes, segment: MemfdSegment, spans: tuple[tuple[int, int], ...]) -> None:
        self.stream = stream
        self.fd = segment.fd
        self.spans = spans
        self.nbytes = len(stream) + sum(length for _, length in spans)
        self.kept = False
        self._segment: MemfdSegment | None = segment

    def views(self) -> list[memoryview]:
        """Return the buffers, read where they lie."""
        if self._segment is None:
            raise UnavailableError("shared parts: their segment was given back")
        whole = self._segment.view
        return [whole[offset : offset + length] for offset, length in self.spans]


class SegmentPool:
    """Segments for the calls of one process; thread-safe.

    At most IDLE_BYTES_MAX bytes in IDLE_SEGMENTS_MAX segments wait to be used again; what is in use is bounded by who
    bounds the calls.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[MemfdSegment] = []
        self._idle_bytes = 0
        self._closed = False

    def store(self, stream: bytes, buffers: Sequence[memoryview]) -> SharedParts:
        """Copy `buffers`, each contiguous, next to each other into one segment.

        Raises ResourceExhaustedError where the machine has not that much memory left, UnavailableError once closed.
        """
        spans = []
        end = 0
        for buffer in buffers:
            spans.append((end, buffer.nbytes))
            end += -(-buffer.nbytes // _ALIGNMENT) * _ALIGNMENT
        segment = self._take(max(end, 1))
        try:
            _copy(segment, buffers, spans)
        except BaseException:
            segment.close()
            raise
        return SharedParts(stream, segment, tuple(spans))

    def give_back(self, parts: SharedParts) -> None:
        """Take the segment of `parts` back, which no process reads any more unless it is `kept`; again is harmless."""
        with self._lock:
            segment, parts._segment = parts._segment, None  # noqa: SLF001 - the pool's own half of a SharedParts
            if segment is None:
                return
            if not parts.kept and not self._closed and segment.size <= IDLE_BYTES_MAX:
                self._idle.append(segment)
                self._idle_bytes += segment.size
                dropped = self._over()
            else:
                dropped = [segment]
        for unused in dropped:
            unused.close()

    def close(self) -> None:
        """Let the idle segments go; those in use go when they are given back."""
        with self._lock:
            self._closed = True
            dropped, self._idle, self._idle_bytes = self._idle, [], 0
        for segment in dropped:
            segment.close()

    def _take(self, nbytes: int) -> MemfdSegment:
        """Return the smallest idle segment that fits without waste, else a new one."""
        with self._lock:
            if self._closed:
                raise UnavailableError("segments: the pool is closed")
            fitting = [s for s in self._idle if nbytes <= s.size <= _SPARE * max(nbytes, _SMALLEST)]
            if fitting:
                segment = min(fitting, key=lambda s: s.size)
                self._idle.remove(segment)
                self._idle_bytes -= segment.size
                return segment
        return MemfdSegment.create("strata-call", max(nbytes, _SMALLEST))

    def _over(self) -> list[MemfdSegment]:
        """Take out what is over the limits, the longest unused first."""
        dropped = []
        while self._idle_bytes > IDLE_BYTES_MAX or len(self._idle) > IDLE_SEGMENTS_MAX:
            segment = self._idle.pop(0)
            self._idle_bytes -= segment.size
            dropped.append(segment)
        return dropped


def _copy(segment: MemfdSegment, buffers: Sequence[memoryview], spans: Sequence[tuple[int, int]]) -> None:
    """Copy with NumPy, which lets other threads run meanwhile; memoryview's own assignment does not."""
    import numpy as np

    for buffer, (offset, length) in zip(buffers, spans, strict=True):
        if length:
            np.copyto(segment.array(np.uint8, (length,), offset), np.frombuffer(buffer, np.uint8))
