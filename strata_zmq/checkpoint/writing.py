"""One process's save, from staged memory to a committed checkpoint, as often as that takes; knows no queue, no threads.

What an attempt has made durable the next one does not write again. What cannot become better by trying again ends the
save at once: above all a failed fsync.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from strata_zmq.checkpoint.owner import note_of_this_process
from strata_zmq.checkpoint.packs import PackWriter, Piece
from strata_zmq.checkpoint.references import Parent, candidates, refs_of
from strata_zmq.domain.manifest import RankEntry
from strata_zmq.domain.retention import is_milestone
from strata_zmq.errors import NotFoundError, StrataError
from strata_zmq.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from strata_zmq.checkpoint.handle import SaveHandle
    from strata_zmq.checkpoint.snapshot import Snapshot
    from strata_zmq.checkpoint.store import CheckpointStore, Commit
    from strata_zmq.domain.manifest import ChunkRecord, Manifest
    from strata_zmq.domain.retention import Retention

__all__ = ["BACK_OFF_MAX_S", "BACK_OFF_S", "RETRIES", "SaveJob", "SaveWriter"]

RETRIES = 3
BACK_OFF_S = 0.1
BACK_OFF_MAX_S = 10.0


@dataclass(eq=False, slots=True)
class SaveJob:
    """A save that is staged. `draft` is its manifest but for what only writing it tells; `release` gives its staging
    memory back (again is harmless). `declaring` is done when it was declared who writes it, which was begun before the
    copy. With `full` it refers to nothing. `written` and `referred` are what is durable.
    """

    handle: SaveHandle
    draft: Manifest
    snapshot: Snapshot
    release: Callable[[], None]
    declaring: Future[None] | None = None
    declared: bool = False
    full: bool = False
    manifest: Manifest | None = None
    written: dict[int, ChunkRecord] = field(default_factory=dict)
    referred: dict[int, ChunkRecord] = field(default_factory=dict)

    @property
    def chunks(self) -> list[ChunkRecord]:
        """Where all chunks lie, once they are stored."""
        return [self.written.get(i) or self.referred[i] for i in range(len(self.snapshot.layout.slices))]


class SaveWriter:
    """Writes one process's saves, one at a time; each may refer to chunks of the one before."""

    def __init__(self, store: CheckpointStore, retention: Retention, packs: PackWriter, *, references: bool) -> None:
        self._store = store
        self._retention = retention
        self._packs = packs
        self._references = references
        self._parent: Parent | None = None
        self._forgotten = 0
        self._step = 0
        self._prepared = False

    async def prepare(self) -> None:
        """Make the storage ready, once."""
        if not self._prepared:
            await self._store.storage.prepare()
            self._prepared = True

    async def declare(self, checkpoint_id: str) -> None:
        """Leave word that this process writes this checkpoint."""
        await self.prepare()
        await self._store.declare(checkpoint_id, note_of_this_process())

    def forget_parent(self) -> None:
        """Refer to nothing that was saved so far, nor to the save under way: it may be damaged."""
        self._forgotten += 1
        self._parent = None

    async def save(self, job: SaveJob) -> Commit:
        """Write and commit; raises what the last attempt failed with."""
        delay = BACK_OFF_S
        for attempt in range(RETRIES + 1):
            job.handle.begin()
            try:
                return await self._attempt(job)
            except StrataError as error:
                if attempt == RETRIES or not error.retryable:
                    raise
                job.handle.retry(error)
            # Not all who were turned away at once come back at once.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            delay = min(2 * delay, BACK_OFF_MAX_S)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, job: SaveJob) -> Commit:
        try:
            return await self._write(job)
        except NotFoundError:
            if not job.referred:
                raise
            # The parent was retired by somebody else meanwhile: without it this is an ordinary save.
            self.forget_parent()
            job.referred.clear()
            job.manifest, job.full = None, True
            return await self._write(job)

    async def _write(self, job: SaveJob) -> Commit:
        checkpoint_id, snapshot = job.draft.checkpoint_id, job.snapshot
        forgotten = self._forgotten
        if not job.declared:
            declaring, job.declaring = job.declaring, None
            await (self.declare(checkpoint_id) if declaring is None else asyncio.wrap_future(declaring))
            job.declared = True
            failpoint("save.opened")
        await self._write_chunks(job)
        if not job.referred:
            job.release()
        index = snapshot.index(0, job.chunks)
        if job.manifest is None:
            job.manifest = await self._manifest(job, *await self._store.write_rank_index(checkpoint_id, index))
        commit = await self._store.commit(job.manifest, self._retention, fenced=False)
        job.release()
        if forgotten == self._forgotten:
            self._parent = Parent.of(checkpoint_id, index, job.referred.keys(), self._parent)
        self._step = job.draft.step
        return commit

    async def _write_chunks(self, job: SaveJob) -> None:
        """Store what is not stored yet. On an error the others are waited for: their memory is in use until then."""
        snapshot = job.snapshot
        alone = job.full or is_milestone(self._retention.keep_every, job.draft.step, self._step)
        parent = self._parent if self._references and not alone else None
        failed: list[BaseException] = []

        def still_valid() -> bool:
            # After an error that no retry mends nothing more is written.
            return not (failed and not getattr(failed[0], "retryable", False)) and snapshot.holds()

        async def write(number: int, candidate: ChunkRecord | None) -> None:
            piece = Piece(
                job.draft.checkpoint_id,
                0,
                number,
                snapshot.chunk(number),
                candidate=candidate,
                still_valid=still_valid,
            )
            try:
                record, referred = await self._packs.write(piece)
            except BaseException as error:
                failed.append(error)
                raise
            (job.referred if referred else job.written)[number] = record

        missing = [
            (number, candidate)
            for number, candidate in enumerate(candidates(snapshot.layout, snapshot.leaves, parent))
            if number not in job.written and number not in job.referred
        ]
        await asyncio.gather(*(write(number, candidate) for number, candidate in missing), return_exceptions=True)
        if failed:
            raise failed[0]
        job.handle.written_bytes = sum(record.stored_bytes for record in job.written.values())

    async def _manifest(self, job: SaveJob, key: str, digest: str) -> Manifest:
        head = await self._store.head()
        draft, handle = job.draft, job.handle
        refs = refs_of(draft.checkpoint_id, job.chunks)
        worker = draft.ranks[0].worker_id
        entry = RankEntry(0, worker, key, digest, job.snapshot.nbytes, refs, handle.written_bytes)
        return replace(
            draft,
            term=head.term,
            generation=head.generation,
            ranks=(entry,),
            kind="INCREMENTAL" if refs and draft.kind == "FULL" else draft.kind,
            parent=self._parent.checkpoint_id if self._parent is not None and refs else "",
        )
