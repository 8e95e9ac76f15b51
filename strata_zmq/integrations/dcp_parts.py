"""What one rank saves, part by part, into chunks, and byte ranges of parts out of them; torch's plans are not known.

Parts are stored where they lie: a large one without a copy, small ones gathered into chunks that they share. Only so
much is under way at once as the storage likes to write, so that a device's tensors need not all fit into the host.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.chunks import plan
from strata_zmq.checkpoint.packs import PackWriter, Piece
from strata_zmq.domain.manifest import ChunkRecord, RankIndex, Span, TensorRecord
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from strata_zmq.checkpoint.arrays import Leaf
    from strata_zmq.checkpoint.background import BackgroundLoop
    from strata_zmq.checkpoint.chunks import Layout
    from strata_zmq.checkpoint.store import CheckpointStore

__all__ = ["Part", "Wanted", "read_ranges", "write_parts"]

READ_AHEAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One array, or a part of a larger one, that is to be saved as `path`; `nbytes` are announced, `leaf` gives it.

    `leaf` is called once, when its bytes are wanted.
    """

    path: str
    nbytes: int
    leaf: Callable[[], Leaf]
    global_shape: tuple[int, ...] | None = None
    global_offsets: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bytes [begin, end) of array number `tensor` of an index; `use` gets them, in memory of their own."""

    tensor: int
    begin: int
    end: int
    use: Callable[[NDArray[np.uint8]], None]


def write_parts(
    store: CheckpointStore,
    loop: BackgroundLoop,
    checkpoint_id: str,
    rank: int,
    parts: Sequence[Part],
    chunk_bytes: int,
) -> tuple[tuple[TensorRecord, ...], tuple[ChunkRecord, ...]]:
    """Store `parts` durably; returns what they are and where they lie, in order. Their memory is in use meanwhile."""
    layout = plan([part.nbytes for part in parts], chunk_bytes)
    source = _Source(parts, layout)
    packs = PackWriter(store)
    traits = store.storage.traits
    under_way: deque[tuple[int, Future[tuple[ChunkRecord, bool]]]] = deque()
    room = traits.object_bytes_best * (traits.puts_at_once + 1)
    records: list[ChunkRecord] = []
    try:
        for number, data in enumerate(source.chunks()):
            while under_way and room < data.nbytes:
                room += _finish(under_way, records)
            room -= data.nbytes
            piece = Piece(checkpoint_id, rank, number, data)
            under_way.append((data.nbytes, loop.submit(packs.write(piece))))
        while under_way:
            _finish(under_way, records)
    finally:
        for _, future in under_way:
            future.cancel()
        # Until then the memory of the parts may still be read.
        loop.run(packs.close())
    return source.records(), tuple(records)


def read_ranges(fetch: Callable[[ChunkRecord], Future[bytes]], index: RankIndex, wanted: Sequence[Wanted]) -> None:
    """Give each of `wanted` its bytes, reading every chunk that is needed once, and only those, in their order."""
    uses: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)  # chunk: (wanted, offset in it, there, bytes)
    missing = [one.end - one.begin for one in wanted]
    for number, one in enumerate(wanted):
        for span, begin, end in _spans(index.tensors[one.tensor], one.begin, one.end):
            uses[span.chunk].append((number, begin - one.begin, span.offset, end - begin))
        if not missing[number]:
            one.use(np.empty(0, np.uint8))
    buffers: dict[int, NDArray[np.uint8]] = {}
    for chunk, data in _fetched(fetch, index, sorted(uses)):
        content = np.frombuffer(data, np.uint8)
        for number, there, offset, nbytes in uses[chunk]:
            one = wanted[number]
            if number not in buffers:
                buffers[number] = np.empty(one.end - one.begin, np.uint8)
            buffers[number][there : there + nbytes] = content[offset : offset + nbytes]
            missing[number] -= nbytes
            if not missing[number]:
                one.use(buffers.pop(number))


class _Source:
    """The bytes of parts, chunk by chunk, and what the parts turned out to be."""

    def __init__(self, parts: Sequence[Part], layout: Layout) -> None:
        self._parts, self._layout = parts, layout
        self._leaves: dict[int, Leaf] = {}

    def chunks(self) -> Iterator[memoryview]:
        held: dict[int, list[tuple[int, int, Span]]] = defaultdict(list)
        for number, spans in enumerate(self._layout.spans):
            begin = 0
            for span in spans:
                held[span.chunk].append((number, begin, span))
                begin += span.nbytes
            if not spans:
                self._leaf(number)
        last: tuple[int, NDArray[np.uint8]] = (-1, np.empty(0, np.uint8))
        for chunk, piece in enumerate(self._layout.slices):
            number, begin, span = held[chunk][0]
            if span.nbytes == piece.nbytes:
                if last[0] != number:
                    last = (number, self._bytes(number))
                yield last[1][begin : begin + span.nbytes].data
                continue
            gathered = np.zeros(piece.nbytes, np.uint8)
            for number, _, span in held[chunk]:
                gathered[span.offset : span.offset + span.nbytes] = self._bytes(number)
            yield gathered.data

    def records(self) -> tuple[TensorRecord, ...]:
        return tuple(
            TensorRecord(
                part.path,
                self._leaves[number].dtype,
                self._leaves[number].shape,
                self._leaves[number].tag,
                spans,
                part.global_shape,
                part.global_offsets,
            )
            for number, (part, spans) in enumerate(zip(self._parts, self._layout.spans, strict=True))
        )

    def _bytes(self, number: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._leaf(number).read()).reshape(-1).view(np.uint8)

    def _leaf(self, number: int) -> Leaf:
        part = self._parts[number]
        leaf = part.leaf()
        if leaf.nbytes != part.nbytes:
            raise InvalidArgumentError(
                f"{part.path} was announced with {part.nbytes} bytes and has {leaf.nbytes}: let the planner announce "
                "what it gives"
            )
        self._leaves[number] = _described(leaf)
        return leaf


def _described(leaf: Leaf) -> Leaf:
    """Return `leaf` without its content, which nobody shall hold on to."""
    return type(leaf)(leaf.path, leaf.dtype, leaf.shape, leaf.tag, _spent)


def _spent() -> Any:
    raise AssertionError("a part was read when it was saved")


def _finish(under_way: deque[tuple[int, Future[tuple[ChunkRecord, bool]]]], records: list[ChunkRecord]) -> int:
    nbytes, future = under_way.popleft()
    records.append(future.result()[0])
    return nbytes


def _spans(tensor: TensorRecord, begin: int, end: int) -> Iterator[tuple[Span, int, int]]:
    """Yield where the bytes [begin, end) of `tensor` lie: a span cut to size, and which of the bytes it holds."""
    position = 0
    for span in tensor.spans:
        low, high = max(begin, position), min(end, position + span.nbytes)
        if low < high:
            yield Span(span.chunk, span.offset + low - position, high - low), low, high
        position += span.nbytes


def _fetched(
    fetch: Callable[[ChunkRecord], Future[bytes]], index: RankIndex, chunks: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield chunks in order while the next ones are being read."""
    coming: deque[tuple[int, Future[bytes]]] = deque()
    waiting, ahead = deque(chunks), 0
    try:
        while waiting or coming:
            while waiting and (not coming or ahead + index.chunks[waiting[0]].nbytes <= READ_AHEAD_BYTES):
                ahead += index.chunks[waiting[0]].nbytes
                coming.append((waiting[0], fetch(index.chunks[waiting[0]])))
                waiting.popleft()
            chunk, future = coming.popleft()
            yield chunk, future.result()
            ahead -= index.chunks[chunk].nbytes
    finally:
        for _, future in coming:
            future.cancel()
