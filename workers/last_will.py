"""Finishing a dead worker's save: what its last will says, and carrying it out; it knows no sockets and no credits.

A will is the rank's index as it would be stored, with an empty key for each chunk, and in place of its offset in an
object its offset in the shared memory that the state is staged in. That memory lives as long as this process holds it.
What was stored for the worker already is used; what is missing is stored as if the worker had sent it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast, get_args

from blake3 import blake3

from strata_zmq.checkpoint.arena import read_epoch, read_header
from strata_zmq.checkpoint.packs import Piece
from strata_zmq.checkpoint.references import folder_of, refs_of
from strata_zmq.domain.manifest import ChunkRecord, Codec, RankIndex, save_order
from strata_zmq.domain.manifest_format import decode_rank_index, encode_rank_index
from strata_zmq.errors import (
    CheckpointCorruptError,
    DurabilityError,
    ProtocolError,
    StaleGenerationError,
    StorageError,
    StrataError,
)
from strata_zmq.failpoints import failpoint
from strata_zmq.protocol import messages as wire

if TYPE_CHECKING:
    from concurrent.futures import Future

    from strata_zmq.checkpoint.background import BackgroundLoop
    from strata_zmq.checkpoint.packs import PackWriter
    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.feed.segment import MemfdSegment
    from strata_zmq.protocol import stream

__all__ = ["Executor", "codec_of", "encode_will", "unchanged"]

log = logging.getLogger("strata.writer")

_CLOSED_MAX = 8
"""Wills of one worker whose streams have ended."""
_ATTEMPTS_MAX = 3
_BACK_OFF_S = 0.2
_ASK_S = 5.0
_ARRIVE_S = 60.0
_WAITS_SHOWN = 20
_NO_DIGEST = "0" * 64


def encode_will(index: Callable[[Sequence[ChunkRecord]], RankIndex], places: Sequence[tuple[int, int]]) -> bytes:
    """Return a will. `index` makes a rank's index of its chunks, `places` are their (offset, size) in the segment."""
    return encode_rank_index(index([ChunkRecord("", _NO_DIGEST, nbytes, offset) for offset, nbytes in places]))


def codec_of(name: str) -> Codec:
    """Return the codec of that name; ProtocolError where this release does not know it."""
    if name not in get_args(Codec):
        raise ProtocolError(f"codec is {ascii(name)[:48]}: this release knows {get_args(Codec)}")
    return cast("Codec", name)


def unchanged(segment: MemfdSegment, epoch: int) -> Callable[[], bool]:
    """Return what says whether a segment still holds what was staged in it in this epoch; for epoch 0 it always does.

    ProtocolError for a segment that does not begin as staging memory does.
    """
    if not epoch:
        return _always
    view = segment.view
    read_header(view)
    return lambda: read_epoch(view) == epoch


def _always() -> bool:
    return True


@dataclass(slots=True)
class _Will:
    """What one worker has left for one of its saves. `closed`: its stream has ended, the save has not."""

    client: str
    worker_id: str
    request: stream.StreamWill
    segment: MemfdSegment
    draft: RankIndex
    closed: bool = False


@dataclass(slots=True)
class _Stored:
    """What is durable of one stream's rank."""

    chunks: dict[int, ChunkRecord] = field(default_factory=dict)
    index: tuple[str, str] | None = None


