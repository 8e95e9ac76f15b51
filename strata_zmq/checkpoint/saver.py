"""Saving in the background: copies a state, then has the copy written and committed while training goes on.

It owns the order and the number of saves under way, what gives way when there are too many, and what happens to their
errors. How one save is written is `writing`'s; formats and keys are the store's.
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
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from strata_zmq.checkpoint.arena import Arena, ArenaPool
from strata_zmq.checkpoint.background import BackgroundLoop, at_exit
from strata_zmq.checkpoint.chunks import CHUNK_BYTES
from strata_zmq.checkpoint.handle import SaveHandle
from strata_zmq.checkpoint.owner import writer_is_gone
from strata_zmq.checkpoint.packs import PackWriter
from strata_zmq.checkpoint.snapshot import take_snapshot
from strata_zmq.checkpoint.tiers import TieredStore
from strata_zmq.checkpoint.writing import SaveJob, SaveWriter
from strata_zmq.domain.manifest import Kind, Manifest, RankEntry
from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    StorageError,
    StrataError,
    SupersededError,
)
from strata_zmq.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from strata_zmq.checkpoint.codec import Codec
    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.retention import Retention

__all__ = ["ARENAS", "BackgroundSaver", "Saving", "WhenBusy", "check_when_busy"]

ARENAS = 2
"""Saves under way at once: one being written and one waiting, each in its own staging memory."""

WhenBusy = Literal["block", "skip", "supersede"]
"""What a save does when all staging memory is in use: wait, give up, or take the place of the newest that waits."""

_EXIT_TIMEOUT_S = 300.0

T = TypeVar("T")
_log = logging.getLogger(__name__)
_open_savers: set[BackgroundSaver] = set()


def check_when_busy(value: object) -> WhenBusy:
    """Accept one of the three policies."""
    if value not in get_args(WhenBusy):
        raise InvalidArgumentError(f"when_busy is {ascii(value)[:48]}: choose 'block', 'skip' or 'supersede'")
    return value  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Saving:
    """How saves are made. With `strict` an error is raised by the next save, else it is only in the save's handle.

    With `references` chunks that the save before has stored are not written again. `tiers` is what the handle calls the
    storage; it is closed with the saver if `owns_storage`.
    """

    chunk_bytes: int = CHUNK_BYTES
    codec: Codec | None = None
    arenas: int = ARENAS
    strict: bool = True
    references: bool = True
    tiers: tuple[str, ...] = ("local",)
    owns_storage: bool = False


class BackgroundSaver:
    """Writes one process's saves into a store, one after the other, in the order in which they were asked for."""

    def __init__(self, store: CheckpointStore, retention: Retention, how: Saving) -> None:
        self._store = store
        self._how = how
        self._pid = os.getpid()
        self._pool = ArenaPool(how.arenas)
        self._background = BackgroundLoop("strata-checkpoint")
        self._packs = PackWriter(store, codec=how.codec)
        self._writer = SaveWriter(store, retention, self._packs, references=how.references)
        self._order = asyncio.Lock()
        self._changed = threading.Condition()
        self._pending: set[str] = set()
        self._waiting: deque[SaveJob] = deque()
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

    def reserve(self, nbytes: int) -> concurrent.futures.Future[None]:
        """Make staging memory for states of `nbytes` ready on a thread of its own."""
        self._check_usable()
        return self._pool.reserve(nbytes)

    def forget_parent(self) -> None:
        """Refer to nothing that was saved so far: it may be damaged."""
        self._writer.forget_parent()

    def save(
        self,
        data: object,
        *,
        step: int,
        epoch: int,
        metadata: Mapping[str, str],
        metrics: Mapping[str, float],
        kind: Kind = "FULL",
        rng: Any = None,
        when_busy: WhenBusy = "block",
        timeout_s: float = 300.0,
    ) -> SaveHandle:
        """Copy `data` and start to write it.

        If it is strict, raises what an earlier save failed with, before this one begins, and what keeps this one from
        beginning; else the handle tells. Arguments that are none are always refused.
        """
        began = time.monotonic()
        self._check_usable()
        if self._how.strict:
            self.raise_failed()
        failpoint("save.begin")
        checkpoint_id = f"step-{step:010d}-{secrets.token_hex(8)}"
        # What cannot be described is refused before the copy: the rank entry is filled in when the bytes are stored.
        draft = Manifest(
            checkpoint_id=checkpoint_id,
            step=step,
            epoch=epoch,
            term=0,
            generation=0,
            created_at=time.time(),
            ranks=(RankEntry(0, f"pid-{self._pid}", "pending", "0" * 64, 0),),
            kind=kind,
            metadata=metadata,
            metrics=metrics,
        )
        handle = SaveHandle(step, epoch, checkpoint_id=checkpoint_id, tiers=self._how.tiers)
        handle.waits_for = lambda: ("storage",)
        if self._how.strict and not self._prepared:
            self.run(self._writer.prepare())
            self._prepared = True
        declaring: list[concurrent.futures.Future[None]] = []

        def acquire(nbytes: int) -> Arena:
            arena = self._arena(nbytes, when_busy, timeout_s)
            # A small file, which is durable by the time that the copy is made.
            declaring.append(self._background.submit(self._writer.declare(checkpoint_id)))
            failpoint("save.copying")
            return arena

        try:
            snapshot = take_snapshot(data, self._pool, chunk_bytes=self._how.chunk_bytes, rng=rng, acquire=acquire)
        except SupersededError as error:
            handle.fail(error)
            return handle
        except (DeadlineExceededError, ResourceExhaustedError) as error:
            if self._how.strict:
                raise
            _log.warning("the checkpoint of step %d is given up: %s", step, error)
            handle.fail(error)
            return handle
        except BaseException:
            for declared in declaring:
                self._start(f"the end of {checkpoint_id}", self._discard(checkpoint_id, declared))
            raise
        handle.nbytes = snapshot.nbytes
        job = SaveJob(handle, draft, snapshot, self._release_once(snapshot.arena), declaring[0])
        _open_savers.add(self)
        with self._changed:
            self._waiting.append(job)
        failpoint("save.staged")
        handle.stage(time.monotonic() - began)
        self._start(checkpoint_id, self._carry(job), handle)
        return handle

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
        """Finish what is under way, then end the threads and free the staging memory."""
        if self.closed:
            return
        try:
            if os.getpid() == self._pid:
                self.wait(timeout_s)
        finally:
            self.closed = True
            _open_savers.discard(self)
            if os.getpid() == self._pid:
                with self._changed:
                    idle = not self._pending
                if idle:
                    self._background.run(self._let_go(timeout_s))
                self._background.stop()
            self._pool.close()

    def close_reporting(self, timeout_s: float = _EXIT_TIMEOUT_S) -> None:
        """Close where nobody can catch an error: log it."""
        if self._background.is_this_thread:
            # Collected as garbage on the very thread that has work to finish.
            threading.Thread(target=self.close_reporting, name="strata-checkpoint-close").start()
            return
        try:
            self.close(timeout_s)
        except StrataError as error:
            _log.error("a checkpoint was not saved: %s", error)

    # ---- before the copy ------------------------------------------------------------------------------------------

    def _arena(self, nbytes: int, when_busy: WhenBusy, timeout_s: float) -> Arena:
        arena = self._pool.try_acquire(nbytes)
        if arena is None and when_busy == "skip":
            raise SupersededError(
                f"the save is skipped: all {self._how.arenas} staging areas hold saves that are still being written"
            )
        if arena is None and when_busy == "supersede":
            self._supersede()
        return arena if arena is not None else self._pool.acquire(nbytes, timeout_s)

    def _supersede(self) -> None:
        """Give up the newest save that waits, if any does: its memory is the next one's."""
        with self._changed:
            if not self._waiting:
                return
            job = self._waiting.pop()
        job.release()
        job.handle.fail(SupersededError(f"the save of step {job.handle.step} made way for a newer one while it waited"))

    def _release_once(self, arena: Arena) -> Callable[[], None]:
        lent = [arena]

        def release() -> None:
            with contextlib.suppress(IndexError):
                self._pool.release(lent.pop())

        return release

    # ---- behind the copy, on the background loop ------------------------------------------------------------------

    async def _carry(self, job: SaveJob) -> None:
        async with self._order:
            with self._changed:
                superseded = job not in self._waiting
                if not superseded:
                    self._waiting.remove(job)
            if superseded:
                await self._discard(job.draft.checkpoint_id, job.declaring)
                return
            try:
                commit = await self._writer.save(job)
            except BaseException:
                # What was written is of no use, and on a full device it is in the way.
                with contextlib.suppress(StrataError):
                    await self._store.discard(job.draft.checkpoint_id)
                raise
            finally:
                job.release()
        job.handle.reach(self._how.tiers[0])
        if isinstance(self._store, TieredStore):
            self._background.submit(self._follow(self._store, job.handle))
        self._start(f"the retirement after {job.draft.checkpoint_id}", self._tidy(commit.dropped))

    async def _follow(self, store: TieredStore, handle: SaveHandle) -> None:
        """Tell the handle when its checkpoint has reached the far tier, or that it will not in this process."""
        try:
            await store.reaches_far(handle.checkpoint_id)
        except StrataError as error:
            handle.fail(error, self._how.tiers[-1])
        except asyncio.CancelledError:
            if store.is_far(handle.checkpoint_id):
                handle.reach(self._how.tiers[-1])
                raise
            late = f"checkpoint {handle.checkpoint_id} was not copied to {store.far.storage.url} before the end"
            handle.fail(DeadlineExceededError(f"{late}: the next process that saves here goes on"), self._how.tiers[-1])
            raise
        else:
            handle.reach(self._how.tiers[-1])

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

    async def _discard(self, checkpoint_id: str, declaring: concurrent.futures.Future[None] | None) -> None:
        """Take back what was declared and will not be written."""
        with contextlib.suppress(StrataError):
            if declaring is not None:
                await asyncio.wrap_future(declaring)
            await self._store.discard(checkpoint_id)

    async def _let_go(self, timeout_s: float) -> None:
        await self._packs.close()
        if isinstance(self._store, TieredStore):
            await self._store.finish(timeout_s)
        if self._how.owns_storage:
            await self._store.storage.close()

    def _start(self, name: str, work: Coroutine[Any, Any, None], handle: SaveHandle | None = None) -> None:
        with self._changed:
            self._pending.add(name)
        self._background.submit(work).add_done_callback(lambda done: self._settle(name, done, handle))

    def _settle(self, name: str, done: concurrent.futures.Future[None], handle: SaveHandle | None) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            error = StorageError(f"checkpoint {name} was given up before it was written")
        elif isinstance(error, StrataError):
            error.add_note(f"while {name} was being written in the background")
        elif error is not None:
            found = StrataError(f"checkpoint {name} failed unexpectedly: {error!r}; please report this")
            found.__cause__ = error
            error = found
        if error is not None and handle is not None:
            handle.fail(error)
        with self._changed:
            self._pending.discard(name)
            if error is not None and self._how.strict:
                self._failed.append(error)
            self._changed.notify_all()
        if error is not None and not self._how.strict:
            _log.warning("a checkpoint was not saved: %s", error)

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
