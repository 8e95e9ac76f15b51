"""Checkpoints in a storage: chunks, rank indexes, manifests, and HEAD, the one object that makes a checkpoint exist.

It knows keys and order; never how a model becomes bytes, which rule retires a checkpoint, or who decided that one is
complete.

Under the prefix: `HEAD`; `ckpt/ID/intent` (who is writing); `ckpt/ID/rank-R/pack-N-NONCE` (chunks, many to an object)
and `index-DIGEST`; `ckpt/ID/manifest-DIGEST`. Names carry a digest or a nonce, so that two writers of one checkpoint
cannot overwrite each other with something else. HEAD reaches the checkpoints that it retains and those in whose folders
chunks of these lie; everything else is either being written or garbage. A folder is deleted only after a HEAD that does
not reach it, and what refers to it has to be committed on such a HEAD, which is refused: so nothing that HEAD reaches
goes.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blake3 import blake3

from strata_zmq.checkpoint import garbage
from strata_zmq.checkpoint.codec import decompress
from strata_zmq.checkpoint.pack_layout import lay_out
from strata_zmq.domain.manifest import ChunkRecord, Head, HeadEntry, Manifest, RankIndex, check_checkpoint_id, save_term
from strata_zmq.domain.manifest_format import (
    decode_head,
    decode_manifest,
    decode_rank_index,
    encode_head,
    encode_manifest,
    encode_rank_index,
)
from strata_zmq.domain.retention import reachable, survivors
from strata_zmq.errors import (
    AlreadyExistsError,
    CheckpointCorruptError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StaleGenerationError,
)
from strata_zmq.failpoints import failpoint
from strata_zmq.storage import Storage, VersionConflictError
from strata_zmq.storage.base import Data, check_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from strata_zmq.domain.retention import Retention

__all__ = ["CheckpointStore", "Commit"]

_ADVANCE_ATTEMPTS = 64
_RETIRED_TOLD = 64


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit did: the new HEAD, the checkpoint's entry, and the ids whose folders HEAD no longer reaches."""

    head: Head
    entry: HeadEntry
    dropped: tuple[str, ...]


