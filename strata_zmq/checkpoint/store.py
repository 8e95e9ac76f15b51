"""Checkpoints in a storage: chunks, rank indexes, manifests, and HEAD, the one object that makes a checkpoint exist.

It knows keys, order and retention; never how a model becomes bytes, nor who decided that a checkpoint is complete.

Under the prefix: `HEAD`; `ckpt/ID/intent` (who is writing); `ckpt/ID/rank-R/chunk-N-DIGEST` and `index-DIGEST`;
`ckpt/ID/manifest-DIGEST`. Names carry digests, so that two writers of one checkpoint cannot overwrite each other with
something else. Everything that HEAD does not reach is either being written or garbage.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from strata_zmq.domain.manifest import ChunkRecord, Head, HeadEntry, Manifest, RankIndex, check_checkpoint_id, save_term
from strata_zmq.domain.manifest_format import (
    decode_head,
    decode_manifest,
    decode_rank_index,
    encode_head,
    encode_manifest,
    encode_rank_index,
)
from strata_zmq.errors import (
    AlreadyExistsError,
    CheckpointCorruptError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StaleGenerationError,
)
from strata_zmq.storage import Storage, VersionConflictError
from strata_zmq.storage.base import Data, check_prefix

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["KEEP_COUNT_MAX", "CheckpointStore", "Commit"]

KEEP_COUNT_MAX = 10_000
_COMMIT_ATTEMPTS = 64


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit did: the new HEAD, the checkpoint's entry, and the ids that HEAD no longer reaches by it."""

    head: Head
    entry: HeadEntry
    dropped: tuple[str, ...]


