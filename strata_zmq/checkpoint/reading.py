"""Stored chunks into memory: what is read in which piece and where it goes, then the reads; every digest is checked.

It knows chunks and flat memory, not trees, nor which checkpoint is wanted. A chunk whose bytes lie side by side in one
array is read straight into it and hashed there; others go through buffers, which together stay within a budget.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from blake3 import blake3

from strata_zmq.checkpoint.codec import decompress_into
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, NotFoundError
from strata_zmq.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import ChunkRecord, RankIndex

__all__ = [
    "MEMORY_BUDGET_BYTES",
    "READ_BYTES_MAX",
    "Budget",
    "ChunkWork",
    "Flat",
    "Placement",
    "Read",
    "Target",
    "join_reads",
    "plan_chunks",
    "read_chunks",
]

log = logging.getLogger("strata.checkpoint")

MEMORY_BUDGET_BYTES = 256 * 1024 * 1024
"""Memory that a load takes beside the state itself; a chunk that is larger than that is read alone."""

READ_BYTES_MAX = 16 * 1024 * 1024
"""Neighbouring chunks are read at once up to this size."""

_GAP_MAX = 64 * 1024


class Target(Protocol):
    """Where the bytes of one stored array go. Bytes are counted in its C order, from 0."""

    def touches(self, begin: int, nbytes: int) -> bool:
        """Say whether any of these bytes is wanted."""

    def within(self, begin: int, nbytes: int) -> NDArray[np.uint8] | None:
        """Return the memory of these bytes if all are wanted and lie side by side, else None."""

    def place(self, begin: int, data: NDArray[np.uint8]) -> None:
        """Take what is wanted of `data`, which begins at byte `begin`."""


@dataclass(frozen=True, slots=True)
class Flat:
    """A target for bytes [start, start + len(memory)) of a stored array, which lie in `memory` as they are stored."""

    memory: NDArray[np.uint8]
    start: int = 0

    def touches(self, begin: int, nbytes: int) -> bool:
        """Say whether any of these bytes is wanted."""
        return begin < self.start + len(self.memory) and begin + nbytes > self.start

    def within(self, begin: int, nbytes: int) -> NDArray[np.uint8] | None:
        """Return the memory of these bytes if all are wanted."""
        first = begin - self.start
        return self.memory[first : first + nbytes] if 0 <= first <= len(self.memory) - nbytes else None

    def place(self, begin: int, data: NDArray[np.uint8]) -> None:
        """Take what is wanted of `data`."""
        low, high = max(begin, self.start), min(begin + len(data), self.start + len(self.memory))
        if low < high:
            self.memory[low - self.start : high - self.start] = data[low - begin : high - begin]


@dataclass(frozen=True, slots=True)
class Placement:
    """Bytes [offset, offset + nbytes) of a chunk are bytes [begin, begin + nbytes) of the array that `target` takes."""

    target: Target
    begin: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class ChunkWork:
    """One chunk that has to be read, and where its bytes go; without placements it is only checked."""

    chunk: ChunkRecord
    placements: tuple[Placement, ...] = ()

    @property
    def straight(self) -> bool:
        """Whether the chunk can be read into its place as it is stored."""
        return not self.chunk.codec and self.memory(self.chunk.nbytes) is not None

    def memory(self, nbytes: int) -> NDArray[np.uint8] | None:
        """Return the place of the chunk and of what follows it, `nbytes` in all, if they lie side by side."""
        if len(self.placements) != 1:
            return None
        (only,) = self.placements
        if only.offset or only.nbytes != self.chunk.nbytes:
            return None
        return only.target.within(only.begin, nbytes)


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes [offset, offset + nbytes) of one object: neighbouring chunks. `memory`: they are read straight into it."""

    key: str
    offset: int
    nbytes: int
    works: tuple[ChunkWork, ...]
    memory: NDArray[np.uint8] | None

    @property
    def buffer_bytes(self) -> int:
        """What it takes of the budget: what was read, and one unpacked chunk."""
        unpacked = max((work.chunk.nbytes for work in self.works if work.chunk.codec), default=0)
        return (0 if self.memory is not None else self.nbytes) + unpacked


def plan_chunks(index: RankIndex, targets: Mapping[int, Target]) -> list[ChunkWork]:
    """Return the chunks of `index` that hold anything wanted, given the targets of its tensors by their numbers."""
    placed: dict[int, list[Placement]] = defaultdict(list)
    for number, target in targets.items():
        begin = 0
        for span in index.tensors[number].spans:
            if target.touches(begin, span.nbytes):
                placed[span.chunk].append(Placement(target, begin, span.offset, span.nbytes))
            begin += span.nbytes
    return [ChunkWork(index.chunks[number], tuple(placed[number])) for number in sorted(placed)]


