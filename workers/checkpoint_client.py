"""A worker's saves under a coordinator: stage, stream to the writers, arrive, and tell when the checkpoint is durable.

Training stops only for the copy into staging memory. One thread carries one save after the other; what fails is tried
again, and shows in the save's handle and in the log; it never stops training. Before the bytes go, a will is left with
a writer, who finishes the save if this process ends.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from strata_zmq.checkpoint.arena import Arena, ArenaPool
from strata_zmq.checkpoint.chunks import CHUNK_BYTES
from strata_zmq.checkpoint.handle import SaveHandle
from strata_zmq.checkpoint.references import Parent, candidates, refs_of
from strata_zmq.checkpoint.snapshot import take_snapshot
from strata_zmq.domain.manifest import Kind, check_metrics
from strata_zmq.domain.manifest_format import encode_rank_index
from strata_zmq.domain.names import check_metadata, check_not_negative
from strata_zmq.errors import (
    CheckpointCorruptError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StrataError,
    SupersededError,
    UnavailableError,
)
from strata_zmq.failpoints import failpoint
from strata_zmq.protocol import messages as wire

from .attempts import Attempts
from .save_job import SaveJob
from .upload import Delivered, Upload, WriterLinks
from .waiting_wills import WaitingWills
from .writer_link import Parcel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client import CoordinatorClient
    from .session import WorkerIdentity

__all__ = ["CheckpointClient", "WhenBusy"]

log = logging.getLogger("strata.checkpoint")

WhenBusy = Literal["block", "skip", "supersede"]
"""What a save does while all staging memory is in use: wait for it, give itself up, or take the place of the newest
save that has not begun to be stored.
"""

_STEP_MAX = 2**62
_ABOUT = re.compile(r"^checkpoint (of step \d+|'[^']*' is given up): ")
_ANSWER_POLL_S = 0.5
_FAREWELL_S = 2.0


class Registered(Protocol):
    """What this needs of a worker's session."""

    @property
    def client(self) -> CoordinatorClient:
        """The connection to the coordinator."""

    @property
    def identity(self) -> WorkerIdentity:
        """Who the worker is."""

    @property
    def generation(self) -> int:
        """The generation that the training code has adopted."""

    @property
    def step(self) -> int:
        """The commit point that the training state belongs to."""


