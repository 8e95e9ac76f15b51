"""Checkpoints as any release, any number of ranks and any order of writing may have left them; made for tests.

It writes objects and records itself, so that reading is tested against the format and not against the writer.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from blake3 import blake3

from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.checkpoint.tree import flatten
from strata_zmq.domain.manifest import ChunkRecord, Head, HeadEntry, Manifest, RankEntry, RankIndex, Span, TensorRecord
from strata_zmq.domain.manifest_format import encode_head, encode_manifest, encode_rank_index
from strata_zmq.storage import Storage

__all__ = ["Way", "loaded_bytes", "write_checkpoint"]


@dataclass(frozen=True)
class Way:
    """How a checkpoint was written: `cuts` chunks at any byte, packs of `pack_chunks`, gaps of up to `gap` bytes.

    `zstd` is the share of chunks that are compressed.
    """

    seed: int = 0
    record_format: int = 2
    cuts: int = 5
    pack_chunks: int = 3
    gap: int = 0
    zstd: float = 0.0


def write_checkpoint(
    place: Path | Storage,
    trees: Sequence[Any],
    *,
    checkpoint_id: str = "one",
    step: int = 1,
    metrics: Mapping[str, float] | None = None,
    way: Way | None = None,
    rng: Any = None,
) -> HeadEntry:
    """Write what each rank saved, and commit it behind what is there."""
    storage = _Folder(place) if isinstance(place, Path) else place
    return asyncio.run(_write(storage, trees, checkpoint_id, step, dict(metrics or {}), way or Way(), rng))


class _Folder:
    """A folder as LocalStorage keeps it, written without waiting for the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, data: bytes) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        path = self._root / key
        return (path.read_bytes() if path.exists() else None), None

    async def replace(self, key: str, data: bytes, _version: str | None) -> None:
        await self.put(key, data)


async def _write(
    storage: Any, trees: Sequence[Any], name: str, step: int, metrics: dict[str, float], way: Way, rng: Any
) -> HeadEntry:
    chance = random.Random(way.seed)
    ranks = []
    for rank, tree in enumerate(trees):
        index = replace(await _write_rank(storage, f"ckpt/{name}/rank-{rank:05d}", rank, tree, way, chance), rng=rng)
        data = _as_format(encode_rank_index(index), way.record_format)
        key = f"ckpt/{name}/rank-{rank:05d}/index"
        await storage.put(key, data)
        ranks.append(RankEntry(rank, f"worker-{rank}", key, blake3(data).hexdigest(), index.nbytes))
    manifest = Manifest(name, step, 0, 0, 0, 1.0, tuple(ranks), metrics=metrics)
    data = _as_format(encode_manifest(manifest), way.record_format)
    key = f"ckpt/{name}/manifest"
    await storage.put(key, data)
    entry = HeadEntry(
        name, key, blake3(data).hexdigest(), step, 0, 0, len(ranks), manifest.size_bytes, 1.0, metrics=metrics
    )
    found, version = await storage.read_versioned("HEAD")
    retained = _retained(found)
    head = encode_head(Head(version=len(retained) + 1, retained=(*retained, entry), nonce=str(len(retained))))
    await storage.replace("HEAD", _as_format(head, way.record_format), version)
    return entry


def _retained(found: bytes | None) -> tuple[HeadEntry, ...]:
    if found is None:
        return ()
    body = json.loads(found.split(b"\n")[1])
    return tuple(HeadEntry(**{**entry, "refs": tuple(entry.get("refs", ()))}) for entry in body["retained"])


