"""Results on their way to the parent: in shared memory until they are sent, so that a crash loses none of them.

Knows nothing about calls and values. What is too long for a packet goes into a memfd of its own, and is sent at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Self

import msgspec

from strata_zmq.functions.pool.blackbox import OUTBOX_BYTES, RESULTS_PREFIX_BYTES, BlackBox, results_prefix
from strata_zmq.functions.pool.packets import CALLS_MAX, Place, Result, encode_results, send

__all__ = ["Outbox", "Stored"]

_ALIGNMENT = 64
_WRITE_MAX = 2**30
Part = bytes | memoryview


class Stored:
    """A result's bytes in a memfd, which is this process's until it is sent."""

    __slots__ = ("body", "buffers", "descriptor", "report")

    def __init__(self, stream: Sequence[Part] | None, buffers: Sequence[memoryview], report: bytes) -> None:
        """Copy a result's pickle (None: it has none), its buffers and its report.

        Raises OSError where the machine has no memory or descriptor left for it.
        """
        self.descriptor = os.memfd_create("strata-result", os.MFD_CLOEXEC)
        try:
            self.body = None if stream is None else self._append(stream)
            self.report: bytes | Place = self._append([report]) if report else b""
            self.buffers = [self._append([buffer]) for buffer in buffers]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the memfd go; who has received it keeps it."""
        os.close(self.descriptor)

    def _append(self, parts: Sequence[Part]) -> Place:
        start = -(-os.lseek(self.descriptor, 0, os.SEEK_END) // _ALIGNMENT) * _ALIGNMENT
        at = start
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                written = os.pwrite(self.descriptor, view[:_WRITE_MAX], at)
                at += written
                view = view[written:]
        if at == start:
            os.ftruncate(self.descriptor, start)
        return Place(0, start, at - start)


class Outbox:
    """Sends results in packets, in their order. Blocks where the parent does not read."""

    def __init__(self, sock: socket.socket, box: BlackBox) -> None:
        self._socket = sock
        self._box = box
        self._memory = box.outbox
        self._encode = msgspec.msgpack.Encoder().encode
        self._fill = RESULTS_PREFIX_BYTES
        self._count = 0

    def send(self, result: Result, descriptor: int) -> None:
        """Send a result that lies in a memfd, behind those that wait; raises as `flush`."""
        self.flush()
        send(self._socket, encode_results([result]), [descriptor], 0)

    def add(self, result: Result) -> None:
        """Take a result whose body and report are together no longer than BODY_BYTES_MAX; raises as `flush`."""
        row = self._encode(result)
        end = self._fill + len(row)
        if end > OUTBOX_BYTES or self._count == CALLS_MAX:
            self.flush()
            end = self._fill + len(row)
        self._memory[self._fill : end] = row
        self._fill = end
        self._count += 1
        self._box.fill(end, self._count)

    def flush(self) -> None:
        """Send what is there; raises BrokenPipeError or ConnectionResetError where the parent is gone."""
        if self._count:
            self._memory[:RESULTS_PREFIX_BYTES] = results_prefix(self._count)
            self._socket.send(self._memory[: self._fill])
            self._box.fill(0, 0)
            self._fill, self._count = RESULTS_PREFIX_BYTES, 0