class CheckpointStore:
    """All checkpoints under one prefix of a storage."""

    def __init__(self, storage: Storage, prefix: str = "") -> None:
        self.storage = storage
        self._prefix = check_prefix(prefix).rstrip("/") + "/" if prefix else ""
        self._head_key = f"{self._prefix}HEAD"

    def path(self, checkpoint_id: str) -> str:
        """Return where a checkpoint lies, as a person would write it."""
        return f"{self.storage.url}/{self._folder(checkpoint_id)}"

    # ---- writing --------------------------------------------------------------------------------------------------

    async def declare(self, checkpoint_id: str, owner: dict[str, str | int]) -> None:
        """Leave word who is about to write this checkpoint, so that a collector can tell whether it is still at it."""
        await self.storage.put(f"{self._folder(checkpoint_id)}intent", json.dumps(owner).encode())

    async def write_chunk(
        self, checkpoint_id: str, rank: int, number: int, data: Data, digest: str | None = None
    ) -> ChunkRecord:
        """Store one chunk durably; CheckpointCorruptError if a blake3 `digest` is given and `data` has another."""
        found = await asyncio.to_thread(lambda: blake3(data).hexdigest())
        if digest is not None and found != digest:
            raise CheckpointCorruptError(
                f"chunk {number} of rank {rank} of {checkpoint_id} has the digest {found[:16]}, {digest[:16]} was "
                "announced: it was damaged on its way; send it again"
            )
        key = f"{self._folder(checkpoint_id)}rank-{rank:05d}/chunk-{number:06d}-{found[:16]}"
        await self.storage.put(key, data)
        return ChunkRecord(key, found, memoryview(data).nbytes)

    async def write_rank_index(self, checkpoint_id: str, index: RankIndex) -> tuple[str, str]:
        """Store a rank's index durably; returns its key and its blake3 digest."""
        return await self.write_encoded_index(checkpoint_id, index.rank, encode_rank_index(index))

    async def write_encoded_index(
        self, checkpoint_id: str, rank: int, data: bytes, digest: str | None = None
    ) -> tuple[str, str]:
        """Store a rank's index, already encoded, after making sure that it is one and has the blake3 `digest`."""
        name = f"the index of rank {rank} of {checkpoint_id}"
        found = decode_rank_index(data, name)
        if found.rank != rank:
            raise InvalidArgumentError(f"the index of rank {found.rank} was sent for rank {rank}")
        own = blake3(data).hexdigest()
        if digest is not None and own != digest:
            raise CheckpointCorruptError(
                f"{name} has the digest {own[:16]}, {digest[:16]} was announced: send it again"
            )
        key = f"{self._folder(checkpoint_id)}rank-{rank:05d}/index-{own[:16]}"
        await self.storage.put(key, data)
        return key, own

    async def commit(self, manifest: Manifest, keep_count: int, *, fenced: bool = True) -> Commit:
        """Write the manifest, then advance HEAD to it and to the last `keep_count` checkpoints in all.

        Committing the same manifest again is harmless. With `fenced` the manifest's (term, generation, step) must not
        be below HEAD's fence, which rises to it: StaleGenerationError otherwise, and HEAD stays as it is. Without, the
        fence stays as it is (a process that has no coordinator holds no term).
        """
        if not 1 <= keep_count <= KEEP_COUNT_MAX:
            raise InvalidArgumentError(f"keep_count is {keep_count}: choose from 1 to {KEEP_COUNT_MAX}")
        data = encode_manifest(manifest)
        digest = blake3(data).hexdigest()
        entry = HeadEntry(
            checkpoint_id=manifest.checkpoint_id,
            manifest_key=f"{self._folder(manifest.checkpoint_id)}manifest-{digest[:16]}",
            digest=digest,
            step=manifest.step,
            epoch=manifest.epoch,
            generation=manifest.generation,
            world_size=manifest.world_size,
            size_bytes=manifest.size_bytes,
            created_at=manifest.created_at,
        )
        head, version = await self._read_head()
        if not self._needed(head, entry, manifest, fenced=fenced):
            return Commit(head, entry, ())
        await self._require_indexes(manifest)
        await self.storage.put(entry.manifest_key, data)
        for _ in range(_COMMIT_ATTEMPTS):
            retained = (*head.retained, entry)[-keep_count:]
            fence = (manifest.term, manifest.generation, manifest.step) if fenced else head.fence
            advanced = Head(*fence, version=head.version + 1, retained=retained)
            try:
                await self.storage.replace(self._head_key, encode_head(advanced), version)
            except VersionConflictError:
                head, version = await self._read_head()
                if not self._needed(head, entry, manifest, fenced=fenced):
                    return Commit(head, entry, ())
            else:
                kept = {item.checkpoint_id for item in retained}
                dropped = tuple(item.checkpoint_id for item in head.retained if item.checkpoint_id not in kept)
                return Commit(advanced, entry, dropped)
        raise ResourceExhaustedError(
            f"{self._where(self._head_key)} was advanced by others {_COMMIT_ATTEMPTS} times in a row: "
            "are too many processes saving into one place? Give each its own"
        )

    # ---- reading --------------------------------------------------------------------------------------------------

    async def head(self) -> Head:
        """Return HEAD; an empty one where nothing was ever committed."""
        head, _ = await self._read_head()
        return head

    async def entries(self) -> list[HeadEntry]:
        """Return the committed checkpoints, oldest first."""
        return list((await self.head()).retained)

    async def find(self, checkpoint_id: str) -> HeadEntry:
        """Return a committed checkpoint's entry; NotFoundError names those that there are."""
        head = await self.head()
        entry = head.find(checkpoint_id)
        if entry is None:
            names = ", ".join(item.checkpoint_id for item in head.retained[-5:]) or "none"
            raise NotFoundError(
                f"checkpoint {ascii(checkpoint_id)[:140]} is not among the committed ones in {self._where('')}; "
                f"the newest are: {names}"
            )
        return entry

    async def read_manifest(self, entry: HeadEntry) -> Manifest:
        """Return a checkpoint's manifest, its digest checked."""
        data = await self._checked(entry.manifest_key, entry.digest)
        manifest = decode_manifest(data, self._where(entry.manifest_key))
        if manifest.checkpoint_id != entry.checkpoint_id:
            raise CheckpointCorruptError(
                f"{self._where(entry.manifest_key)} belongs to {manifest.checkpoint_id}, not to {entry.checkpoint_id}"
            )
        return manifest

    async def read_rank_index(self, manifest: Manifest, rank: int) -> RankIndex:
        """Return one rank's index, its digest checked; InvalidArgumentError for a rank that did not save."""
        if not 0 <= rank < manifest.world_size:
            raise InvalidArgumentError(
                f"rank is {rank}: {manifest.checkpoint_id} was saved by ranks 0 to {manifest.world_size - 1}"
            )
        found = manifest.ranks[rank]
        data = await self._checked(found.index_key, found.digest)
        index = decode_rank_index(data, self._where(found.index_key))
        if index.rank != rank:
            raise CheckpointCorruptError(f"{self._where(found.index_key)} is of rank {index.rank}, not {rank}")
        return index

    async def read_chunk(self, chunk: ChunkRecord) -> bytes:
        """Return one chunk, its size and digest checked."""
        data = await self._checked(chunk.key, chunk.digest)
        if len(data) != chunk.nbytes:
            raise CheckpointCorruptError(
                f"{self._where(chunk.key)} has {len(data)} bytes, its index says {chunk.nbytes}"
            )
        return data

    # ---- garbage --------------------------------------------------------------------------------------------------

    async def discard(self, checkpoint_id: str) -> None:
        """Delete everything of a checkpoint that HEAD does not reach; one that HEAD reaches is never touched."""
        if (await self.head()).find(checkpoint_id) is not None:
            raise InvalidArgumentError(f"checkpoint {checkpoint_id} is committed: lower keep_count to retire it")
        folder = self._folder(checkpoint_id)
        intent = f"{folder}intent"
        for key in await self.storage.list(folder):
            if key != intent:
                await self.storage.delete(key)
        await self.storage.sweep(folder, older_than_s=0.0)
        # Last, so that an interrupted deletion can still be told from a save in flight.
        await self.storage.delete(intent)

    async def unreachable(self) -> dict[str, dict[str, str | int] | None]:
        """Return the ids that are stored but not committed, each with the intent that its writer declared, if any."""
        begin = len(self._prefix) + len("ckpt/")
        # Keys first, HEAD second: what is committed in between is then seen in HEAD.
        keys = await self.storage.list(f"{self._prefix}ckpt/")
        head = await self.head()
        found: dict[str, dict[str, str | int] | None] = {}
        for checkpoint_id in sorted({key[begin:].partition("/")[0] for key in keys}):
            if head.find(checkpoint_id) is None:
                found[checkpoint_id] = await self._intent(checkpoint_id)
        return found

    async def collect_garbage(self, in_flight: Collection[str]) -> list[str]:
        """Delete what aborted saves left behind, except saves still in flight; returns the ids that are gone."""
        gone = [checkpoint_id for checkpoint_id in await self.unreachable() if checkpoint_id not in in_flight]
        for checkpoint_id in gone:
            await self.discard(checkpoint_id)
        await self.sweep()
        return gone

    async def sweep(self) -> None:
        """Remove what writes that were interrupted long ago left behind and no key names."""
        await self.storage.sweep(f"{self._prefix}ckpt/")

    # ---- helpers --------------------------------------------------------------------------------------------------

    def _folder(self, checkpoint_id: str) -> str:
        return f"{self._prefix}ckpt/{check_checkpoint_id(checkpoint_id)}/"

    def _where(self, key: str) -> str:
        return f"{self.storage.url}/{key or self._prefix}".rstrip("/")

    async def _read_head(self) -> tuple[Head, str | None]:
        data, version = await self.storage.read_versioned(self._head_key)
        if data is None:
            return Head(), version
        where = self._where(self._head_key)
        try:
            return decode_head(data, where), version
        except CheckpointCorruptError as error:
            raise CheckpointCorruptError(
                f"{error}; put a copy of {where} back, or save into another folder: what lies in ckpt/ is not touched"
            ) from None

    async def _checked(self, key: str, digest: str) -> bytes:
        try:
            data = await self.storage.get(key)
        except NotFoundError:
            raise CheckpointCorruptError(f"{self._where(key)} is missing") from None
        found = await asyncio.to_thread(lambda: blake3(data).hexdigest())
        if found != digest:
            raise CheckpointCorruptError(
                f"{self._where(key)} ({len(data)} bytes) has the digest {found[:16]}, expected {digest[:16]}: "
                "cut off or damaged"
            )
        return data

    async def _intent(self, checkpoint_id: str) -> dict[str, str | int] | None:
        try:
            found = json.loads(await self.storage.get(f"{self._folder(checkpoint_id)}intent"))
        except (NotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    async def _require_indexes(self, manifest: Manifest) -> None:
        for entry in manifest.ranks:
            if not await self.storage.exists(entry.index_key):
                raise NotFoundError(
                    f"{manifest.checkpoint_id} cannot be committed: {self._where(entry.index_key)} of rank "
                    f"{entry.rank} is not there; do all storage writers write to the same place?"
                )

    @staticmethod
    def _needed(head: Head, entry: HeadEntry, manifest: Manifest, *, fenced: bool) -> bool:
        """Say whether `entry` has still to be committed; raises if it must not be."""
        there = head.find(entry.checkpoint_id)
        if there is not None:
            if there.digest == entry.digest:
                return False
            raise AlreadyExistsError(
                f"checkpoint {entry.checkpoint_id} is committed with another content: choose another id"
            )
        fence = (manifest.term, manifest.generation, manifest.step)
        opened = save_term(manifest.checkpoint_id)
        # A new term may commit what was opened before it, but not take HEAD back: what lies behind has been retired,
        # and its bytes with it. Only who opened it above HEAD's term counts generations anew.
        behind = opened is not None and opened <= head.term and fence[1:] < head.fence[1:]
        if fenced and (fence < head.fence or behind):
            raise StaleGenerationError(
                f"checkpoint {entry.checkpoint_id} of (term, generation, step) {fence} comes after {head.fence} was "
                "committed: its coordinator or its generation is past; register again and save anew"
            )
        return True