def join_reads(works: Iterable[ChunkWork], bytes_max: int = READ_BYTES_MAX) -> list[Read]:
    """Return the reads that bring all `works`: one for neighbours in an object, up to `bytes_max`."""
    reads: list[Read] = []
    for work in sorted(works, key=lambda one: (one.chunk.key, one.chunk.offset)):
        chunk = work.chunk
        joined = _joined(reads[-1], work, bytes_max) if reads else None
        if joined is not None:
            reads[-1] = joined
        else:
            memory = work.memory(chunk.nbytes) if work.straight else None
            reads.append(Read(chunk.key, chunk.offset, chunk.stored_bytes, (work,), memory))
    return reads


def _joined(read: Read, work: ChunkWork, bytes_max: int) -> Read | None:
    chunk = work.chunk
    nbytes = chunk.offset + chunk.stored_bytes - read.offset
    gap = chunk.offset - (read.offset + read.nbytes)
    if chunk.key != read.key or nbytes > bytes_max or not 0 <= gap <= _GAP_MAX:
        return None
    if work.straight != (read.memory is not None):
        return None
    memory = None
    if read.memory is not None:
        last, one = read.works[-1].placements[0], work.placements[0]
        if gap or last.target is not one.target or last.begin + last.nbytes != one.begin:
            return None
        memory = read.works[0].memory(nbytes)
        if memory is None:
            return None
    return Read(read.key, read.offset, nbytes, (*read.works, work), memory)


