"""Arrays from the parts that several ranks saved: which parts make up what is wanted, and whether copies are equal.

It knows rank indexes and destinations, neither trees nor names of checkpoints. What cannot be told for certain is
refused: a part without a place, copies that differ, gaps.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strata_zmq.checkpoint.reading import Budget, ChunkWork, Target, plan_chunks, read_chunks
from strata_zmq.checkpoint.reshard import Box, cover, part_of, target_of
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from strata_zmq.checkpoint.reshard import Part
    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import Manifest, RankIndex, TensorRecord

__all__ = ["Gathering", "box_of", "read_indexes", "whole_of"]

_INDEXES_AT_ONCE = 8


def box_of(tensor: TensorRecord) -> Box:
    """Return which part of its whole a stored array is."""
    return Box(tensor.global_offsets or (0,) * len(tensor.shape), tensor.shape)


def whole_of(tensor: TensorRecord) -> tuple[int, ...]:
    """Return the shape of the whole of which a stored array is a part."""
    return tensor.shape if tensor.global_shape is None else tensor.global_shape


async def read_indexes(store: CheckpointStore, manifest: Manifest) -> list[RankIndex]:
    """Return the indexes of all ranks, in order; a few are read at once."""
    gate = asyncio.Semaphore(_INDEXES_AT_ONCE)

    async def read(rank: int) -> RankIndex:
        async with gate:
            return await store.read_rank_index(manifest, rank)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(rank)) for rank in range(manifest.world_size)]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


@dataclass(slots=True)
class Gathering:
    """What is to be read from some ranks' indexes, and where to. First `want`, then `read`."""

    indexes: Mapping[int, RankIndex]
    _targets: dict[int, dict[int, Target]] = field(default_factory=lambda: defaultdict(dict))
    _copies: dict[int, dict[int, Target]] = field(default_factory=lambda: defaultdict(dict))
    _places: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for rank in sorted(self.indexes):
            for number, tensor in enumerate(self.indexes[rank].tensors):
                self._places[tensor.path].append((rank, number))

    def tensors(self, path: str) -> list[tuple[int, TensorRecord]]:
        """Return (rank, record) of all that were saved at a place of the tree."""
        return [(rank, self.indexes[rank].tensors[number]) for rank, number in self._places[path]]

    @property
    def asked_for_all(self) -> bool:
        """Whether every chunk of the indexes is read."""
        asked = {
            (work.chunk.key, work.chunk.offset) for work in (*self._works(self._targets), *self._works(self._copies))
        }
        return asked >= {(chunk.key, chunk.offset) for index in self.indexes.values() for chunk in index.chunks}

    def want(self, path: str, array: NDArray[Any], part: Box, *, only: int | None = None) -> None:
        """Have `array` filled with `part` of what the ranks, or `only` one of them, saved under `path`.

        Raises InvalidArgumentError where dtype or whole differ from rank to rank, or the parts do not make it up.
        """
        places = [(rank, number) for rank, number in self._places[path] if only in {None, rank}]
        records = [self.indexes[rank].tensors[number] for rank, number in places]
        first = records[0]
        for (rank, _), record in zip(places, records, strict=True):
            if (record.dtype, record.tag, whole_of(record)) != (first.dtype, first.tag, whole_of(first)):
                raise InvalidArgumentError(
                    f"{path} is {first.dtype} of shape {whole_of(first)} on rank {places[0][0]} and {record.dtype} of "
                    f"shape {whole_of(record)} on rank {rank}, and nothing says what part of a whole each is: save it "
                    "as Sharded(array, global_shape, offsets), load each rank's own without world, or leave it out by "
                    "names"
                )
        boxes = [box_of(record) for record in records]
        try:
            makers = cover(part, boxes)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{path} {error}: load each rank's own without world") from None
        for maker in makers:
            rank, number = places[maker]
            target = target_of(array, part, boxes[maker])
            if target is not None:
                self._targets[rank][number] = target
            for other, box in enumerate(boxes):
                if other != maker and box == boxes[maker]:
                    self._compare(path, places[maker], places[other], part_of(array, part, box))

    async def read(self, store: CheckpointStore, budget: Budget) -> int:
        """Fill all that is wanted, then compare the copies; return how many bytes were checked.

        Raises CheckpointCorruptError for damage and InvalidArgumentError for copies that differ.
        """
        done = await self._run(store, self._targets, budget)
        done += await self._run(store, self._copies, budget)
        for target in (target for found in self._copies.values() for target in found.values()):
            if isinstance(target, _Copy) and target.differs:
                raise InvalidArgumentError(
                    f"{target.path} differs between the ranks {target.ranks[0]} and {target.ranks[1]}, and neither "
                    "says which part of a whole it is: save it as Sharded(array, global_shape, offsets), load each "
                    "rank's own without world, or leave it out by names"
                )
        return done

    async def _run(self, store: CheckpointStore, targets: Mapping[int, Mapping[int, Target]], budget: Budget) -> int:
        return await read_chunks(store, self._works(targets), budget=budget)

    def _works(self, targets: Mapping[int, Mapping[int, Target]]) -> list[ChunkWork]:
        return [work for rank, found in targets.items() for work in plan_chunks(self.indexes[rank], found)]

    def _compare(self, path: str, one: tuple[int, int], other: tuple[int, int], part: Part | None) -> None:
        if part is not None and not self._stored_alike(one, other):
            rank, number = other
            self._copies[rank][number] = _Copy(part, path, (one[0], rank))

    def _stored_alike(self, one: tuple[int, int], other: tuple[int, int]) -> bool:
        """Say whether two arrays lie at equal places in chunks of equal digests."""
        return self._bytes_of(*one) == self._bytes_of(*other)

    def _bytes_of(self, rank: int, number: int) -> Sequence[tuple[str, int, int]]:
        index = self.indexes[rank]
        return [(index.chunks[span.chunk].digest, span.offset, span.nbytes) for span in index.tensors[number].spans]


@dataclass(slots=True)
class _Copy:
    """A target that takes nothing, and notes whether what comes is what has been read already."""

    part: Part
    path: str
    ranks: tuple[int, int]
    differs: bool = False

    def touches(self, begin: int, nbytes: int) -> bool:
        return self.part.touches(begin, nbytes)

    def within(self, begin: int, nbytes: int) -> None:
        return None

    def place(self, begin: int, data: NDArray[np.uint8]) -> None:
        self.differs = self.differs or not self.part.holds(begin, data)
