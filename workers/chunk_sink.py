"""Chunks into packs and indexes into the store, on the storage thread; it knows no sockets and no credits."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from strata_zmq.checkpoint.background import BackgroundLoop
from strata_zmq.checkpoint.packs import PackWriter, Piece
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.errors import StrataError
from strata_zmq.failpoints import failpoint
from strata_zmq.protocol import stream

from .last_will import codec_of

__all__ = ["ChunkSink", "Outcome", "refusal"]

log = logging.getLogger("strata.writer")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one chunk."""

    header: stream.ChunkHeader
    answer: stream.Durable | stream.Refused


class ChunkSink:
    """Verifies and stores chunks; outcomes are appended to `outcomes`, and `wake` is called on the storage thread."""

    def __init__(
        self, store: CheckpointStore, packs: PackWriter, background: BackgroundLoop, wake: Callable[[], None]
    ) -> None:
        self.outcomes: deque[Outcome] = deque()
        self._store = store
        self._packs = packs
        self._background = background
        self._wake = wake

    def put(self, header: stream.ChunkHeader, data: memoryview, still_valid: Callable[[], bool]) -> None:
        """Take a chunk. Its memory may be a worker's, who may use it again: `still_valid` says whether it has."""
        self._background.submit(self._take(header, data, still_valid))

    async def _take(self, header: stream.ChunkHeader, data: memoryview, still_valid: Callable[[], bool]) -> None:
        answer: stream.Durable | stream.Refused
        try:
            if header.kind == "index":
                answer = await self._store_index(header, data)
            else:
                answer = await self._store_chunk(header, data, still_valid)
        except StrataError as error:
            log.warning("a chunk of %s was not stored: %s", header.checkpoint_id, error)
            answer = refusal(header, error)
        except Exception as error:
            log.exception("a chunk of %s was not stored", header.checkpoint_id)
            answer = refusal(header, StrataError(f"unexpected {type(error).__name__} in the writer; see its log"))
        self.outcomes.append(Outcome(header, answer))
        self._wake()

    async def _store_index(self, header: stream.ChunkHeader, data: memoryview) -> stream.Durable:
        # The index is small, and decoded before it is written.
        found = await self._store.write_encoded_index(
            header.checkpoint_id, header.rank, bytes(data), header.digest or None
        )
        failpoint("writer.index.stored")
        return stream.Durable(header.stream, header.seq, *found)

    async def _store_chunk(
        self, header: stream.ChunkHeader, data: memoryview, still_valid: Callable[[], bool]
    ) -> stream.Durable:
        piece = Piece(
            header.checkpoint_id, header.rank, header.number, data, header.digest, _candidate(header), still_valid
        )
        record, referred = await self._packs.write(piece)
        return stream.Durable(
            stream=header.stream,
            seq=header.seq,
            key=record.key,
            digest=record.digest,
            offset=record.offset,
            nbytes=record.nbytes,
            codec=record.codec,
            stored=record.stored,
            referred=referred,
        )


def _candidate(header: stream.ChunkHeader) -> ChunkRecord | None:
    wanted = header.candidate
    if wanted is None:
        return None
    return ChunkRecord(wanted.key, wanted.digest, wanted.nbytes, wanted.offset, codec_of(wanted.codec), wanted.stored)


def refusal(header: stream.ChunkHeader, error: StrataError) -> stream.Refused:
    """Return the answer to a chunk that was not stored."""
    return stream.Refused(header.stream, header.seq, error.code, str(error)[:4096])
