"""Two places for the same checkpoints: saved into the near one, and copied from it to the far one in the background.

It knows which place has what; never how a checkpoint is made, nor by which rule it is retired.

The near HEAD is the truth. The far one names those of its checkpoints that have been copied, in the same order and
under the same fence. A process that finds another's far HEAD (a new machine, or one that was away) first takes what
that one has over into the near HEAD; the bytes are then read from where they are. The near place may be shared by
several processes; of several near places only one is used at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from blake3 import blake3

from strata_zmq.checkpoint.store import CheckpointStore, Commit
from strata_zmq.domain.retention import reachable
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, NotFoundError, StrataError
from strata_zmq.failpoints import failpoint
from strata_zmq.storage import Storage, open_storage
from strata_zmq.storage.options import places_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from strata_zmq.domain.manifest import ChunkRecord, Head, HeadEntry, Manifest
    from strata_zmq.domain.retention import Retention
    from strata_zmq.storage.base import Arrived, Data, Parts, Traits

__all__ = ["TieredStorage", "TieredStore", "open_store"]

log = logging.getLogger("strata.checkpoint")

_PIECE_BYTES = 16 * 1024 * 1024
_RETRY_S, _RETRY_MAX_S = 1.0, 60.0
_BEHIND_FACTOR = 2


def open_store(place: str | os.PathLike[str], prefix: str = "") -> CheckpointStore:
    """Open the checkpoints at a path or URL; `NEAR,FAR` are two tiers, as in `/scratch/run,s3://bucket/run`."""
    places = places_of(place)
    if len(places) == 1:
        return CheckpointStore(open_storage(place), prefix)
    if len(places) != 2 or not all(places):
        raise InvalidArgumentError(f"path is {os.fspath(place)[:96]!r}: give one place, or two as NEAR,s3://BUCKET/FAR")
    return TieredStore(TieredStorage(open_storage(places[0]), open_storage(places[1])), prefix)


class TieredStorage:
    """Two storages as one: written and listed is the near one, what is not there is read from the far one."""

    def __init__(self, near: Storage, far: Storage) -> None:
        self.near = near
        self.far = far

    @property
    def url(self) -> str:
        """Both places."""
        return f"{self.near.url},{self.far.url}"

    @property
    def traits(self) -> Traits:
        """How the near one likes to be used."""
        return self.near.traits

    async def prepare(self) -> None:
        """Make both ready."""
        await self.near.prepare()
        await self.far.prepare()

    async def put(self, key: str, data: Parts) -> None:
        """Store in the near one."""
        await self.near.put(key, data)

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read from where it is."""
        try:
            return await self.near.get(key, start, stop)
        except NotFoundError:
            return await self.far.get(key, start, stop)

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        """Read from where it is."""
        try:
            return await self.near.get_into(key, start, into, arrived)
        except NotFoundError:
            return await self.far.get_into(key, start, into, arrived)

    async def exists(self, key: str) -> bool:
        """Say whether it is anywhere."""
        return await self.near.exists(key) or await self.far.exists(key)

    async def list(self, prefix: str = "") -> list[str]:
        """Return the keys in the near one."""
        return await self.near.list(prefix)

    async def delete(self, key: str) -> None:
        """Remove from the near one."""
        await self.near.delete(key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove from the near one."""
        await self.near.delete_many(keys)

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        """Return the near one's."""
        return await self.near.read_versioned(key)

    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        """Compare and swap in the near one."""
        return await self.near.replace(key, data, expected_version)

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """Remove what interrupted writes left behind in the near one."""
        return await self.near.sweep(prefix, older_than_s)

    async def close(self) -> None:
        """Let both go."""
        await self.near.close()
        await self.far.close()


class TieredStore(CheckpointStore):
    """Checkpoints in two tiers. Used on one event loop, on which the copying goes on in the background."""

    def __init__(self, storage: TieredStorage, prefix: str = "") -> None:
        super().__init__(storage, prefix)
        self.near = CheckpointStore(storage.near, prefix)
        self.far = CheckpointStore(storage.far, prefix)
        self._note_key = f"{self._prefix}TIER"
        self._looked = False
        self._copying = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._there: set[str] = set()
        self._damaged: dict[str, StrataError] = {}
        self._task: asyncio.Task[None] | None = None
        self._pieces: list[mmap.mmap] = []

    @property
    def second(self) -> Storage:
        """The far storage: what is damaged here may be whole there."""
        return self.far.storage

    @property
    def here(self) -> CheckpointStore:
        """What is in the near place, whatever there is far away."""
        return self.near

    async def commit(
        self, manifest: Manifest, retention: Retention, *, pinned: Collection[str] = (), fenced: bool = True
    ) -> Commit:
        """Commit in the near place, and begin to copy from there.

        What is not copied yet is not retired, unless so much of it has come together that the far place is given up on.
        """
        head = await self.head()
        waiting = [
            entry.checkpoint_id
            for entry in head.retained
            if entry.checkpoint_id not in self._there and entry.checkpoint_id not in self._damaged
        ]
        limit = _BEHIND_FACTOR * retention.keep_count
        if len(waiting) > limit:
            log.warning(
                "%d checkpoints are not copied to %s yet: the oldest are retired without a copy",
                len(waiting),
                self.far.storage.url,
            )
        commit = await super().commit(manifest, retention, pinned=[*pinned, *waiting[-limit:]], fenced=fenced)
        self.drain_soon()
        return commit

    async def _checked(self, key: str, digest: str) -> bytes:
        try:
            return await super()._checked(key, digest)
        except CheckpointCorruptError as damage:
            try:
                data = await self.far._checked(key, digest)  # noqa: SLF001 - a store of this kind, and a part of this one
            except StrataError:
                raise damage from None
            log.warning("%s; it was read from %s", damage, self.far.storage.url)
            return data

    def drain_soon(self) -> None:
        """Copy what is not copied yet, in the background and again and again until it is done."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain_until_done())

    def is_far(self, checkpoint_id: str) -> bool:
        """Say whether the far HEAD is known to reach a checkpoint."""
        return checkpoint_id in self._there

    async def reaches_far(self, checkpoint_id: str) -> None:
        """Wait until the far HEAD reaches a checkpoint.

        CheckpointCorruptError if it cannot be copied, since it is damaged here; NotFoundError if it was retired first.
        """
        self.drain_soon()
        async with self._changed:
            while checkpoint_id not in self._there:
                if checkpoint_id in self._damaged:
                    raise self._damaged[checkpoint_id]
                if (await self.near.head()).find(checkpoint_id) is None:
                    raise NotFoundError(f"checkpoint {checkpoint_id} was retired before it was copied")
                await self._changed.wait()

    async def drain(self) -> list[str]:
        """Copy what the far place lacks, the newest first, and delete there what is retired; returns the ids copied."""
        copied: list[str] = []
        async with self._copying:
            await self._take_over()
            while True:
                near, far = await self.near.head(), await self.far.head()
                await self._tell({entry.checkpoint_id for entry in far.retained})
                entry = self._next(near, far)
                if entry is not None:
                    try:
                        await self._copy(entry)
                    except CheckpointCorruptError as error:
                        if (await self.near.head()).find(entry.checkpoint_id) is not None:
                            log.warning("checkpoint %s is not copied: %s", entry.checkpoint_id, error)
                            self._damaged[entry.checkpoint_id] = error
                        continue
                there = {one.checkpoint_id for one in (*far.retained, *([entry] if entry else []))}
                advanced = await self._mirror(there)
                if entry is None and not advanced:
                    return copied
                if entry is not None and entry.checkpoint_id in self._there:
                    copied.append(entry.checkpoint_id)

    async def finish(self, timeout_s: float) -> None:
        """Give the copying so long to be done, then end it."""
        if self._task is not None and not self._task.done():
            _, late = await asyncio.wait([self._task], timeout=timeout_s)
            if late:
                log.warning("not all is copied to %s yet: the next process that saves here goes on", self._urls()[0])
        await self.stop()

    async def stop(self) -> None:
        """End the copying where it stands; the next process goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read_head(self) -> tuple[Head, str | None]:
        if not self._looked:
            await self._look()
        return await super()._read_head()

    async def _look(self) -> None:
        """Look at the far HEAD once: it may be another machine's."""
        try:
            await self._take_over()
        except StrataError as error:
            # Whoever has checkpoints here goes on. Whoever has none must not take that for a beginning.
            if not error.retryable or not (await self.near.head()).retained:
                raise
            log.warning("%s cannot be reached, the checkpoints in %s are used: %s", *self._urls(), error)
        self._looked = True

    def _urls(self) -> tuple[str, str]:
        return self.far.storage.url, self.near.storage.url

    async def _take_over(self) -> None:
        """Add what another process has put into the far place to the near HEAD."""
        # Reading HEAD waits for this, and must not wait for a copy.
        async with self._looking:
            await self._take_over_in_turn()
            self._looked = True

    async def _take_over_in_turn(self) -> None:
        far = await self.far.head()
        self._there = {entry.checkpoint_id for entry in far.retained}
        if not far.version or far.nonce == await self._noted():
            return

        def wanted(near: Head) -> Head | None:
            never = {*near.retired, *far.retired}
            found = {entry.checkpoint_id: entry for entry in (*far.retained, *near.retained)}
            retained = tuple(
                sorted((e for name, e in found.items() if name not in never), key=lambda entry: entry.created_at)
            )
            merged = _with_fence(replace(near, retained=retained, pins=_union(near.pins, far.pins)), far, near)
            merged = replace(merged, verified=near.verified or far.verified)
            return merged if merged != near else None

        await self.near.update_head(wanted)
        await self._note(far.nonce)

    async def _mirror(self, there: Collection[str]) -> bool:
        """Let the far HEAD name those of `there` that are retained, and delete what is not; says if it advanced."""
        while True:
            near = await self.near.head()
            noted = await self._noted()
            retained = tuple(entry for entry in near.retained if entry.checkpoint_id in there)
            strange = False

            def wanted(
                far: Head, near: Head = near, noted: str = noted, retained: tuple[HeadEntry, ...] = retained
            ) -> Head | None:
                nonlocal strange
                strange = bool(far.version) and far.nonce != noted
                if strange:
                    return None
                mirrored = _with_fence(replace(far, retained=retained, verified=near.verified), near, far)
                ids = {entry.checkpoint_id for entry in retained}
                mirrored = replace(
                    mirrored,
                    pins=tuple(pin for pin in near.pins if pin in ids),
                    verified=near.verified if near.verified in ids else "",
                )
                return mirrored if mirrored != far else None

            failpoint("tier.head.before")
            before, after = await self.far.update_head(wanted)
            if strange:
                await self._take_over()
                continue
            if after is before:
                return False
            failpoint("tier.head.after")
            await self._note(after.nonce)
            await self._tell({entry.checkpoint_id for entry in retained})
            await self._tidy(near, reachable(before.retained) - reachable(after.retained))
            return True

    async def _tidy(self, near: Head, dropped: Collection[str]) -> None:
        """Delete from the far place what was retired here. What one that is not copied yet refers to stays."""
        needed = reachable(near.retained)
        for checkpoint_id in await self.far.unreachable():
            if checkpoint_id in {*near.retired, *dropped} and checkpoint_id not in needed:
                await self.far.discard(checkpoint_id)
        await self.far.sweep()

    def _next(self, near: Head, far: Head) -> HeadEntry | None:
        there = {entry.checkpoint_id for entry in far.retained}
        left = (e for e in reversed(near.retained) if e.checkpoint_id not in there)
        return next((entry for entry in left if entry.checkpoint_id not in self._damaged), None)

    async def _copy(self, entry: HeadEntry) -> None:
        """Copy every object of a checkpoint that the far place lacks, its chunks checked on the way."""
        manifest = await self.near.read_manifest(entry)
        names = {entry.checkpoint_id, *entry.refs}
        there = {key for name in sorted(names) for key in await self.far.storage.list(self.folder(name))}
        chunks: dict[str, list[ChunkRecord]] = {}
        for rank in manifest.ranks:
            for chunk in (await self.read_rank_index(manifest, rank.rank)).chunks:
                chunks.setdefault(chunk.key, []).append(chunk)
        for key in sorted(set(chunks) - there):
            await self._copy_object(key, chunks[key])
            failpoint("tier.object.copied")
        for key in (*(rank.index_key for rank in manifest.ranks), entry.manifest_key):
            if key not in there:
                await self.far.storage.put(key, await self.storage.get(key))

    async def _copy_object(self, key: str, chunks: list[ChunkRecord]) -> None:
        parts: list[memoryview] = []
        try:
            while not parts or len(parts[-1]) == _PIECE_BYTES:
                if len(parts) == len(self._pieces):
                    self._pieces.append(mmap.mmap(-1, _PIECE_BYTES))
                piece = memoryview(self._pieces[len(parts)])
                parts.append(piece[: await self.near.storage.get_into(key, len(parts) * _PIECE_BYTES, piece)])
        except NotFoundError:
            raise CheckpointCorruptError(f"{self.near.storage.url}/{key} is missing") from None
        for chunk in chunks if not any(chunk.codec for chunk in chunks) else ():
            if await asyncio.to_thread(_digest, parts, chunk.offset, chunk.nbytes) != chunk.digest:
                raise CheckpointCorruptError(
                    f"{self.near.storage.url}/{key} at {chunk.offset} has not the digest {chunk.digest[:16]}: damaged"
                )
        await self.far.storage.put(key, [part for part in parts if len(part)])

    async def _drain_until_done(self) -> None:
        delay_s = _RETRY_S
        while True:
            try:
                await self.drain()
            except StrataError as error:
                log.warning("copying to %s goes on in %g s: %s", self.far.storage.url, delay_s, error)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _RETRY_MAX_S)
            else:
                near = await self.near.head()
                if self._next(near, await self.far.head()) is None:
                    await self._tell(self._there)
                    return

    async def _tell(self, there: set[str]) -> None:
        async with self._changed:
            self._there = there
            self._changed.notify_all()

    async def _noted(self) -> str:
        """Return the nonce of the far HEAD that this near place has seen last."""
        try:
            found = json.loads(await self.near.storage.get(self._note_key))
            return str(found["nonce"])
        except (NotFoundError, ValueError, KeyError, TypeError):
            return ""

    async def _note(self, nonce: str) -> None:
        await self.near.storage.put(self._note_key, json.dumps({"nonce": nonce}).encode())


def _with_fence(head: Head, one: Head, other: Head) -> Head:
    term, generation, step = max(one.fence, other.fence)
    return replace(head, term=term, generation=generation, step=step)


def _union(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))


def _digest(parts: Sequence[memoryview], offset: int, nbytes: int) -> str:
    """Return the blake3 of a range of what lies in `parts` one after the other, each of the same size but the last."""
    found = blake3()
    while nbytes:
        number, begin = divmod(offset, _PIECE_BYTES)
        view = parts[number][begin : begin + nbytes] if number < len(parts) else memoryview(b"")
        if not len(view):
            return "cut off"
        found.update(view)
        offset, nbytes = offset + len(view), nbytes - len(view)
    return found.hexdigest()
