"""Saving in the background: copies a state, then writes and commits the copy while training goes on.

It owns the order and the number of saves under way, and what happens to their errors; formats and keys are the store's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from strata_zmq.checkpoint.background import BackgroundLoop, at_exit
from strata_zmq.checkpoint.owner import note_of_this_process, writer_is_gone
from strata_zmq.checkpoint.snapshot import ArenaPool, Snapshot, take_snapshot
from strata_zmq.domain.manifest import ChunkRecord, Manifest, RankEntry
from strata_zmq.errors import DeadlineExceededError, InvalidArgumentError, StorageError, StrataError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.retention import Retention

__all__ = ["IN_FLIGHT_MAX", "BackgroundSaver"]

IN_FLIGHT_MAX = 2
"""Saves under way at once: one being written and one waiting, each in its own staging memory."""

_CHUNKS_AT_ONCE = 4
_EXIT_TIMEOUT_S = 300.0

T = TypeVar("T")
_log = logging.getLogger(__name__)
_open_savers: set[BackgroundSaver] = set()


class BackgroundSaver:
    """Writes one process's saves into a store, one after the other, in the order in which they were asked for."""

    def __init__(self, store: CheckpointStore, retention: Retention, chunk_bytes: int) -> None:
        self._store = store
        self._retention = retention
        self._chunk_bytes = chunk_bytes
        self._pid = os.getpid()
        self._pool = ArenaPool(IN_FLIGHT_MAX)
        self._background = BackgroundLoop("strata-checkpoint")
        self._order = asyncio.Lock()
        self._changed = threading.Condition()
        self._pending: set[str] = set()
        self._failed: list[StrataError] = []
        self._prepared = False
        self._looked_for_garbage = False
        self.closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the background loop and wait for it."""
        try:
            self._check_usable()
        except StrataError:
            work.close()
            raise
        _open_savers.add(self)
        return self._background.run(work)

    def save(self, data: object, step: int, epoch: int, metadata: dict[str, str], timeout_s: float) -> str:
        """Copy `data` and start to write it; waits only while IN_FLIGHT_MAX saves are under way.

        Raises what an earlier save failed with, before this one begins.
        """
        self._check_usable()
        self.raise_failed()
        checkpoint_id = f"step-{step:010d}-{secrets.token_hex(8)}"
        if not self._prepared:
            self.run(self._store.storage.prepare())
            self._prepared = True
        # What cannot be described is refused before the copy: the rank entry is filled in when the bytes are stored.
        draft = Manifest(
            checkpoint_id=checkpoint_id,
            step=step,
            epoch=epoch,
            term=0,
            generation=0,
            created_at=time.time(),
            ranks=(RankEntry(0, f"pid-{self._pid}", "pending", "0" * 64, 0),),
            metadata=metadata,
        )
        snapshot = take_snapshot(data, self._pool, chunk_bytes=self._chunk_bytes, timeout_s=timeout_s)
        _open_savers.add(self)
        self._start(checkpoint_id, self._write(draft, snapshot))
        return checkpoint_id

    def wait(self, timeout_s: float) -> None:
        """Wait until nothing is under way; raises the first error, or DeadlineExceededError naming what is not done."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._pending, timeout_s):
                late = tuple(sorted(self._pending))
                raise DeadlineExceededError(
                    f"after {timeout_s:g} s {', '.join(late)} is still being written to {self._store.storage.url}: "
                    "wait longer, or look at the speed of the storage",
                    missing=late,
                )
        self.raise_failed()

    def raise_failed(self) -> None:
        """Raise the first error of a background save that nobody was told of yet; the others are logged."""
        with self._changed:
            failed, self._failed = self._failed, []
        for error in failed[1:]:
            _log.error("%s", error)
        if failed:
            raise failed[0]

    def close(self, timeout_s: float) -> None:
        """Finish what is under way, then end the thread and free the staging memory."""
        if self.closed:
            return
        try:
            if os.getpid() == self._pid:
                self.wait(timeout_s)
        finally:
            self.closed = True
            _open_savers.discard(self)
            if os.getpid() == self._pid:
                self._background.stop()
            self._pool.close()

    def close_reporting(self, timeout_s: float = _EXIT_TIMEOUT_S) -> None:
        """Close where nobody can catch an error: log it."""
        try:
            self.close(timeout_s)
        except StrataError as error:
            _log.error("a checkpoint was not saved: %s", error)

    async def _write(self, draft: Manifest, snapshot: Snapshot) -> None:
        try:
            async with self._order:
                await self._write_in_turn(draft, snapshot)
        except BaseException:
            # What was written is of no use, and on a full device it is in the way.
            with contextlib.suppress(StrataError):
                await self._store.discard(draft.checkpoint_id)
            raise

    async def _write_in_turn(self, draft: Manifest, snapshot: Snapshot) -> None:
        checkpoint_id = draft.checkpoint_id
        try:
            await self._store.declare(checkpoint_id, note_of_this_process())
            chunks = await self._write_chunks(checkpoint_id, snapshot)
        finally:
            self._pool.release(snapshot.arena)
        key, digest = await self._store.write_rank_index(checkpoint_id, snapshot.index(0, chunks))
        head = await self._store.head()
        manifest = Manifest(
            checkpoint_id=checkpoint_id,
            step=draft.step,
            epoch=draft.epoch,
            term=head.term,
            generation=head.generation,
            created_at=draft.created_at,
            ranks=(RankEntry(0, draft.ranks[0].worker_id, key, digest, snapshot.nbytes),),
            metadata=draft.metadata,
        )
        commit = await self._store.commit(manifest, self._retention, fenced=False)
        self._start(f"the retirement after {checkpoint_id}", self._tidy(commit.dropped))

    async def _write_chunks(self, checkpoint_id: str, snapshot: Snapshot) -> list[ChunkRecord]:
        gate = asyncio.Semaphore(_CHUNKS_AT_ONCE)

        async def write(number: int) -> ChunkRecord:
            async with gate:
                return await self._store.write_chunk(checkpoint_id, 0, number, snapshot.chunk(number))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(write(number)) for number in range(len(snapshot.layout.slices))]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _tidy(self, dropped: tuple[str, ...]) -> None:
        """Delete what the last commit retired and, once, what dead processes left; failures cost space, not data."""
        try:
            for checkpoint_id in dropped:
                await self._store.discard(checkpoint_id)
            if not self._looked_for_garbage:
                self._looked_for_garbage = True
                await self._store.collect(gone=lambda note: note is not None and writer_is_gone(note))
        except StrataError as error:
            _log.warning("old checkpoint files could not be deleted: %s", error)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        with self._changed:
            self._pending.add(name)
        self._background.submit(work).add_done_callback(lambda done: self._settle(name, done))

    def _settle(self, name: str, done: concurrent.futures.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            error = StorageError(f"checkpoint {name} was given up before it was written")
        elif isinstance(error, StrataError):
            error.add_note(f"while {name} was being written in the background")
        elif error is not None:
            found = StrataError(f"checkpoint {name} failed unexpectedly: {error!r}; please report this")
            found.__cause__ = error
            error = found
        with self._changed:
            self._pending.discard(name)
            if error is not None:
                self._failed.append(error)
            self._changed.notify_all()

    def _check_usable(self) -> None:
        if self.closed:
            raise InvalidArgumentError("this CheckpointManager is closed: make a new one")
        if os.getpid() != self._pid:
            raise InvalidArgumentError(
                "this CheckpointManager was made before a fork, and its thread stayed in the parent: "
                "make one in the child"
            )


def _finish_all() -> None:
    for saver in list(_open_savers):
        saver.close_reporting()


at_exit(_finish_all)