class Executor:
    """Keeps wills and carries them out. Used on the writer's thread; what it writes is written on `background`.

    `submit` sends a request to the coordinator.
    """

    def __init__(
        self,
        store: CheckpointStore,
        packs: PackWriter,
        background: BackgroundLoop,
        submit: Callable[[wire.Request], Future[Any]],
    ) -> None:
        self._store = store
        self._packs = packs
        self._background = background
        self._submit = submit
        self._lock = threading.Lock()
        self._under_way = 0
        self._wills: dict[str, _Will] = {}
        self._stored: dict[str, _Stored] = {}

    @property
    def idle(self) -> bool:
        """Whether no will is being carried out."""
        with self._lock:
            return self._under_way == 0

    def take(self, request: stream.StreamWill, client: str, worker_id: str, segment: MemfdSegment) -> None:
        """Read a will, and keep it and the memory that it is about until it is of no use any more.

        Raises ProtocolError or CheckpointCorruptError where it cannot be read.
        """
        end = request.offset + request.nbytes
        if end > segment.size:
            raise ProtocolError(f"a will lies at bytes {request.offset} to {end} of a segment of {segment.size}")
        data = bytes(segment.view[request.offset : end])
        name = f"the will of rank {request.rank} of {request.checkpoint_id}"
        if blake3(data).hexdigest() != request.digest or not unchanged(segment, request.epoch)():
            raise CheckpointCorruptError(f"{name} is not what was announced: leave it again")
        draft = decode_rank_index(data, name)
        if draft.rank != request.rank:
            raise ProtocolError(f"{name} is that of rank {draft.rank}")
        if any(chunk.offset + chunk.nbytes > segment.size for chunk in draft.chunks):
            raise ProtocolError(f"{name} reaches beyond the end of its segment of {segment.size} bytes")
        # Of a save that waited for its turn there is one already. Whoever has too many has forgotten to take them back.
        closed = [key for key, will in self._wills.items() if will.client == client and will.closed]
        same = [key for key in closed if self._wills[key].request.checkpoint_id == request.checkpoint_id]
        for other in same or closed[: max(0, len(closed) + 1 - _CLOSED_MAX)]:
            self._drop(other)
        self._wills[request.stream] = _Will(client, worker_id, request, segment, draft)

    def streams_of(self, client: str) -> list[str]:
        """Return the streams for which a worker has left a will."""
        return [name for name, will in self._wills.items() if will.client == client]

    def note(self, header: stream.ChunkHeader, answer: stream.Durable, *, open_here: bool) -> None:
        """Take note of what is durable: it need not be stored again."""
        if not open_here and header.stream not in self._wills:
            return
        stored = self._stored.setdefault(header.stream, _Stored())
        if header.kind == "index":
            stored.index = (answer.key, answer.digest)
        else:
            stored.chunks[header.number] = ChunkRecord(
                answer.key, answer.digest, answer.nbytes, answer.offset, codec_of(answer.codec), answer.stored
            )

    def close(self, name: str, *, keep_will: bool) -> None:
        """Take note that a stream has ended; its will goes with it, unless it is kept."""
        will = self._wills.get(name)
        if will is not None and keep_will:
            will.closed = True
        else:
            self._drop(name)

    def lost(self, name: str) -> None:
        """Take note that a stream has ended because its worker is not heard: its will is needed all the more."""
        if name not in self._wills:
            self._drop(name)

    def client_gone(self, client: str) -> None:
        """Carry out the wills of a worker whose process has ended, the oldest save first."""
        found: list[tuple[_Will, _Stored]] = []
        for name in self.streams_of(client):
            found.append((self._wills[name], self._stored.get(name, _Stored())))
            self._drop(name)
        if not found:
            return
        for will, stored in found:
            log.warning(
                "worker %s is gone: finishing its save of %s, %d of %d chunks are stored",
                will.worker_id,
                will.request.checkpoint_id,
                len(stored.chunks),
                len(will.draft.chunks),
            )
        with self._lock:
            self._under_way += 1
        self._background.submit(self._carry_out_all(found)).add_done_callback(self._finished)

    def _drop(self, name: str) -> None:
        self._wills.pop(name, None)
        self._stored.pop(name, None)

    def _finished(self, done: Future[None]) -> None:
        with self._lock:
            self._under_way -= 1
        if not done.cancelled() and done.exception() is not None:
            log.error("a will could not be carried out", exc_info=done.exception())

    # ---- on the storage thread ------------------------------------------------------------------------------------

    async def _carry_out_all(self, found: list[tuple[_Will, _Stored]]) -> None:
        # A newer checkpoint's commit would end the older one's.
        for will, stored in sorted(found, key=lambda one: save_order(one[0].request.checkpoint_id) or ()):
            await self._carry_out(will, stored)

    async def _carry_out(self, will: _Will, stored: _Stored) -> None:
        checkpoint_id, rank = will.request.checkpoint_id, will.request.rank
        if not await self._is_wanted(will):
            log.info("the save of %s by rank %d needs nothing more", checkpoint_id, rank)
            return
        failpoint("writer.drain.begin")
        try:
            arrival = await self._finish(will, stored)
        except StrataError as error:
            log.warning("rank %d of %s could not be finished: %s", rank, checkpoint_id, error)
            self._submit(
                wire.CheckpointFailed(
                    checkpoint_id=checkpoint_id,
                    code=error.code,
                    message=f"rank {rank} ({will.worker_id}) is gone, and its save could not be finished: {error}"[
                        :4096
                    ],
                    generation=will.request.generation,
                )
            )
            return
        failpoint("writer.drain.arrive")
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._submit(arrival)), _ARRIVE_S)
        except (StrataError, TimeoutError) as error:
            log.warning(
                "rank %d of %s is finished, and the checkpoint was not committed: %s", rank, checkpoint_id, error
            )
        else:
            log.info("rank %d of %s is finished for worker %s", rank, checkpoint_id, will.worker_id)

    async def _is_wanted(self, will: _Will) -> bool:
        """Ask whether the coordinator still waits for the rank; yes where it cannot be asked."""
        try:
            status = await asyncio.wait_for(asyncio.wrap_future(self._submit(wire.GetStatus())), _ASK_S)
        except (StrataError, TimeoutError):
            return True
        waits: list[str] | None = status.checkpoint_waits.get(will.request.checkpoint_id)
        # A long list is cut off.
        return waits is not None and (will.worker_id in waits or len(waits) >= _WAITS_SHOWN)

    async def _finish(self, will: _Will, stored: _Stored) -> wire.CheckpointArrive:
        """Store what is missing, then the index; try again as long as the storage may come back."""
        for attempt in range(_ATTEMPTS_MAX):
            try:
                return await self._store_missing(will, stored)
            except DurabilityError:
                raise
            except StorageError as error:
                if attempt + 1 == _ATTEMPTS_MAX:
                    raise
                log.warning("finishing %s is tried again: %s", will.request.checkpoint_id, error)
                await asyncio.sleep(_BACK_OFF_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _store_missing(self, will: _Will, stored: _Stored) -> wire.CheckpointArrive:
        request = will.request
        if stored.index is None:
            await self._store_chunks(will, stored.chunks)
            records = tuple(stored.chunks[number] for number in range(len(will.draft.chunks)))
            index = encode_rank_index(replace(will.draft, chunks=records))
            key, digest = await self._store.write_encoded_index(request.checkpoint_id, request.rank, index)
        else:
            key, digest = stored.index
            records = decode_rank_index(await self._store.storage.get(key), key).chunks
        own = [one for one in records if folder_of(one.key) == request.checkpoint_id]
        return wire.CheckpointArrive(
            checkpoint_id=request.checkpoint_id,
            index_key=key,
            digest=digest,
            size_bytes=will.draft.nbytes,
            refs=list(refs_of(request.checkpoint_id, records)),
            written_bytes=sum(one.stored_bytes for one in own),
            worker_id=will.worker_id,
            rank=request.rank,
            generation=request.generation,
        )

    async def _store_chunks(self, will: _Will, chunks: dict[int, ChunkRecord]) -> None:
        request, view = will.request, will.segment.view
        valid = unchanged(will.segment, request.epoch)

        async def store(number: int, place: ChunkRecord) -> None:
            data = view[place.offset : place.offset + place.nbytes]
            piece = Piece(request.checkpoint_id, request.rank, number, data, still_valid=valid)
            chunks[number], _ = await self._packs.write(piece)

        if not valid():
            raise StaleGenerationError("its memory was used for another save already")
        missing = [(number, place) for number, place in enumerate(will.draft.chunks) if number not in chunks]
        found = await asyncio.gather(*(store(*one) for one in missing), return_exceptions=True)
        for error in found:
            if error is not None:
                raise error
