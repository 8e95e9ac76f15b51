"""Chunks into packs: hashed on a few threads, compared with what is stored already, and written many to an object.

It knows when a chunk is durable and where it lies; nothing about sockets, who sends chunks, or what they are part of.

Chunks are written where they lie: nothing is copied. Whoever owns their memory may take it back at any time, and says
so in `still_valid`, which is asked before a chunk is hashed and after it has been written: a chunk whose memory was
taken back in between is not stored, whatever was written.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from blake3 import blake3

from strata_zmq.domain.manifest import ChunkRecord
from strata_zmq.errors import CheckpointCorruptError, StaleGenerationError, StrataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from strata_zmq.checkpoint.codec import Codec
    from strata_zmq.checkpoint.store import CheckpointStore

__all__ = ["HASH_THREADS", "PackWriter", "Piece"]

T = TypeVar("T")
log = logging.getLogger("strata.checkpoint")

HASH_THREADS = max(1, min(3, (os.cpu_count() or 1) + 1))
_IDLE_SHARE = 4
"""What part of a pack is enough for a storage that is idle."""


def _always() -> bool:
    return True


@dataclass(slots=True)
class Piece:
    """One chunk on its way into the store: number `number` of a rank, and the memory that it lies in.

    `digest` is its blake3 if that is known, else ""; a chunk that has another one is refused. `candidate` is a stored
    chunk that may hold the same bytes. `still_valid` says whether the memory still holds this chunk.
    """

    checkpoint_id: str
    rank: int
    number: int
    data: memoryview
    digest: str = ""
    candidate: ChunkRecord | None = None
    still_valid: Callable[[], bool] = _always

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"chunk {self.number} of rank {self.rank} of {self.checkpoint_id}"


@dataclass(slots=True)
class _Entry:
    """A chunk that has been hashed and waits to be written; `packed` is what its codec made of it."""

    piece: Piece
    digest: str
    packed: bytes | None
    done: asyncio.Future[ChunkRecord]

    @property
    def content(self) -> memoryview | bytes:
        return self.piece.data if self.packed is None else self.packed

    @property
    def nbytes(self) -> int:
        return len(self.packed) if self.packed is not None else self.piece.data.nbytes


@dataclass(slots=True)
class _Lane:
    """What one rank of one checkpoint has to write. `coming` chunks are being hashed, `writing` packs written."""

    checkpoint_id: str
    rank: int
    coming: int = 0
    writing: int = 0
    packs: int = 0
    nbytes: int = 0
    waiting: list[_Entry] = field(default_factory=list)

    def add(self, entry: _Entry) -> None:
        self.waiting.append(entry)
        self.nbytes += entry.nbytes

    def take(self, most: int) -> list[_Entry]:
        """Take chunks of about `most` bytes together, neighbours first."""
        self.writing += 1
        # Nobody waits any more for those that were cancelled.
        self.waiting = sorted((e for e in self.waiting if not e.done.cancelled()), key=lambda e: e.piece.number)
        taken, size = 0, 0
        for entry in self.waiting:
            if taken and size + entry.nbytes > most:
                break
            taken, size = taken + 1, size + entry.nbytes
        group, self.waiting = self.waiting[:taken], self.waiting[taken:]
        self.nbytes = sum(entry.nbytes for entry in self.waiting)
        return group


class PackWriter:
    """Writes chunks of any checkpoints into a store; used on one event loop.

    Chunks of one rank that come together share an object: whenever the storage takes another one, it gets what has
    been hashed by then, up to the size that it likes best, and no clock is involved. `nice` is by how much the threads
    that hash step back behind others, as the system's `nice` has it.
    """

    def __init__(
        self, store: CheckpointStore, *, threads: int = HASH_THREADS, codec: Codec | None = None, nice: int = 0
    ) -> None:
        self._store = store
        self._codec = codec
        self._traits = store.storage.traits
        self._threads = ThreadPoolExecutor(threads, "strata-hash", initializer=_step_back, initargs=(nice,))
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        self._busy = 0

    async def write(self, piece: Piece) -> tuple[ChunkRecord, bool]:
        """Store one chunk; returns where it lies, and whether it is the candidate, which was there already.

        It is durable on return. Raises CheckpointCorruptError if it has not the digest that was announced,
        StaleGenerationError if its memory was taken back meanwhile, and what the storage says. Its memory is in use
        until the call ends, and on cancellation until `close`.
        """
        lane = self._lanes.setdefault((piece.checkpoint_id, piece.rank), _Lane(piece.checkpoint_id, piece.rank))
        loop = asyncio.get_running_loop()
        lane.coming += 1
        try:
            looked = await self._track(loop.run_in_executor(self._threads, self._look_at, piece))
            if isinstance(looked, ChunkRecord):
                return looked, True
            entry = _Entry(piece, *looked, loop.create_future())
            lane.add(entry)
        finally:
            lane.coming -= 1
            self._dispatch()
        return await entry.done, False

    async def close(self) -> None:
        """Wait until everything that was begun is written, and end the threads."""
        while self._lanes:
            if self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            # Whoever waits for what has just ended goes on first.
            await asyncio.sleep(0)
        await asyncio.to_thread(self._threads.shutdown)

    def _look_at(self, piece: Piece) -> ChunkRecord | tuple[str, bytes | None]:
        """Hash a chunk; return its candidate if that is equal, else digest and compressed form; runs on a thread."""
        _require_valid(piece)
        digest = blake3(piece.data).hexdigest()
        _require_valid(piece)
        if piece.digest and digest != piece.digest:
            raise CheckpointCorruptError(
                f"{piece.name} has the digest {digest[:16]}, {piece.digest[:16]} was announced: it was damaged on its "
                "way; send it again"
            )
        candidate = piece.candidate
        if candidate is not None and (candidate.digest, candidate.nbytes) == (digest, piece.data.nbytes):
            return candidate
        return digest, self._codec.encode(piece.data) if self._codec is not None else None

    def _dispatch(self) -> None:
        """Begin to write what is ready, as long as the storage takes more."""
        best = self._traits.object_bytes_best
        for key, lane in list(self._lanes.items()):
            # What is still being hashed will be there in a moment: a pack waits for it rather than being small, but not
            # while the storage has nothing to do.
            while lane.waiting and self._busy < self._traits.puts_at_once:
                if lane.coming and lane.nbytes < (best if self._busy else best // _IDLE_SHARE):
                    break
                self._busy += 1
                self._track(asyncio.get_running_loop().create_task(self._put(lane, lane.take(best))))
                # The next turn is another lane's.
                self._lanes[key] = self._lanes.pop(key)
            if not (lane.waiting or lane.coming or lane.writing):
                del self._lanes[key]

    def _track(self, work: asyncio.Future[T]) -> asyncio.Future[T]:
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)
        return work

    async def _put(self, lane: _Lane, group: list[_Entry]) -> None:
        try:
            records = await self._write_pack(lane, group) if group else []
        except StrataError as error:
            _settle(group, error)
        except Exception as error:
            log.exception("a pack of %s was not stored", lane.checkpoint_id)
            found = StrataError(f"a pack of {lane.checkpoint_id} failed unexpectedly: {error!r}; please report this")
            found.__cause__ = error
            _settle(group, found)
        except BaseException:
            for entry in group:
                entry.done.cancel()
            raise
        else:
            for entry, record in zip(group, records, strict=True):
                if entry.packed is None and not entry.piece.still_valid():
                    _settle([entry], _stale(entry.piece))
                elif not entry.done.done():
                    entry.done.set_result(record)
        finally:
            self._busy -= 1
            lane.writing -= 1
            self._dispatch()

    async def _write_pack(self, lane: _Lane, group: list[_Entry]) -> list[ChunkRecord]:
        number, lane.packs = lane.packs, lane.packs + 1
        began = time.perf_counter()
        records = await self._store.write_pack(
            lane.checkpoint_id, lane.rank, number, [(entry.digest, entry.content) for entry in group]
        )
        if self._codec is not None:
            self._codec.note_stored(sum(entry.nbytes for entry in group), time.perf_counter() - began)
        return [
            record
            if entry.packed is None or self._codec is None
            else replace(record, nbytes=entry.piece.data.nbytes, codec=self._codec.name, stored=len(entry.packed))
            for entry, record in zip(group, records, strict=True)
        ]


def _settle(group: list[_Entry], error: StrataError) -> None:
    for entry in group:
        if not entry.done.done():
            entry.done.set_exception(error)
            # Whoever gave the chunk may have gone; then nobody asks.
            entry.done.exception()


def _require_valid(piece: Piece) -> None:
    if not piece.still_valid():
        raise _stale(piece)


def _stale(piece: Piece) -> StaleGenerationError:
    return StaleGenerationError(f"the memory of {piece.name} was taken back while it was being stored: send it again")


def _step_back(nice: int) -> None:
    if nice:
        # Linux keeps this for each thread. Nothing depends on it.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
