"""The copy into staging memory: many arrays, two threads, no byte twice; knows no trees, no chunks and no storage.

This is what training stops for. One core of a machine does not fill its memory's bandwidth; two nearly do.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from strata_zmq.checkpoint.arrays import Leaf
    from strata_zmq.checkpoint.chunks import Layout
    from strata_zmq.feed.segment import MemfdSegment

__all__ = ["COPY_THREADS", "copy_all"]

COPY_THREADS = 2
_THREADS_FROM_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 16 * 1024 * 1024

_Copy = tuple["NDArray[Any]", "NDArray[Any]"]


def copy_all(leaves: Sequence[Leaf], layout: Layout, segment: MemfdSegment, *, threads: int = COPY_THREADS) -> None:
    """Copy every leaf to its place in `segment` and zero the gaps between them.

    Arrays in host memory are shared between `threads` threads, from 64 MiB upwards and as far as there are cores.
    Arrays on a device are fetched by the calling thread, whose streams they may be ordered by. InvalidArgumentError
    for an array that is not any more what it was when it was described.
    """
    end = layout.begin
    whole = segment.array(np.uint8, (segment.size,))
    host: deque[_Copy] = deque()
    device: list[tuple[Leaf, int]] = []
    for leaf, offset in zip(leaves, layout.offsets, strict=True):
        # Gaps are zeroed: a reused arena holds old bytes there, and equal states shall give equal chunks.
        whole[end:offset] = 0
        end = offset + leaf.nbytes
        if not leaf.nbytes:
            continue
        if leaf.on_device:
            device.append((leaf, offset))
        else:
            host.extend(_pieces(segment.array(leaf.dtype, leaf.shape, offset), _read(leaf)))
    whole[end : layout.total_bytes] = 0
    helpers = _helpers(layout.total_bytes, threads)
    failed: list[BaseException] = []
    running = [threading.Thread(target=_drain, args=(host, failed), name="strata-copy") for _ in range(helpers)]
    for thread in running:
        thread.start()
    try:
        for leaf, offset in device:
            np.copyto(segment.array(leaf.dtype, leaf.shape, offset), _read(leaf), casting="no")
        _drain(host, failed)
    finally:
        host.clear()
        for thread in running:
            thread.join()
    if failed:
        raise failed[0]


def _read(leaf: Leaf) -> NDArray[Any]:
    source = leaf.read()
    if source.shape != leaf.shape or source.dtype.str != leaf.dtype:
        raise InvalidArgumentError(f"{leaf.path} changed its shape or dtype while it was saved: save between steps")
    return source


def _pieces(target: NDArray[Any], source: NDArray[Any]) -> Iterator[_Copy]:
    """Cut a copy into rows of about `_PIECE_BYTES`; one that cannot be cut stays whole."""
    if target.nbytes <= _PIECE_BYTES:
        yield target, source
        return
    if source.flags.c_contiguous:
        target, source = target.reshape(-1), source.reshape(-1)
    rows = max(1, _PIECE_BYTES * target.shape[0] // target.nbytes)
    for begin in range(0, target.shape[0], rows):
        yield target[begin : begin + rows], source[begin : begin + rows]


def _drain(copies: deque[_Copy], failed: list[BaseException]) -> None:
    try:
        while copies and not failed:
            try:
                target, source = copies.popleft()
            except IndexError:
                return
            np.copyto(target, source, casting="no")
    except BaseException as error:  # noqa: BLE001 - raised by the caller, on its thread
        failed.append(error)


def _helpers(nbytes: int, threads: int) -> int:
    if nbytes < _THREADS_FROM_BYTES:
        return 0
    return max(0, min(threads, len(os.sched_getaffinity(0))) - 1)