class CheckpointStore:
    """All checkpoints under one prefix of a storage."""

    def __init__(self, storage: Storage, prefix: str = "") -> None:
        self.storage = storage
        self._prefix = check_prefix(prefix).rstrip("/") + "/" if prefix else ""
        self._head_key = f"{self._prefix}HEAD"
        self._declared: set[str] = set()
        self._tried: set[str] = set()

    @property
    def second(self) -> Storage | None:
        """Where copies of the same objects lie under the same keys, if anywhere."""
        return None

    @property
    def here(self) -> CheckpointStore:
        """The same checkpoints without their copies."""
        return self

    def path(self, checkpoint_id: str) -> str:
        """Return where a checkpoint lies, as a person would write it."""
        return f"{self.storage.url}/{self.folder(checkpoint_id)}"

    # ---- writing --------------------------------------------------------------------------------------------------

    async def declare(self, checkpoint_id: str, owner: dict[str, str | int]) -> None:
        """Leave word who is about to write this checkpoint, so that a collector can tell whether it is still at it."""
        await self.storage.put(f"{self.folder(checkpoint_id)}intent", json.dumps(owner).encode())
        self._declared.add(checkpoint_id)

    async def write_pack(
        self, checkpoint_id: str, rank: int, number: int, pieces: Sequence[tuple[str, Data]]
    ) -> list[ChunkRecord]:
        """Store chunks, each as (blake3 digest, bytes), as one object; it is durable on return.

        The digests are taken as given. Chunks that are neighbours in memory are one part of the object, with the gap
        between them, so that nothing is copied; one that begins at an aligned address begins aligned in the object.
        """
        parts, offsets = lay_out([data for _, data in pieces], self.storage.traits.aligned)
        sizes = [memoryview(data).nbytes for _, data in pieces]
        # Each call has a name of its own: a writer that is paused while its chunks are taken back and given to another
        # one writes other bytes when it goes on. They must not replace those that the other one's records tell of.
        name = f"pack-{number:06d}-{secrets.token_hex(8)}"
        key = f"{self.folder(checkpoint_id)}rank-{rank:05d}/{name}"
        await self.storage.put(key, parts)
        return [
            ChunkRecord(key, digest, size, offset)
            for (digest, _), offset, size in zip(pieces, offsets, sizes, strict=True)
        ]

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
        key = f"{self.folder(checkpoint_id)}rank-{rank:05d}/index-{own[:16]}"
        await self.storage.put(key, data)
        return key, own

    async def commit(
        self, manifest: Manifest, retention: Retention, *, pinned: Collection[str] = (), fenced: bool = True
    ) -> Commit:
        """Write the manifest, then advance HEAD to it and to what `retention` keeps beside it.

        Committing the same manifest again is harmless. `pinned` are checkpoints that other saves under way may refer
        to: they stay. With `fenced` the manifest's (term, generation, step) must not be below HEAD's fence, which rises
        to it: StaleGenerationError otherwise, and HEAD stays as it is. Without, the fence stays as it is (a process
        that has no coordinator holds no term). NotFoundError if a rank's index is not there, or if chunks of the
        checkpoint lie in one that has been retired: save it again in full.
        """
        failpoint("commit.begin")
        data = encode_manifest(manifest)
        digest = blake3(data).hexdigest()
        entry = HeadEntry(
            checkpoint_id=manifest.checkpoint_id,
            manifest_key=f"{self.folder(manifest.checkpoint_id)}manifest-{digest[:16]}",
            digest=digest,
            step=manifest.step,
            epoch=manifest.epoch,
            generation=manifest.generation,
            world_size=manifest.world_size,
            size_bytes=manifest.size_bytes,
            created_at=manifest.created_at,
            kind=manifest.kind,
            metrics=dict(manifest.metrics),
            refs=manifest.refs,
        )
        head, version = await self._read_head()
        if not self._needed(head, entry, manifest, fenced=fenced):
            return Commit(head, entry, ())
        try:
            await self._require_whole(manifest)
        except NotFoundError:
            # Collected meanwhile, because it is past? That is the better answer.
            self._needed(await self.head(), entry, manifest, fenced=fenced)
            raise
        await self.storage.put(entry.manifest_key, data)
        failpoint("commit.manifest.stored")

        def wanted(found: Head) -> Head | None:
            if not self._needed(found, entry, manifest, fenced=fenced):
                return None
            retained = survivors(
                (*found.retained, entry), retention, pins=found.pins, verified=found.verified, in_use=pinned
            )
            term, generation, step = (manifest.term, manifest.generation, manifest.step) if fenced else found.fence
            return replace(found, term=term, generation=generation, step=step, retained=retained)

        self._tried.add(entry.checkpoint_id)
        before, after = await self._advance(wanted, head, version)
        self._tried.discard(entry.checkpoint_id)
        return Commit(after, entry, _no_longer_reached(before, after))

    async def set_pins(self, add: Collection[str] = (), remove: Collection[str] = ()) -> Head:
        """Keep the checkpoints `add` whatever the retention says, and no longer keep `remove`; returns HEAD.

        NotFoundError for one to be added that is not committed. What is no longer kept goes with the next commit.
        """

        def wanted(head: Head) -> Head | None:
            for checkpoint_id in add:
                self._require_committed(head, checkpoint_id)
            pins = tuple(sorted((set(head.pins) | set(add)) - set(remove)))
            return replace(head, pins=pins) if pins != head.pins else None

        return (await self.update_head(wanted))[1]

    async def note_verified(self, checkpoint_id: str) -> Head:
        """Note that every byte of a checkpoint was read and found good: it stays until another one was; returns HEAD.

        NotFoundError if it is not committed.
        """

        def wanted(head: Head) -> Head | None:
            self._require_committed(head, checkpoint_id)
            return replace(head, verified=checkpoint_id) if head.verified != checkpoint_id else None

        return (await self.update_head(wanted))[1]

    async def bury(self, checkpoint_ids: Collection[str]) -> list[str]:
        """Make sure that none of these can be committed any more; returns those that HEAD does not reach.

        HEAD advances, so that a commit which was decided on before fails, and tells the next attempt why.
        """

        names = list(dict.fromkeys(checkpoint_ids))
        buried: list[str] = []
        # As many at a time as HEAD tells of: each is refused by name from then on.
        for begin in range(0, len(names), _RETIRED_TOLD):
            batch = names[begin : begin + _RETIRED_TOLD]

            def wanted(head: Head, batch: list[str] = batch) -> Head | None:
                told = {*reachable(head.retained), *head.retired}
                return (
                    replace(head, retired=(*head.retired, *new))
                    if (new := [o for o in batch if o not in told])
                    else None
                )

            _, head = await self.update_head(wanted)
            reached = reachable(head.retained)
            buried += [one for one in batch if one not in reached]
        return buried

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
        return self._require_committed(await self.head(), checkpoint_id)

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
        where = f"{self._where(chunk.key)} at {chunk.offset}"
        try:
            data = await self.storage.get(chunk.key, chunk.offset, chunk.offset + chunk.stored_bytes)
        except NotFoundError:
            raise CheckpointCorruptError(f"{self._where(chunk.key)} is missing") from None
        if len(data) != chunk.stored_bytes:
            raise CheckpointCorruptError(f"{where} has {len(data)} bytes, its index says {chunk.stored_bytes}: cut off")
        if chunk.codec:
            data = await asyncio.to_thread(decompress, chunk.codec, data, chunk.nbytes, where)
        found = await asyncio.to_thread(lambda: blake3(data).hexdigest())
        if found != chunk.digest:
            raise CheckpointCorruptError(
                f"{where} ({len(data)} bytes) has the digest {found[:16]}, expected {chunk.digest[:16]}: damaged"
            )
        return data

    # ---- garbage --------------------------------------------------------------------------------------------------

    async def discard(self, checkpoint_id: str) -> None:
        """Delete everything of a checkpoint that HEAD does not reach; one that HEAD reaches is never touched.

        For a caller who knows that nobody will commit it any more: its own save that it gave up, or one that the fence
        or HEAD's list of retired ones keeps out. Others are `collect`ed.
        """
        if checkpoint_id in self._tried:
            # The storage may still do what it was asked for and gave no answer to.
            await self.bury([checkpoint_id])
        if checkpoint_id in reachable((await self.head()).retained):
            raise InvalidArgumentError(
                f"checkpoint {checkpoint_id} is committed, or a committed one refers to it: lower keep_count to retire "
                "what nobody needs"
            )
        await garbage.delete_folder(self, checkpoint_id)
        self._declared.discard(checkpoint_id)
        self._tried.discard(checkpoint_id)

    async def unreachable(self) -> dict[str, dict[str, str | int] | None]:
        """Return the ids that are stored but not reached, each with the intent that its writer declared, if any."""
        return await garbage.unreachable(self)

    async def collect(
        self, in_flight: Collection[str] = (), *, gone: Callable[[dict[str, str | int] | None], bool] | None = None
    ) -> list[str]:
        """Delete what HEAD does not reach, except saves still in flight; returns the ids that are gone.

        With `gone` only those go of whose declared intent (None: none) it says so. A save that is collected although it
        was still under way is lost as a whole: its commit is refused.
        """
        return await garbage.collect(self, in_flight, gone)

    async def sweep(self) -> None:
        """Remove what writes that were interrupted long ago left behind and no key names."""
        await self.storage.sweep(self.folders)

    # ---- helpers --------------------------------------------------------------------------------------------------

    async def update_head(self, wanted: Callable[[Head], Head | None]) -> tuple[Head, Head]:
        """Replace HEAD by what `wanted` makes of it (None: nothing is to change); returns HEAD before and after.

        It is asked anew whenever somebody else was first. What follows from what is retained is filled in.
        """
        return await self._advance(wanted, *await self._read_head())

    async def _advance(
        self, wanted: Callable[[Head], Head | None], head: Head, version: str | None
    ) -> tuple[Head, Head]:
        """Replace HEAD by what `wanted` makes of it, decided anew whenever somebody else was first.

        `head` is what was read, at `version`. Returns HEAD before and after; the same twice where nothing is wanted.
        """
        for _ in range(_ADVANCE_ATTEMPTS):
            found = wanted(head)
            if found is None:
                return head, head
            ids = {entry.checkpoint_id for entry in found.retained}
            reached = reachable(found.retained)
            found = replace(found, kept=tuple(sorted(reached - ids)), pins=tuple(p for p in found.pins if p in ids))
            told = (*found.retired, *_no_longer_reached(head, found))
            found = replace(found, retired=told[-_RETIRED_TOLD:], version=head.version + 1, nonce=secrets.token_hex(8))
            failpoint("commit.head.before")
            try:
                await self.storage.replace(self._head_key, encode_head(found), version)
            except VersionConflictError:
                head, version = await self._read_head()
            else:
                failpoint("commit.head.after")
                return head, found
        raise ResourceExhaustedError(
            f"{self._where(self._head_key)} was advanced by others {_ADVANCE_ATTEMPTS} times in a row: "
            "are too many processes saving into one place? Give each its own"
        )

    @property
    def folders(self) -> str:
        """The prefix of the keys of all checkpoints."""
        return f"{self._prefix}ckpt/"

    def folder(self, checkpoint_id: str) -> str:
        """Return the prefix of a checkpoint's keys."""
        return f"{self.folders}{check_checkpoint_id(checkpoint_id)}/"

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
        # Records are small: a thread would cost more.
        found = blake3(data).hexdigest()
        if found != digest:
            raise CheckpointCorruptError(
                f"{self._where(key)} ({len(data)} bytes) has the digest {found[:16]}, expected {digest[:16]}: "
                "cut off or damaged"
            )
        return data

    async def _require_whole(self, manifest: Manifest) -> None:
        checkpoint_id = manifest.checkpoint_id
        if checkpoint_id in self._declared and not await self.storage.exists(f"{self.folder(checkpoint_id)}intent"):
            raise NotFoundError(f"{checkpoint_id} cannot be committed: it was given up and collected; save it again")
        for entry in manifest.ranks:
            if not await self.storage.exists(entry.index_key):
                raise NotFoundError(
                    f"{manifest.checkpoint_id} cannot be committed: {self._where(entry.index_key)} of rank "
                    f"{entry.rank} is not there; do all storage writers write to the same place?"
                )

    def _require_committed(self, head: Head, checkpoint_id: str) -> HeadEntry:
        entry = head.find(checkpoint_id)
        if entry is None:
            names = ", ".join(item.checkpoint_id for item in head.retained[-5:]) or "none"
            raise NotFoundError(
                f"checkpoint {ascii(checkpoint_id)[:140]} is not among the committed ones in {self._where('')}; "
                f"the newest are: {names}"
            )
        return entry

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
        if entry.checkpoint_id in head.retired:
            raise StaleGenerationError(
                f"checkpoint {entry.checkpoint_id} has been retired or given up: a name is never used twice; save anew"
            )
        gone = [ref for ref in entry.refs if ref not in reachable(head.retained)]
        if gone:
            raise NotFoundError(
                f"checkpoint {entry.checkpoint_id} refers to chunks of {', '.join(gone[:5])}, which has been retired: "
                "save it again in full"
            )
        return True


def _no_longer_reached(before: Head, after: Head) -> tuple[str, ...]:
    """Return the ids whose folders `before` reaches and `after` does not, in the order of their commits."""
    kept = reachable(after.retained)
    order = [*before.kept, *(entry.checkpoint_id for entry in before.retained)]
    return tuple(one for one in order if one not in kept)
