"""A worker's saves under a coordinator: stage, stream to the writers, arrive, and tell when the checkpoint is durable.

Training stops only for the copy into staging memory. One thread carries one save after the other; a failure shows in
the save's handle and in the log, and never stops training.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from strata_zmq.checkpoint.chunks import CHUNK_BYTES
from strata_zmq.checkpoint.snapshot import ArenaPool, Snapshot, take_snapshot
from strata_zmq.domain.manifest import Kind
from strata_zmq.domain.manifest_format import encode_rank_index
from strata_zmq.domain.names import check_metadata, check_not_negative
from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    StrataError,
    UnavailableError,
)
from strata_zmq.protocol import messages as wire

from .upload import Upload, WriterLinks
from .writer_link import Parcel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .client import CoordinatorClient
    from .session import WorkerIdentity

__all__ = ["CheckpointClient", "CheckpointHandle"]

log = logging.getLogger("strata.checkpoint")

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


@dataclass(slots=True)
class CheckpointHandle:
    """One save. `stall_s` is how long the call held training up, `durable_s` how long until the commit was known.

    `checkpoint_id` is "" until the coordinator has opened the checkpoint; `error` is None while the save is under way
    and after it has succeeded.
    """

    step: int
    epoch: int
    stall_s: float = 0.0
    checkpoint_id: str = ""
    nbytes: int = 0
    durable_s: float = 0.0
    error: StrataError | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    waits_for: Callable[[], tuple[str, ...]] = tuple
    """Asks the coordinator whose bytes are not durable yet."""

    @property
    def done(self) -> bool:
        """Whether the save has ended, well or not."""
        return self._ended.is_set()

    @property
    def durable(self) -> bool:
        """Whether the checkpoint is committed: every rank's bytes are durable and HEAD reaches them."""
        return self.done and self.error is None

    def end(self, error: StrataError | None = None) -> None:
        """Note how the save has ended."""
        self.error = error
        self._ended.set()

    def wait(self, timeout_s: float = 300.0) -> bool:
        """Wait for the end of the save and return `durable`; DeadlineExceededError if it takes longer."""
        if not self._ended.wait(timeout_s):
            missing = self.waits_for()
            raise DeadlineExceededError(
                f"the checkpoint of step {self.step} is not durable after {timeout_s:g} s, missing: "
                f"{', '.join(missing[:20])}; wait longer, or look at them: every rank has to save this step",
                missing=missing,
            )
        return self.durable

    def result(self, timeout_s: float = 300.0) -> str:
        """Wait and return the id of the committed checkpoint, or raise what the save failed with."""
        self.wait(timeout_s)
        if self.error is not None:
            raise self.error
        return self.checkpoint_id


@dataclass(slots=True)
class _Job:
    handle: CheckpointHandle
    snapshot: Snapshot
    begin: wire.CheckpointBegin
    opened: Future[Any]
    started_at: float


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
    ) -> None:
        self._session = session
        self._chunk_bytes = chunk_bytes
        self._timeout_s = timeout_s
        self._pool = ArenaPool(arenas)
        self._links = WriterLinks(session.identity.worker_id, share_memory=share_memory)
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._carried: CheckpointHandle | None = None
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
        kind: Kind = "FULL",
    ) -> CheckpointHandle:
        """Copy `data` and stream it in the background; every rank of the generation has to save the same step.

        Waits only while all staging memory is in use by earlier saves; if there is none in the end, the handle says so.
        Raises InvalidArgumentError for what cannot be restored as it is.
        """
        began = time.monotonic()
        check_not_negative("step", step, _STEP_MAX)
        check_not_negative("epoch", epoch, _STEP_MAX)
        texts = check_metadata("metadata", metadata or {})
        if self._closing:
            raise InvalidArgumentError("this worker is closing: save before deregister()")
        begin = wire.CheckpointBegin(
            step=step,
            epoch=epoch,
            kind=kind,
            metadata=texts,
            commit_index=self._session.step,
            generation=self._session.generation,
        )
        handle = CheckpointHandle(step, epoch)
        handle.waits_for = lambda: self._whom_it_waits_for(handle)
        try:
            snapshot = take_snapshot(data, self._pool, chunk_bytes=self._chunk_bytes, timeout_s=self._timeout_s)
        except (DeadlineExceededError, ResourceExhaustedError) as error:
            _warn(step, error)
            handle.end(error)
            handle.stall_s = time.monotonic() - began
            return handle
        handle.nbytes = snapshot.nbytes
        # Sent before this returns, and so before this rank arrives at the next commit point: the ledger that the
        # coordinator puts into the manifest is the one that the state belongs to, however long the save has to queue.
        opened = self._session.client.submit(begin)
        with self._changed:
            self._jobs.append(_Job(handle, snapshot, begin, opened, began))
            self._changed.notify_all()
        handle.stall_s = time.monotonic() - began
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

    def _whom_it_waits_for(self, handle: CheckpointHandle) -> tuple[str, ...]:
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

    def _carry(self, job: _Job) -> None:
        handle = job.handle
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                self._pool.release(job.snapshot.arena)

        failure: StrataError | None = None
        try:
            self._save(job, release)
            handle.durable_s = time.monotonic() - job.started_at
        except StrataError as error:
            failure = error
        except Exception as error:
            log.exception("the checkpoint of step %d failed unexpectedly", handle.step)
            failure = StrataError(f"the checkpoint of step {handle.step} failed unexpectedly: {error!r}")
        finally:
            release()
        if failure is not None:
            _warn(handle.step, failure)
            self._report(handle, failure)
        handle.end(failure)

    def _save(self, job: _Job, release: Any) -> None:
        handle, snapshot = job.handle, job.snapshot
        deadline = time.monotonic() + self._timeout_s
        opened: wire.CheckpointOpened = self._answer(job.opened, deadline)
        handle.checkpoint_id = opened.checkpoint_id
        self._links.refresh(opened.writers)
        upload = Upload(
            self._links,
            snapshot.arena,
            opened.checkpoint_id,
            opened.rank,
            writers=lambda: self._ask(job.begin, deadline).writers,
            cancelled=lambda: self._cancel,
            deadline=deadline,
        )
        try:
            chunks = upload.deliver(
                [
                    Parcel("chunk", number, snapshot.chunk(number), piece.offset)
                    for number, piece in enumerate(snapshot.layout.slices)
                ]
            )
            index = memoryview(encode_rank_index(snapshot.index(opened.rank, chunks)))
            release()
            (record,) = upload.deliver([Parcel("index", 0, index, None)])
        finally:
            upload.close()
        arrival = wire.CheckpointArrive(
            checkpoint_id=opened.checkpoint_id,
            index_key=record.key,
            digest=record.digest,
            size_bytes=snapshot.nbytes,
            generation=job.begin.generation,
        )
        self._ask(arrival, deadline)

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
            if self._cancel or time.monotonic() >= deadline:
                future.cancel()
                if self._cancel:
                    raise UnavailableError("the checkpoint was given up: the worker is closing")
                raise DeadlineExceededError(
                    f"the coordinator did not answer within {self._timeout_s:g} s: are all ranks saving this step?",
                    missing=("coordinator",),
                )

    def _report(self, handle: CheckpointHandle, error: StrataError) -> None:
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