async def _write_rank(storage: Any, folder: str, rank: int, tree: Any, way: Way, chance: random.Random) -> RankIndex:
    places: dict[str, Sharded] = {}
    skeleton, leaves = flatten(_without_shards(tree, "data", places))
    stream = bytearray()
    starts = []
    for leaf in leaves:
        starts.append(len(stream))
        stream += np.ascontiguousarray(leaf.read()).tobytes()
    edges = sorted({0, len(stream), *(chance.randrange(len(stream) + 1) for _ in range(way.cuts))})
    slices = list(itertools.pairwise(edges))
    tensors = []
    for leaf, start in zip(leaves, starts, strict=True):
        spans = tuple(
            Span(number, max(start, low) - low, min(start + leaf.nbytes, high) - max(start, low))
            for number, (low, high) in enumerate(slices)
            if max(start, low) < min(start + leaf.nbytes, high)
        )
        part = places.get(leaf.path)
        whole, offsets = (part.global_shape, part.offsets) if part else (None, None)
        tensors.append(TensorRecord(leaf.path, leaf.dtype, leaf.shape, leaf.tag, spans, whole, offsets))
    chunks = await _write_chunks(storage, folder, [bytes(stream[low:high]) for low, high in slices], way, chance)
    return RankIndex(rank, skeleton, tuple(tensors), tuple(chunks))


async def _write_chunks(
    storage: Any, folder: str, pieces: list[bytes], way: Way, chance: random.Random
) -> list[ChunkRecord]:
    records: dict[int, ChunkRecord] = {}
    order = list(range(len(pieces)))
    if way.record_format > 1 and chance.random() < 0.5:
        chance.shuffle(order)
    while order:
        together, order = order[: way.pack_chunks], order[way.pack_chunks :]
        if way.record_format == 1:
            order, together = together[1:] + order, together[:1]
        key = f"{folder}/pack-{together[0]:06d}"
        content = bytearray()
        for number in together:
            if way.record_format > 1 and way.gap:
                content += chance.randbytes(chance.randrange(way.gap))
            piece = pieces[number]
            small = zstandard.ZstdCompressor().compress(piece) if chance.random() < way.zstd else None
            digest = blake3(piece).hexdigest()
            records[number] = (
                ChunkRecord(key, digest, len(piece), len(content))
                if small is None
                else ChunkRecord(key, digest, len(piece), len(content), "zstd", len(small))
            )
            content += piece if small is None else small
        await storage.put(key, bytes(content))
    return [records[number] for number in range(len(pieces))]


def _without_shards(tree: Any, path: str, places: dict[str, Sharded]) -> Any:
    if isinstance(tree, Sharded):
        places[path] = tree
        return tree.array
    if isinstance(tree, dict):
        return {key: _without_shards(value, f"{path}[{key!r}]", places) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_without_shards(value, f"{path}[{i}]", places) for i, value in enumerate(tree))
    return tree


_NEW_IN_2 = {
    "tensors": {"global_shape", "global_offsets"},
    "ranks": {"refs", "written_bytes", "drained"},
    "retained": {"kind", "metrics", "refs"},
    "": {"rng", "metrics", "parent", "lineage", "nonce", "pins", "verified", "kept"},
}


def _as_format(record: bytes, number: int) -> bytes:
    """Return a record as an earlier release wrote it: without the fields that it did not know."""
    if number == 2:
        return record
    header, body = (json.loads(line) for line in record.splitlines())
    for name in _NEW_IN_2[""]:
        body.pop(name, None)
    for name in ("tensors", "ranks", "retained"):
        for item in body.get(name, ()):
            for field in _NEW_IN_2[name]:
                item.pop(field, None)
    if "chunks" in body:
        body["chunks"] = [chunk[:3] for chunk in body["chunks"]]
    text = json.dumps(body, separators=(",", ":")).encode()
    header = {**header, "format": number, "digest": hashlib.blake2b(text, digest_size=32).hexdigest()}
    return json.dumps(header, separators=(",", ":")).encode() + b"\n" + text + b"\n"


def loaded_bytes(tree: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Return dtype, shape and bytes of every array of a tree, in order."""
    if isinstance(tree, Sharded):
        return loaded_bytes(tree.array)
    if isinstance(tree, dict):
        return [found for value in tree.values() for found in loaded_bytes(value)]
    if isinstance(tree, (list, tuple)):
        return [found for value in tree for found in loaded_bytes(value)]
    if isinstance(tree, (np.ndarray, np.generic)):
        return [(tree.dtype.str, tree.shape, tree.tobytes())]
    return []


async def write_chunk(store: CheckpointStore, name: str, rank: int, data: bytes) -> ChunkRecord:
    """Store one chunk of a rank, as an object of its own."""
    (record,) = await store.write_pack(name, rank, 0, [(blake3(data).hexdigest(), data)])
    return record