@dataclass(slots=True)
class Budget:
    """Lends buffers of at most `limit_bytes` together, one that is larger only alone; keeps them for the next."""

    limit_bytes: int = MEMORY_BUDGET_BYTES
    _lent: int = 0
    _free: list[NDArray[np.uint8]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        if type(self.limit_bytes) is not int or self.limit_bytes < 1:
            raise InvalidArgumentError(
                f"memory_budget_bytes is {ascii(self.limit_bytes)[:48]}: give a number of bytes, "
                f"{MEMORY_BUDGET_BYTES} is usual"
            )

    @contextlib.asynccontextmanager
    async def lend(self, nbytes: int) -> AsyncIterator[NDArray[np.uint8]]:
        """Lend `nbytes` of memory, after waiting until they fit."""
        if not nbytes:
            yield np.empty(0, np.uint8)
            return
        async with self._changed:
            await self._changed.wait_for(lambda: not self._lent or self._lent + nbytes <= self.limit_bytes)
            buffer = self._take(nbytes)
            self._lent += len(buffer)
        try:
            yield buffer[:nbytes]
        finally:
            async with self._changed:
                self._lent -= len(buffer)
                self._free.append(buffer)
                self._changed.notify_all()

    def _take(self, nbytes: int) -> NDArray[np.uint8]:
        # The first touch of memory is slow: what was used before is used again, where that fits.
        for number, buffer in enumerate(self._free):
            if nbytes <= len(buffer) and (not self._lent or self._lent + len(buffer) <= self.limit_bytes):
                return self._free.pop(number)
        while self._free and self._lent + nbytes + sum(map(len, self._free)) > self.limit_bytes:
            self._free.pop()
        return np.empty(nbytes, np.uint8)


async def read_chunks(
    store: CheckpointStore,
    works: Sequence[ChunkWork],
    *,
    budget: Budget | None = None,
    damaged: Callable[[ChunkRecord, CheckpointCorruptError], None] | None = None,
) -> int:
    """Read, check and place all `works`, several at a time; return how many bytes were checked.

    The first chunk that is missing or damaged ends it with CheckpointCorruptError; with `damaged`, that is told of each
    one and the others go on. On return, with an error or without, nothing is written to any target any more.
    """
    engine = _Engine(store, budget or Budget(), damaged)
    return await engine.run(join_reads(works))


class _Engine:
    def __init__(
        self,
        store: CheckpointStore,
        budget: Budget,
        damaged: Callable[[ChunkRecord, CheckpointCorruptError], None] | None,
    ) -> None:
        self._store = store
        self._budget = budget
        self._damaged = damaged
        self._failed: BaseException | None = None
        self._checked = 0

    async def run(self, reads: list[Read]) -> int:
        waiting = iter(reads)
        at_once = min(len(reads), 2 * self._store.storage.traits.puts_at_once)
        tasks = [asyncio.create_task(self._work(waiting)) for _ in range(at_once)]
        if tasks:
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError as given_up:
                # Threads cannot be cancelled. What they still write would land in arrays that others use again.
                self._failed = given_up
                await asyncio.wait(tasks)
                raise
        if self._failed is not None:
            raise self._failed
        return self._checked

    async def _work(self, waiting: Iterable[Read]) -> None:
        for read in waiting:
            if self._failed is not None:
                return
            try:
                async with self._budget.lend(read.buffer_bytes) as buffer:
                    await self._bring(read, buffer)
            except BaseException as error:  # noqa: BLE001 - whatever it is, `run` raises it
                if self._failed is None:
                    self._failed = error
                return

    async def _bring(self, read: Read, buffer: NDArray[np.uint8]) -> None:
        memory = read.memory if read.memory is not None else buffer[: read.nbytes]
        spare = buffer[0 if read.memory is not None else read.nbytes :]
        check = _Check(read, memory, spare, self._store.storage.url)
        try:
            count = await self._store.storage.get_into(read.key, read.offset, memory.data, check.arrived)
        except NotFoundError:
            error = CheckpointCorruptError(f"{self._store.storage.url}/{read.key} is missing")
            if self._damaged is None:
                raise error from None
            for work in read.works:
                self._damaged(work.chunk, error)
            return
        if not check.ended:
            await asyncio.to_thread(check.finish, count)
        self._checked += check.good
        for work, damage in check.found:
            if self._damaged is not None:
                self._damaged(work.chunk, damage)
            elif not await self._bring_second(work, damage):
                raise damage

    async def _bring_second(self, work: ChunkWork, damage: CheckpointCorruptError) -> bool:
        """Read a damaged chunk from where there is a copy of it, if there is one and that is whole."""
        second, chunk = self._store.second, work.chunk
        if second is None:
            return False
        stored = np.empty(chunk.stored_bytes, np.uint8)
        spare = np.empty(chunk.nbytes if chunk.codec else 0, np.uint8)
        check = _Check(Read(chunk.key, chunk.offset, chunk.stored_bytes, (work,), None), stored, spare, second.url)
        try:
            count = await second.get_into(chunk.key, chunk.offset, stored.data)
        except NotFoundError:
            return False
        await asyncio.to_thread(check.finish, count)
        if check.found:
            return False
        self._checked += check.good
        log.warning("%s; these bytes were read from %s", damage, second.url)
        return True


class _Check:
    """The chunks of one read, each checked and placed as soon as its bytes are there, on the thread that brought them.

    `good` counts the bytes of those that are whole; `found` has the others, with what is wrong.
    """

    def __init__(self, read: Read, memory: NDArray[np.uint8], spare: NDArray[np.uint8], url: str) -> None:
        self._read = read
        self._memory = memory
        self._spare = spare
        self._url = url
        self._next = 0
        self.good = 0
        self.found: list[tuple[ChunkWork, CheckpointCorruptError]] = []

    @property
    def ended(self) -> bool:
        return self._next == len(self._read.works)

    def arrived(self, count: int) -> None:
        """Check what is whole now that `count` bytes are there."""
        while not self.ended:
            work = self._read.works[self._next]
            begin = work.chunk.offset - self._read.offset
            if begin + work.chunk.stored_bytes > count:
                return
            self._next += 1
            self._check(work, self._memory[begin : begin + work.chunk.stored_bytes])

    def finish(self, count: int) -> None:
        """Check what is left when no more than `count` bytes come."""
        self.arrived(count)
        for work in self._read.works[self._next :]:
            begin = work.chunk.offset - self._read.offset
            self._check(work, self._memory[min(begin, count) : min(begin + work.chunk.stored_bytes, count)])
        self._next = len(self._read.works)

    def _check(self, work: ChunkWork, stored: NDArray[np.uint8]) -> None:
        failpoint("restore.chunk")
        try:
            data = self._checked_bytes(work.chunk, stored, self._spare[: work.chunk.nbytes])
        except CheckpointCorruptError as error:
            self.found.append((work, error))
            return
        self.good += work.chunk.nbytes
        if self._read.memory is None:
            for one in work.placements:
                one.target.place(one.begin, data[one.offset : one.offset + one.nbytes])

    def _checked_bytes(
        self, chunk: ChunkRecord, stored: NDArray[np.uint8], spare: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        where = f"{self._url}/{chunk.key}"
        if len(stored) < chunk.stored_bytes:
            raise CheckpointCorruptError(
                f"{where} ends {chunk.stored_bytes - len(stored)} bytes before the end of its chunk at "
                f"{chunk.offset} ({chunk.stored_bytes} bytes): cut off"
            )
        data = stored
        if chunk.codec:
            decompress_into(stored.data, spare.data, f"{where} from {chunk.offset} on")
            data = spare
        found = blake3(data.data).hexdigest()
        if found != chunk.digest:
            raise CheckpointCorruptError(
                f"{where} has the digest {found[:16]} in its {chunk.nbytes} bytes from {chunk.offset} on, expected "
                f"{chunk.digest[:16]}: damaged"
            )
        return data