class CheckpointClient:
    """Saves one worker's state, rank by rank with the others. `save` may be called from one thread at a time."""

    def __init__(
        self,
        session: Registered,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        timeout_s: float = 300.0,
        arenas: int = 2,
        share_memory: bool = True,
        when_busy: WhenBusy = "block",
    ) -> None:
        self._session = session
        self._chunk_bytes = chunk_bytes
        self._timeout_s = timeout_s
        self._when_busy = _checked(when_busy)
        self._pool = ArenaPool(arenas)
        self._attempts = Attempts()
        self._links = WriterLinks(session.identity.worker_id, share_memory=share_memory)
        self._waiting_wills = WaitingWills(self._links, self._tell_staged)
        self._changed = threading.Condition()
        self._jobs: deque[SaveJob] = deque()
        self._carried: SaveHandle | None = None
        self._parent: Parent | None = None
        """This rank's part of the last checkpoint that was committed, unless its bytes have given reason for doubt."""
        self._closing = False
        self._cancel = False
        self._thread = threading.Thread(target=self._run, name="strata-checkpoint-stream", daemon=True)
        self._thread.start()

    def save(
        self,
        data: object,
        *,
        step: int,
        epoch: int,
        metadata: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        kind: Kind = "FULL",
        rng: Any = None,
        when_busy: WhenBusy | None = None,
    ) -> SaveHandle:
        """Copy `data` and stream it in the background; every rank of the generation has to save the same step.

        `rng` is the state of the random number generators, as plain values. While all staging memory is in use by
        earlier saves, `when_busy` says what happens; where there is none in the end, the handle says so. What one rank
        skips or supersedes, all ranks skip. Raises InvalidArgumentError for what cannot be restored as it is.
        """
        began = time.monotonic()
        check_not_negative("step", step, _STEP_MAX)
        check_not_negative("epoch", epoch, _STEP_MAX)
        texts = check_metadata("metadata", metadata or {})
        numbers = check_metrics(metrics or {})
        policy = self._when_busy if when_busy is None else _checked(when_busy)
        if self._closing:
            raise InvalidArgumentError("this worker is closing: save before deregister()")
        failpoint("save.begin")
        begin = wire.CheckpointBegin(
            step=step,
            epoch=epoch,
            kind=kind,
            metadata=texts,
            metrics=numbers,
            commit_index=self._session.step,
            generation=self._session.generation,
        )
        handle = SaveHandle(step, epoch, tiers=("local",))
        handle.waits_for = lambda: self._whom_it_waits_for(handle)
        try:
            failpoint("save.copying")
            snapshot = take_snapshot(
                data,
                self._pool,
                chunk_bytes=self._chunk_bytes,
                timeout_s=self._timeout_s,
                rng=rng,
                with_will=True,
                acquire=lambda nbytes: self._acquire(nbytes, policy, step),
            )
        except (DeadlineExceededError, ResourceExhaustedError) as error:
            _warn(step, error)
            handle.fail(error)
            handle.stall_s = time.monotonic() - began
            return handle
        except SupersededError as error:
            self._skip(handle, self._session.client.submit(begin), error)
            handle.stall_s = time.monotonic() - began
            return handle
        handle.nbytes = snapshot.nbytes
        # Sent before this returns, and so before this rank arrives at the next commit point: the ledger that the
        # coordinator puts into the manifest is the one that the state belongs to, however long the save has to queue.
        opened = self._session.client.submit(begin)
        handle.stage(time.monotonic() - began)
        failpoint("save.staged")
        with self._changed:
            self._jobs.append(SaveJob(handle, snapshot, begin, opened))
            self._changed.notify_all()
        return handle

    def wait_pending(self, timeout_s: float = 300.0) -> None:
        """Wait until every save has ended, well or not; DeadlineExceededError if that takes longer."""
        with self._changed:
            if self._changed.wait_for(lambda: not self._jobs and self._carried is None, timeout_s):
                return
            late = [job.handle for job in self._jobs]
            late = late if self._carried is None else [self._carried, *late]
        missing = self._whom_it_waits_for(late[0])
        raise DeadlineExceededError(
            f"{len(late)} checkpoints are not durable after {timeout_s:g} s, that of step {late[0].step} misses "
            f"{', '.join(missing[:20])}: wait longer, or look at them",
            missing=missing,
        )

    def _whom_it_waits_for(self, handle: SaveHandle) -> tuple[str, ...]:
        """Ask the coordinator which ranks of a save are not durable; it may be the coordinator itself."""
        if not handle.checkpoint_id:
            return ("coordinator",)
        try:
            status: wire.Status = self._session.client.request(wire.GetStatus(), 2.0)
        except StrataError:
            return ("coordinator",)
        return tuple(status.checkpoint_waits.get(handle.checkpoint_id, ())) or ("writers",)

    def close(self, timeout_s: float = 60.0) -> None:
        """Wait for the saves under way, give up what is not done in time, and free everything. Again is harmless."""
        if self._closing:
            return
        self._closing = True
        try:
            self.wait_pending(timeout_s)
        except DeadlineExceededError as error:
            log.warning("closing: %s", error)
        with self._changed:
            self._cancel = True
            self._changed.notify_all()
        self._thread.join(_FAREWELL_S + 3.0)
        self._pool.close()

    # ---- staging memory

    def _acquire(self, nbytes: int, policy: WhenBusy, step: int) -> Arena:
        if policy == "block":
            return self._pool.acquire(nbytes, self._timeout_s)
        arena = self._pool.try_acquire(nbytes)
        if arena is not None:
            return arena
        if policy == "skip":
            raise SupersededError(
                f"the checkpoint of step {step} is skipped: earlier ones are still being stored; save less often, or "
                "with when_busy='block'"
            )
        self._supersede(step)
        return self._pool.acquire(nbytes, self._timeout_s)

    def _supersede(self, step: int) -> None:
        """Give the newest save up that has not begun to be stored; if there is none, memory is waited for."""
        with self._changed:
            if not self._jobs:
                return
            job = self._jobs.pop()
        self._release(job)
        self._skip(
            job.handle,
            job.opened,
            SupersededError(f"the checkpoint of step {job.handle.step} gave way to that of step {step}"),
        )
        with self._changed:
            self._changed.notify_all()

    def _skip(self, handle: SaveHandle, opened: Future[Any], why: SupersededError) -> None:
        """End a save, and tell the other ranks, who would wait for this one, as soon as it has a name."""
        log.info("%s", why)
        generation = self._session.generation

        def tell(answer: Future[Any]) -> None:
            if answer.cancelled() or answer.exception() is not None:
                return
            self._session.client.submit(
                wire.CheckpointFailed(
                    checkpoint_id=answer.result().checkpoint_id,
                    code=why.code,
                    message=str(why),
                    generation=generation,
                )
            )

        opened.add_done_callback(tell)
        handle.fail(why)

    def _release(self, job: SaveJob) -> None:
        if not job.released:
            job.released = True
            self._pool.release(job.snapshot.arena)

    # ---- the thread

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._jobs or self._cancel)
                    if not self._jobs:
                        return
                    job = self._jobs.popleft()
                    self._carried = job.handle
                self._carry(job)
                with self._changed:
                    self._carried = None
                    self._changed.notify_all()
        finally:
            self._links.close()

    def _carry(self, job: SaveJob) -> None:
        handle = job.handle
        try:
            self._save_or_try_again(job)
        except SupersededError as error:
            log.info("the checkpoint of step %d is skipped: %s", handle.step, error)
            handle.fail(error)
        except StrataError as error:
            self._give_up(handle, error)
        except Exception as error:
            log.exception("the checkpoint of step %d failed unexpectedly", handle.step)
            self._give_up(handle, StrataError(f"the checkpoint of step {handle.step} failed unexpectedly: {error!r}"))
        else:
            handle.reach(checkpoint_id=handle.checkpoint_id)
        finally:
            self._release(job)
            self._links.drop_wills()
            self._waiting_wills.drop(handle.checkpoint_id)

    def _save_or_try_again(self, job: SaveJob) -> None:
        handle = job.handle
        deadline = time.monotonic() + self._timeout_s
        failed: StrataError | None = None
        while True:
            handle.begin()
            job.streaming = False
            try:
                self._save(job, deadline)
            except StrataError as error:
                # A second attempt that may not even begin has failed for the reason of the first.
                failed = error if job.streaming or failed is None else failed
                if not self._may_try_again(job, error):
                    raise failed from None
            else:
                return
            wait_s = self._attempts.wait_s(handle.attempts)
            log.warning("the checkpoint of step %d is tried again in %.1f s: %s", handle.step, wait_s, failed)
            handle.retry(failed)
            with self._changed:
                self._changed.wait_for(lambda: self._cancel, wait_s)
            job.opened = self._session.client.submit(job.begin)

    def _may_try_again(self, job: SaveJob, error: StrataError) -> bool:
        """Say whether another attempt may help: the bytes are still there, and what failed was bringing them."""
        there = job.streaming and not job.released and not self._cancel
        return there and self._attempts.may_help(job.handle.attempts, error)

    def _save(self, job: SaveJob, deadline: float) -> None:
        handle, snapshot = job.handle, job.snapshot
        opened: wire.CheckpointOpened = self._answer(job.opened, deadline)
        handle.checkpoint_id = opened.checkpoint_id
        failpoint("save.opened")
        job.streaming = True
        self._links.refresh(opened.writers)
        upload = Upload(
            self._links,
            snapshot.arena,
            opened.checkpoint_id,
            opened.rank,
            writers=lambda: self._ask(job.begin, deadline).writers,
            cancelled=lambda: self._cancel,
            deadline=deadline,
            will=job.leave_will(),
            on_willed=lambda writer_id: self._willed(opened.checkpoint_id, writer_id),
            meanwhile=self._look_after_waiting,
        )
        parent = self._parent if self._parent is not None and self._parent.checkpoint_id == opened.parent else None
        wanted = candidates(snapshot.layout, snapshot.leaves, parent)
        try:
            found = upload.deliver(
                [
                    Parcel("chunk", number, snapshot.chunk(number), piece.offset, wanted[number])
                    for number, piece in enumerate(snapshot.layout.slices)
                ]
            )
            index = snapshot.index(opened.rank, [one.record for one in found])
            (stored,) = upload.deliver([Parcel("index", 0, memoryview(encode_rank_index(index)), None)])
        finally:
            upload.close()
        handle.written_bytes = _written(found)
        job.streaming = False
        self._release(job)
        failpoint("save.arrive")
        try:
            self._ask(
                wire.CheckpointArrive(
                    checkpoint_id=opened.checkpoint_id,
                    index_key=stored.record.key,
                    digest=stored.record.digest,
                    size_bytes=snapshot.nbytes,
                    refs=list(refs_of(opened.checkpoint_id, index.chunks)),
                    written_bytes=handle.written_bytes,
                    generation=job.begin.generation,
                ),
                deadline,
            )
        except (NotFoundError, CheckpointCorruptError):
            # What was referred to may have gone, or be damaged: the next save refers to nothing.
            self._parent = None
            raise
        referred = {number for number, one in enumerate(found) if one.referred}
        self._parent = Parent.of(opened.checkpoint_id, index, referred, parent)
        failpoint("save.answered")

    def _willed(self, checkpoint_id: str, writer_id: str) -> None:
        self._waiting_wills.drop(checkpoint_id)
        self._tell_staged(checkpoint_id, writer_id)

    def _look_after_waiting(self) -> None:
        """See to it that what is staged and waits is not lost with this process."""
        with self._changed:
            # A save that makes way for another is taken out under this lock, before its memory is used again.
            wills = [(will, job.snapshot.arena) for job in self._jobs if (will := job.leave_will()) is not None]
        self._waiting_wills.drop_all_but([self._carried_id(), *(will.checkpoint_id for will, _ in wills)])
        self._waiting_wills.look(wills, time.monotonic())

    def _carried_id(self) -> str:
        return self._carried.checkpoint_id if self._carried is not None else ""

    def _tell_staged(self, checkpoint_id: str, writer_id: str) -> None:
        """Tell the coordinator who could finish this save; the save itself waits for nothing."""
        told = self._session.client.submit(wire.CheckpointStaged(checkpoint_id=checkpoint_id, writer_id=writer_id))
        told.add_done_callback(lambda done: _log_staged(done, checkpoint_id, writer_id))

    def _ask(self, request: wire.Request, deadline: float) -> Any:
        """Send a request to the coordinator and wait for its answer."""
        return self._answer(self._session.client.submit(request), deadline)

    def _answer(self, future: Future[Any], deadline: float) -> Any:
        """Wait in small steps, so that closing need not wait as long."""
        while True:
            try:
                return future.result(_ANSWER_POLL_S)
            except FutureTimeoutError:
                if future.done():
                    continue
            self._links.receive()
            self._look_after_waiting()
            if self._cancel or time.monotonic() >= deadline:
                future.cancel()
                if self._cancel:
                    raise UnavailableError("the checkpoint was given up: the worker is closing")
                raise DeadlineExceededError(
                    f"the coordinator did not answer within {self._timeout_s:g} s: are all ranks saving this step?",
                    missing=("coordinator",),
                )

    def _give_up(self, handle: SaveHandle, error: StrataError) -> None:
        _warn(handle.step, error)
        self._report(handle, error)
        handle.fail(error)

    def _report(self, handle: SaveHandle, error: StrataError) -> None:
        """Tell the coordinator that this rank gives the checkpoint up, so that the others need not wait for it."""
        if not handle.checkpoint_id or not self._session.client.is_ready:
            return
        future = self._session.client.submit(
            wire.CheckpointFailed(
                checkpoint_id=handle.checkpoint_id,
                code=error.code,
                message=str(error)[:4096],
                generation=self._session.generation,
            )
        )
        try:
            future.result(_FAREWELL_S)
        except (StrataError, FutureTimeoutError) as refusal:
            future.cancel()
            log.debug("the coordinator took no note of it: %s", refusal)


def _warn(step: int, why: StrataError) -> None:
    # A coordinator's word begins with the checkpoint that it is about, or says itself that it is given up.
    log.warning("the checkpoint of step %d is given up: %s", step, _ABOUT.sub("", str(why)))


def _written(found: list[Delivered]) -> int:
    return sum(one.record.stored_bytes for one in found if not one.referred)


def _checked(policy: WhenBusy) -> WhenBusy:
    if policy not in get_args(WhenBusy):
        raise InvalidArgumentError(f"when_busy is {policy!r}: choose one of {', '.join(get_args(WhenBusy))}")
    return policy


def _log_staged(done: Future[Any], checkpoint_id: str, writer_id: str) -> None:
    if done.cancelled() or done.exception() is not None:
        log.debug("nobody will finish %s for this worker", checkpoint_id)
    else:
        log.debug("writer %s would finish %s for this worker", writer_id, checkpoint_id)
