"""Chunks into the checkpoint store, a few at a time on the storage thread; it knows no sockets and no credits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strata_zmq.checkpoint.background import BackgroundLoop
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.errors import StrataError
from strata_zmq.protocol import stream

__all__ = ["ChunkSink", "Outcome", "refusal"]

log = logging.getLogger("strata.writer")

_WRITES_AT_ONCE = 4
_BUFFER_BYTES_MAX = 64 * 1024 * 1024
"""Larger chunks get memory of their own, which is given back."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one chunk: its answer, and how many bytes of credit are free again."""

    nbytes: int
    answer: stream.Durable | stream.Refused


class ChunkSink:
    """Verifies and stores chunks; outcomes are appended to `outcomes`, and `wake` is called on the storage thread."""

    def __init__(self, store: CheckpointStore, background: BackgroundLoop, wake: Callable[[], None]) -> None:
        self.outcomes: deque[Outcome] = deque()
        self._store = store
        self._background = background
        self._wake = wake
        self._gate = asyncio.Semaphore(_WRITES_AT_ONCE)
        self._buffers: list[NDArray[np.uint8]] = []

    def put(self, header: stream.ChunkHeader, data: memoryview, *, shared: bool) -> None:
        """Take a chunk; `shared` says that its memory belongs to a worker, who may use it again."""
        self._background.submit(self._take(header, data, shared=shared))

    async def _take(self, header: stream.ChunkHeader, data: memoryview, *, shared: bool) -> None:
        answer: stream.Durable | stream.Refused
        try:
            async with self._gate:
                answer = await (self._store_copy(header, data) if shared else self._store_chunk(header, data))
        except StrataError as error:
            log.warning("a chunk of %s was not stored: %s", header.checkpoint_id, error)
            answer = refusal(header, error)
        except Exception as error:
            log.exception("a chunk of %s was not stored", header.checkpoint_id)
            answer = refusal(header, StrataError(f"unexpected {type(error).__name__} in the writer; see its log"))
        self.outcomes.append(Outcome(header.nbytes, answer))
        self._wake()

    async def _store_copy(self, header: stream.ChunkHeader, data: memoryview) -> stream.Durable:
        # Copied before it is verified: what is written has to be what was verified. Buffers are reused, because the
        # first touch of a page costs more than the copy.
        buffer = self._buffers.pop() if self._buffers else np.empty(0, np.uint8)
        if buffer.nbytes < header.nbytes:
            buffer = np.empty(header.nbytes, np.uint8)
        try:
            await asyncio.to_thread(np.copyto, buffer[: header.nbytes], np.frombuffer(data, np.uint8))
            return await self._store_chunk(header, buffer[: header.nbytes].data)
        finally:
            if buffer.nbytes <= _BUFFER_BYTES_MAX:
                self._buffers.append(buffer)

    async def _store_chunk(self, header: stream.ChunkHeader, data: memoryview) -> stream.Durable:
        if header.kind == "index":
            key, digest = await self._store.write_encoded_index(
                header.checkpoint_id, header.rank, bytes(data), header.digest
            )
            return stream.Durable(header.stream, header.seq, key, digest)
        record = await self._store.write_chunk(header.checkpoint_id, header.rank, header.number, data, header.digest)
        return stream.Durable(header.stream, header.seq, record.key, record.digest)


def refusal(header: stream.ChunkHeader, error: StrataError) -> stream.Refused:
    """Return the answer to a chunk that was not stored."""
    return stream.Refused(header.stream, header.seq, error.code, str(error)[:4096])
