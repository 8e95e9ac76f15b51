"""What a training script inherits from: one object that joins, feeds, commits, saves and leaves.

It ties the rooms together and decides nothing itself: the session speaks to the coordinator, the batch stream keeps
history, the checkpoint client streams to the writers.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from strata_zmq.domain.names import check_metadata, check_not_negative
from strata_zmq.errors import GenerationChangedError, HistoryChangedError, InvalidArgumentError

from .batches import BatchStream, Settled
from .hooks import Hooks
from .restoring import restore_tracked
from .saving import SaveOptions, Saving, given_up, taken_back
from .session import WorkerIdentity, WorkerSession
from .shard_view import ShardView
from .tracked import Tracked, state_of

if TYPE_CHECKING:
    from strata_zmq.checkpoint.handle import SaveHandle
    from strata_zmq.domain.manifest import Kind
    from strata_zmq.domain.policy import Policy
    from strata_zmq.feed import Loader
    from strata_zmq.feed.readers import ReaderDescription
    from strata_zmq.protocol.messages import Membership, Released

    from .checkpoint_client import CheckpointClient
    from .operations import Values

__all__ = ["ShardView", "WorkerMixin"]


class WorkerMixin:
    """Makes any class a Strata worker; nothing happens before the first call of a method.

    COORDINATOR_URL and WORKER_ID are read where `coordinator_url` and `worker_id` are not set. Every method that waits
    takes a timeout in seconds and raises DeadlineExceededError with the missing workers' names.
    """

    coordinator_url: str | None = None
    worker_id: str | None = None
    worker_metadata: Mapping[str, str] = {}
    checkpoint_policy: Policy | str | None = None
    """When loops over `batches` save by themselves, as `strata run --policy` takes it, which is the default."""
    preemption_signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGUSR1)
    """Within a loop over `batches` these have all ranks save behind the next commit point, and this one leave."""

    __session: WorkerSession | None = None
    __tracked: Tracked | None = None
    __checkpoints: CheckpointClient | None = None
    __stream: BatchStream | None = None
    __hooks: Hooks | None = None
    __saves: Saving | None = None
    __told: Mapping[str, Any] | None = None
    __drained: WorkerSession | None = None
    __loaders: dict[tuple[bytes, int], Loader] | None = None

    # ---- joining and leaving

    def describe(self, worker_id: str | None = None, metadata: Mapping[str, str] | None = None, **told: Any) -> None:
        """Say who this worker is before it connects; `told` may name hostname, port, gpu_count and memory_bytes."""
        if self.__session is not None:
            raise InvalidArgumentError(
                f"this worker is connected as {self.worker_id!r}: describe it before that, or deregister() first"
            )
        self.worker_id = worker_id or self.worker_id
        self.worker_metadata = check_metadata("metadata", self.worker_metadata if metadata is None else metadata)
        unknown = told.keys() - {"hostname", "port", "gpu_count", "memory_bytes"}
        if unknown:
            raise InvalidArgumentError(
                f"describe({', '.join(sorted(unknown))}=...): a worker has hostname, port, gpu_count and memory_bytes; "
                "put the rest into metadata"
            )
        self.__told = told

    def connect(self, timeout_s: float = 300.0) -> Self:
        """Register with the coordinator and wait for a generation that this worker belongs to."""
        self._connected(timeout_s)
        return self

    @property
    def session(self) -> WorkerSession:
        """The connection to the coordinator, opened on first use."""
        return self._connected()

    @property
    def rank(self) -> int:
        """This worker's rank in the adopted generation."""
        return self.session.membership.rank

    @property
    def world_size(self) -> int:
        """How many members the adopted generation has."""
        return len(self.session.membership.members)

    @property
    def generation(self) -> int:
        """The adopted generation."""
        return self.session.generation

    @property
    def epoch(self) -> int:
        """The epoch that this worker is in."""
        return self.session.epoch

    @property
    def step(self) -> int:
        """How many commit points history has, as far as this worker has seen."""
        return self.session.step

    @property
    def stopping(self) -> bool:
        """Whether loops end before their data: the ranks have agreed to `stop`, or this one was told to `drain`."""
        session = self.__drained or self.__session
        return session is not None and (session.votes.stopped or session.votes.draining)

    def deregister(self) -> None:
        """Wait for pending checkpoints, leave the membership and close the connection. Safe to call twice."""
        atexit.unregister(self.deregister)
        checkpoints, self.__checkpoints = self.__checkpoints, None
        session, self.__session = self.__session, None
        loaders, self.__loaders = self.__loaders or {}, None
        for loader in loaders.values():
            loader.close()
        try:
            if checkpoints is not None:
                checkpoints.close(self._saves().patience_s)
        finally:
            if session is not None:
                session.close()
            self._saves().listen_no_more()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.deregister()

    # ---- state

    def track(self, **objects: Any) -> Self:
        """Register what makes up the training state: it is saved, restored, and taken back after a lost step.

        An object is a NumPy array, a nested dict or list of arrays and plain values, or has state_dict() and
        load_state_dict(). Arrays are restored in place.
        """
        self._state().add(objects)
        return self

    def on_membership(self, membership: Membership) -> None:
        """Bring this rank in line with the others; called on every rank when a generation begins to train.

        Override it to hand the model to newcomers, typically from rank 0, which is the longest-standing member. The
        call may use `barrier`; if the membership changes again within it, it is called again. Where `session.astray`
        is set, history was taken back and this rank's model is of what is lost: rank 0 has to call
        `restore_checkpoint()`, or the loop ends with that HistoryChangedError.
        """

    def on_checkpoint_requested(self) -> None:
        """Save what is tracked; called on every rank behind the same commit point, when `checkpoint` was commanded.

        Override it to save something else, or in another way; it is called within the loop over `batches`.
        """
        if self._state():
            self.save_checkpoint()

    # ---- data

    def register_dataset(
        self,
        dataset_id: str,
        path: str = "",
        total_samples: int = 0,
        shard_size: int = 0,
        shuffle: bool = True,
        seed: int = 42,
    ) -> int:
        """Register a dataset of `total_samples` in shards of `shard_size` samples; returns the number of shards."""
        return self.session.register_dataset(
            dataset_id, total_samples, shard_size, shuffle=shuffle, seed=seed, path=path
        )

    def get_shards(self, dataset: str) -> ShardView:
        """Return a re-iterable view: each iteration covers every shard that this worker owns in the current epoch."""
        return ShardView(self.session, dataset)

    def batches(
        self,
        dataset: str,
        batch_size: int,
        *,
        commit_every: int = 1,
        every_rank: bool = False,
        timeout_s: float = 300.0,
        reader: ReaderDescription | None = None,
    ) -> BatchStream:
        """Iterate over this rank's share of the epoch, every sample exactly once over all ranks, through any change.

        With `every_rank` a rank that has no data left gets empty batches while others still have some, so that it can
        take part in each step's synchronisation. `commit_every` batches make one commit point; with both, an epoch's
        last batches may be empty on all ranks, so that all reach it together. With a `reader`, a
        loader process reads the batches ahead into shared memory, and each batch comes with its `arrays`. The batch in
        hand when a loop is left early counts when the next loop or epoch begins.
        """
        self._leave_stream()
        self._saves().listen(self.preemption_signals, lambda: self.__stream is not None and self.__stream.running)
        self.__stream = BatchStream(
            self.session,
            self._hooks(),
            dataset,
            batch_size=batch_size,
            commit_every=commit_every,
            every_rank=every_rank,
            timeout_s=timeout_s,
            loader=None if reader is None else self._loader(reader, batch_size),
        )
        return self.__stream

    def advance_epoch(self, timeout_s: float = 300.0) -> int:
        """Finish this worker's epoch and wait for the others; returns the epoch that has begun.

        A batch in hand is committed first. A worker that was drained stays in its epoch.
        """
        self._leave_stream()
        return self.epoch if self.__drained is not None else self.session.advance_epoch(timeout_s=timeout_s)

    def epochs(self, count: int, *, timeout_s: float = 300.0) -> Iterator[int]:
        """Iterate over the epochs up to `count`, from the one that the job is in, and advance behind each.

        A worker that joins late, or a job that was resumed, starts where history stands and ends with the others. It
        ends with the epoch in hand when the loop over `batches` was ended by a command (`stopping`).
        """
        return self._epochs(check_not_negative("count", count, 2**62), timeout_s)

    # ---- coordination

    def barrier(
        self, name: str, step: int, *, expected: int = 0, timeout_s: float = 300.0, values: Values | None = None
    ) -> Released:
        """Wait until all ranks have arrived at (name, step); raises GenerationChangedError if membership changes.

        `values={"loss": ("mean", x)}` is reduced over all ranks into `reduced["loss"]` of what is returned.
        """
        return self.session.barrier(name, step, expected=expected, timeout_s=timeout_s, values=values)

    async def wait_barrier(
        self, name: str, step: int, *, expected: int = 0, timeout_s: float = 300.0, values: Values | None = None
    ) -> Released:
        """`barrier` without holding up the event loop."""
        session = await asyncio.to_thread(self._connected)
        return await session.aio.barrier(name, step, expected=expected, timeout_s=timeout_s, values=values)

    # ---- checkpoints

    def checkpoint(
        self,
        *,
        model: Any = None,
        optimizer: Any = None,
        extra: Any = None,
        step: int | None = None,
        epoch: int | None = None,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, str] | None = None,
        rng: bool = True,
    ) -> SaveHandle:
        """Stage these objects, or without any what `track` registered, and stream them to the storage writers.

        Training goes on at once: `staged` and `durable` of the handle are futures, and a failure shows there and in the
        log and does not stop training. Each object is a nested dict or list of arrays and plain values, or has
        state_dict(). A model alone is recorded as MODEL_ONLY, an optimizer alone as OPTIMIZER_ONLY. `metrics` are
        numbers by which a best checkpoint is kept and found; they have to be the same on all ranks. With `rng` the
        state of the process's random number generators is saved with it.

        Every rank has to call it for the same step. A batch in hand is committed first, so that the saved model and the
        ledger in the checkpoint's manifest are one history; inside a loop over `batches` call it as the last thing, and
        with every_rank=True, so that no rank misses it. If the membership changes first, the batch is taken back and
        the handle says SKIPPED: the loop comes to that step again. Outside a loop a new generation is agreed on first,
        with `on_membership`.
        """
        given = {"model": model, "optimizer": optimizer, "extra": extra}
        given = {name: value for name, value in given.items() if value is not None}
        kinds: dict[tuple[str, ...], Kind] = {("model",): "MODEL_ONLY", ("optimizer",): "OPTIMIZER_ONLY"}
        if not given:
            return self.save_checkpoint(step, epoch, metadata=metadata, metrics=metrics, rng=rng)
        about = SaveOptions(kinds.get(tuple(given), "FULL"), metadata or {}, metrics or {}, rng)
        return self._save(lambda: {name: state_of(value) for name, value in given.items()}, step, epoch, about)

    def save_checkpoint(
        self,
        step: int | None = None,
        epoch: int | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        rng: bool = True,
    ) -> SaveHandle:
        """Save what `track` registered, as `checkpoint` does."""
        state = self._state()
        if not state:
            raise InvalidArgumentError(
                "save_checkpoint: nothing is tracked, so there is nothing to save; call track(model=..., "
                "optimizer=...) first"
            )
        return self._save(state.capture, step, epoch, SaveOptions("FULL", metadata or {}, metrics or {}, rng))

    @property
    def slowdown_per_save_s(self) -> float | None:
        """What a save has cost training, in seconds: its call, and what steps took longer while it was under way.

        The median over the latest saves of this worker; None before the first has ended.
        """
        return self._saves().slowdown_s()

    async def save_async(
        self, step: int | None = None, epoch: int | None = None, *, metadata: Mapping[str, str] | None = None
    ) -> SaveHandle:
        """`save_checkpoint` without holding up the event loop; what is tracked must not change until it returns."""
        return await asyncio.to_thread(self.save_checkpoint, step, epoch, metadata=metadata)

    def restore_checkpoint(
        self,
        path: str | os.PathLike[str] | None = None,
        checkpoint_id: str | None = None,
        *,
        step: str | int | None = None,
        rng: bool = False,
    ) -> str | None:
        """Load a committed checkpoint into what `track` registered; returns its id, or None when there is none yet.

        The data position goes back to the checkpoint's with it, or to the beginning where there is none, unless other
        members carry a later history: then their state is the one to take (see `on_membership`). `path` defaults to
        STRATA_CHECKPOINT_PATH; without a `step` or `checkpoint_id` it is the latest checkpoint that is whole. With
        `rng` the process's random number generators go back, too.
        """
        if step is not None and checkpoint_id is not None:
            raise InvalidArgumentError("restore_checkpoint: give a step or a checkpoint_id, not both")
        wanted = step if checkpoint_id is None else checkpoint_id
        return restore_tracked(self._state(), self._restoring, path, wanted, rng=rng)

    # ---- inside

    def _save(
        self, capture: Callable[[], dict[str, Any]], step: int | None, epoch: int | None, about: SaveOptions
    ) -> SaveHandle:
        session, saves = self.session, self._saves()
        settled = self._settled()
        if self.__drained is not None:
            return given_up(session.step if step is None else step, session.epoch if epoch is None else epoch)
        if settled == "void":
            return taken_back(session.step + 1 if step is None else step, session.epoch if epoch is None else epoch)
        if settled == "nothing":
            self._agree()
        before, session.state = session.state, "CHECKPOINTING"
        try:
            handle = self._checkpoint_client().save(
                capture(),
                step=session.step if step is None else step,
                epoch=session.epoch if epoch is None else epoch,
                metadata=about.metadata,
                metrics=about.metrics,
                kind=about.kind,
                rng=about.random_state(),
                # What is to be saved before the end is not what may be left out.
                when_busy="block" if saves.preempted else None,
            )
            saves.began(handle, session.step)
            return handle
        finally:
            session.state = before

    def _restoring(self) -> WorkerSession:
        session = self.session
        self._hooks().restored = True
        return session

    def _settled(self) -> Settled:
        """Commit the batch in hand, for a save that follows."""
        if self.__stream is None:
            return "nothing"
        hooks = self._hooks()
        hooks.saving = True
        try:
            return self.__stream.settle()
        finally:
            hooks.saving = False

    def _epochs(self, count: int, timeout_s: float) -> Iterator[int]:
        while (epoch := self.epoch) < count and not self.stopping:
            yield epoch
            if self.stopping:
                self._leave_stream()
            else:
                self.advance_epoch(timeout_s)

    def _leave_stream(self) -> None:
        stream, self.__stream = self.__stream, None
        self._saves().interrupted()
        if stream is not None:
            stream.close()

    def _saves(self) -> Saving:
        if self.__saves is None:
            self.__saves = Saving(self.checkpoint_policy)
        return self.__saves

    def _state(self) -> Tracked:
        if self.__tracked is None:
            self.__tracked = Tracked()
        return self.__tracked

    def _connected(self, timeout_s: float = 300.0) -> WorkerSession:
        if self.__drained is not None:
            return self.__drained
        if self.__session is None:
            identity = WorkerIdentity(
                worker_id=self.worker_id or WorkerIdentity.default_id(),
                metadata=dict(self.worker_metadata),
                **(self.__told or {}),
            )
            session = WorkerSession(identity, self.coordinator_url)
            started = time.monotonic()
            try:
                session.connect(min(timeout_s, 30.0))
                session.join(max(timeout_s - (time.monotonic() - started), 0.1))
            except BaseException:
                session.close()
                raise
            session.votes.due = lambda: self._saves().due(session.step + 1)
            self.__session = session
            self.worker_id = identity.worker_id
            atexit.register(self.deregister)
        return self.__session

    def _loader(self, reader: ReaderDescription, batch_rows: int) -> Loader:
        """Return the loader process for a reader; it is kept from epoch to epoch."""
        from strata_zmq.feed import Loader
        from strata_zmq.feed.readers import encode_reader

        loaders = self.__loaders = {} if self.__loaders is None else self.__loaders
        key = (encode_reader(reader), batch_rows)
        if key not in loaders:
            loaders[key] = Loader(reader, batch_rows=batch_rows)
        return loaders[key]

    def _hooks(self) -> Hooks:
        if self.__hooks is None:
            hands_over = getattr(self.on_membership, "__func__", None) is not WorkerMixin.on_membership
            self.__hooks = Hooks(self, self._state(), self._saves(), self._drain, hands_over=hands_over)
        return self.__hooks

    def _drain(self) -> None:
        """Leave the job for good. What the worker knew of it can still be read; asking anything is refused."""
        session = self.__session
        self.deregister()
        self.__drained = session

    def _agree(self, timeout_s: float = 300.0) -> None:
        """Adopt the current generation and agree on the state with its other members, who are past the loop, too.

        Who joined when the data was done has no model of its own; what it saves has to be what history says.
        """
        hooks, session = self.__hooks, self.session
        while hooks is not None:
            with suppress(HistoryChangedError):
                session.join(timeout_s)
            membership = session.membership
            try:
                hooks.on_membership(membership)
            except GenerationChangedError:
                continue
            hooks.remember()
            return

    def _checkpoint_client(self) -> CheckpointClient:
        if self.__checkpoints is None:
            from .checkpoint_client import CheckpointClient

            when_busy: Any = os.environ.get("STRATA_WHEN_BUSY") or "block"
            self.__checkpoints = CheckpointClient(self.session, when_busy=when_busy)
        return self.__checkpoints
