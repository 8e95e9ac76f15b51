"""A simulated training process: it joins, reads batches, commits, saves, restores, and keeps a model that tells all.

What it asks of the coordinator are the real session's operations. The model is the chain of commit points that it has
been through, so that a model and a data position that do not belong together show. It goes back with every lost step,
as a real one's tracked state does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    GenerationChangedError,
    HistoryChangedError,
    InvalidArgumentError,
    NotFoundError,
    StaleGenerationError,
    StrataError,
    UnavailableError,
)
from strata_zmq.protocol import messages as wire
from strata_zmq.workers import operations
from strata_zmq.workers.operations import Ask, SessionState

from .plan import Plan
from .process import Program, Sleep
from .samples import Samples
from .truth import BEGINNING, chain

__all__ = ["Model", "Outside", "Trainer", "Will"]

_LONG_S = 300.0
_STREAM_S = 1.5
_MOVED = (GenerationChangedError, StaleGenerationError)
_BEGINNING = b'{"epoch": 0, "commit_index": 0, "datasets": {}}'


@dataclass(frozen=True, slots=True)
class Model:
    """A model's state: what it went through, and after how many commit points."""

    chain: bytes = BEGINNING
    commits: int = 0


@dataclass(slots=True)
class Will:
    """What a writer has of a rank's save, and would store if the rank died while it is `open`."""

    checkpoint_id: str
    rank: int
    worker_id: str
    writer_id: str
    model: Model
    open: bool = True


class Outside(Protocol):
    """What a training process has besides the coordinator: peers, a checkpoint store, and somebody who watches."""

    samples: Samples

    def post(self, generation: int, name: str, model: Model | None) -> None:
        """Offer this rank's model to the others of a generation."""

    def posted(self, generation: int) -> dict[str, Model | None]:
        """Return the models on offer."""

    def put_bytes(self, key: str, model: Model, done: Callable[[], None]) -> None:
        """Make a model durable under a key."""

    def leave_will(self, trainer: Trainer, opened: wire.CheckpointOpened, model: Model) -> Will | None:
        """Leave a model in a writer's reach, which stores it when this worker dies."""

    def latest(self) -> tuple[str, bytes, Model] | None:
        """Return (id, ledger, model) of the newest checkpoint that is committed."""

    def committed(
        self, trainer: Trainer, generation: int, released: wire.Released, ranges: list[wire.SeenRange]
    ) -> None:
        """Be told that a worker has heard of a commit point, which carried these ranges of its own."""

    def resumes(self, trainer: Trainer, resume: wire.Resume) -> None:
        """Be told where a worker was told to go on."""

    def agreed(self, trainer: Trainer) -> None:
        """Be told that a worker is in line with its generation."""


@dataclass(slots=True)
class _Open:
    shard: int
    position: int
    size: int


@dataclass(slots=True)
class _Stream:
    dataset_id: str
    epoch: int = 0
    remaining: int = -1
    shards: deque[_Open] = field(default_factory=deque)
    seen: dict[int, wire.SeenRange] = field(default_factory=dict)


class Trainer(SessionState):
    """One process life of a training worker, as a program over a session's state."""

    def __init__(self, name: str, life: int, plan: Plan, rng: random.Random, outside: Outside) -> None:
        super().__init__(name, clock=lambda: 0.0)
        self.name, self.life = name, life
        self.incarnation = f"{name}.{life}"
        self.plan = plan
        self.model: Model | None = None
        self.announced = -1
        self.leaving = False
        self.hanging = False
        """Whether the training loop stands still, while its heartbeats go on."""
        self.commanded: list[str] = []
        """The commands that it has taken."""
        self.commit_deadline: Callable[[], float] = lambda: float("inf")
        self._wants_checkpoint = False
        self._rng = rng
        self._outside = outside
        self._spawn: Callable[[Program], None] = lambda program: None

    @property
    def may_commit(self) -> bool:
        """Whether less than two thirds of the lease have passed since the coordinator was last known to hear us."""
        return self.clock() < self.commit_deadline()

    def registration(self) -> wire.RegisterWorker:
        """Return what introduces this process."""
        return wire.RegisterWorker(
            worker_id=self.name,
            incarnation=self.incarnation,
            pid=self.life,
            hostname="host",
            progress=self.registered_progress,
        )

    def take(self, command: str) -> None:
        """Take a command."""
        self.commanded.append(command)
        if command == "drain":
            self.leaving = True
        elif command == "checkpoint":
            self._wants_checkpoint = True

    def run(self, spawn: Callable[[Program], None]) -> Program:
        """Train until told to leave."""
        self._spawn = spawn
        yield from operations.join(self, _LONG_S)
        for dataset in self.plan.datasets:
            yield from operations.register_dataset(
                self,
                dataset.dataset_id,
                dataset.total,
                dataset.shard_size,
                shuffle=dataset.shuffle,
                seed=dataset.seed,
            )
        resume = yield from operations.resume(self)
        self._outside.resumes(self, resume)
        yield from self._restore()
        while not self.leaving:
            for dataset in self.plan.datasets:
                yield from self._stream(_Stream(dataset.dataset_id))
                if self.leaving:
                    break
            else:
                if (yield from self._is_done()):
                    yield from self._advance_epoch()
        yield from operations.leave(self)

    # ---- membership

    def _join(self) -> Program:
        # What to do about a model of another history is for `_agree`.
        with suppress(HistoryChangedError):
            yield from operations.join(self, _LONG_S)

    def _restore(self) -> Program:
        """Take the newest checkpoint, unless others carry a later history."""
        while True:
            latest = self._outside.latest()
            name, ledger, model = latest if latest is not None else ("beginning", _BEGINNING, Model())
            yield Sleep(self._rng.random() * self.plan.storage_s)
            try:
                rewound = yield from operations.restore(self, name, ledger)
            except _MOVED:
                yield from self._join()
                continue
            if rewound:
                self.model = model
            return

    def _agree(self) -> Program:
        """Bring this rank's model in line with the others'; raises when the generation changes meanwhile."""
        membership = self.membership
        if membership.generation == self.announced:
            return
        fits = self.model is not None and self.astray is None and self.model.commits == membership.commit_index
        self._outside.post(membership.generation, self.name, self.model if fits else None)
        if self.met.get("agree") != (membership.generation, membership.generation):
            yield from operations.barrier(self, "agree", membership.generation, timeout_s=_LONG_S)
        posted = self._outside.posted(membership.generation)
        models = [model for name in membership.members if (model := posted.get(name)) is not None]
        if not models:
            # Nobody remembers: the job begins again from what was saved.
            yield from self._restore()
            raise GenerationChangedError("restored")
        self.model = models[0]
        self.announced = membership.generation
        self.agreed()
        self._outside.agreed(self)

    # ---- data

    def _stream(self, stream: _Stream) -> Program:
        yield from self._adopt(stream)
        while stream.remaining and not self.leaving:
            if stream.shards:
                self.state = "TRAINING"
                yield Sleep(self.plan.step_s * (0.5 + self._rng.random()))
                while self.hanging:
                    yield Sleep(0.2)
                self._take_batch(stream)
            yield from self._commit(stream)
        self.state = "IDLE"

    def _adopt(self, stream: _Stream) -> Program:
        while True:
            try:
                yield from self._join()
                reply = yield from operations.get_shards(self, stream.dataset_id)
                if reply.generation != self.generation:
                    continue
                self._take_shards(stream, reply)
                if stream.remaining:
                    yield from self._agree()
            except _MOVED:
                continue
            return

    def _take_shards(self, stream: _Stream, reply: wire.Shards) -> None:
        stream.seen.clear()
        stream.epoch, stream.remaining = reply.epoch, reply.remaining
        samples = self._outside.samples
        stream.shards = deque(
            _Open(shard, cursor, samples.size(stream.dataset_id, shard))
            for shard, cursor in zip(reply.shards, reply.cursors, strict=True)
            if cursor < samples.size(stream.dataset_id, shard)
        )

    def _take_batch(self, stream: _Stream) -> None:
        wanted = self.plan.batch
        while wanted and stream.shards:
            opened = stream.shards[0]
            start, stop = opened.position, min(opened.position + wanted, opened.size)
            before = stream.seen.get(opened.shard)
            first = before.start if before is not None else start
            stream.seen[opened.shard] = self._outside.samples.seen(
                stream.dataset_id, stream.epoch, opened.shard, first, stop
            )
            wanted -= stop - start
            opened.position = stop
            if stop == opened.size:
                stream.shards.popleft()

    def _commit(self, stream: _Stream) -> Program:
        model, generation = self.model, self.generation
        assert model is not None
        ranges = list(stream.seen.values())
        wanted = self._wants_checkpoint
        try:
            released = yield from operations.commit(
                self, ranges, timeout_s=_LONG_S, values={"checkpoint": ("any", float(wanted))}
            )
        except _MOVED:
            self.state = "RECOVERING"
            yield from self._adopt(stream)
            return
        stream.seen.clear()
        stream.remaining = released.remaining.get(stream.dataset_id, 0)
        self.model = Model(chain(model.chain, generation, released.step, released.participants), released.commit_index)
        self._outside.committed(self, generation, released, ranges)
        self._wants_checkpoint = self._wants_checkpoint and not wanted
        yield from self._between_commits(self.model, asked=bool(released.reduced["checkpoint"]))

    def _between_commits(self, model: Model, *, asked: bool) -> Program:
        plan = self.plan
        if asked or (plan.save_every and model.commits % plan.save_every == 0):
            yield from self._save(model)
        try:
            if plan.barrier_every and model.commits % plan.barrier_every == 0:
                yield from self._meet(model)
            if plan.pair_every and model.commits % plan.pair_every == 0 and len(self.membership.members) > 1:
                yield from operations.barrier(self, "pair", model.commits, expected=2, timeout_s=self._patience_s())
        except (*_MOVED, DeadlineExceededError):
            # Nothing was in hand: the next commit point finds out and goes back.
            return

    def _meet(self, model: Model) -> Program:
        """Agree on some numbers at a plain barrier, which re-forms or breaks."""
        loss = self._rng.uniform(-1.0, 1.0)
        released = yield from operations.barrier(
            self,
            "meet",
            model.commits,
            timeout_s=self._patience_s(),
            values={"loss": ("mean", loss), "sum": ("sum", loss), "least": ("min", loss), "all": ("all", loss > 0.0)},
            on_change="reform" if self.plan.reform else "break",
        )
        assert self.name in released.participants

    def _patience_s(self) -> float:
        # Newcomers know nothing of a meeting that has re-formed with them: whoever waits there does not wait for long.
        return 0.5 + 2.0 * self._rng.random() if self.plan.impatient or self.plan.reform else _LONG_S

    def _advance_epoch(self) -> Program:
        try:
            yield from operations.advance_epoch(self, timeout_s=_LONG_S)
        except InvalidArgumentError:
            # History was taken back to an earlier epoch meanwhile.
            return

    def _is_done(self) -> Generator[Any, Any, bool]:
        """Say whether the whole epoch is: a restore during the second dataset brings the first one's data back."""
        for dataset in self.plan.datasets[:-1]:
            try:
                reply = yield from operations.get_shards(self, dataset.dataset_id)
            except (*_MOVED, NotFoundError):
                return False
            if reply.remaining:
                return False
        return True

    # ---- checkpoints

    def _save(self, model: Model) -> Program:
        request = wire.CheckpointBegin(
            step=model.commits, commit_index=model.commits, generation=self.generation, epoch=self.epoch
        )
        self.asking += 1
        try:
            opened: wire.CheckpointOpened = yield Ask(request, 30.0)
        except (*_MOVED, AlreadyExistsError, UnavailableError, NotFoundError, InvalidArgumentError):
            return
        finally:
            self.asking -= 1
        self._spawn(self._stage(opened, model))

    def _stage(self, opened: wire.CheckpointOpened, model: Model) -> Generator[Any, Any, None]:
        """Write this rank's bytes and wait until the checkpoint is durable; training goes on meanwhile."""
        key = f"ckpt/{opened.checkpoint_id}/rank-{opened.rank:05d}/index-{self.incarnation}"
        written: list[bool] = []
        will = self._outside.leave_will(self, opened, model) if self.plan.stages and opened.writers else None
        if will is not None:
            self._spawn(self._tell_staged(will))
            yield Sleep(_STREAM_S)
        self._outside.put_bytes(key, model, lambda: written.append(True))
        while not written:
            yield Sleep(0.01 + self.plan.storage_s)
        ending: wire.CheckpointArrive | wire.CheckpointFailed = wire.CheckpointArrive(
            checkpoint_id=opened.checkpoint_id, index_key=key, digest="0" * 64, size_bytes=8
        )
        if self.plan.save_fails and self._rng.random() < self.plan.save_fails:
            ending = wire.CheckpointFailed(checkpoint_id=opened.checkpoint_id, code="storage", message="no space left")
        with suppress(StrataError):
            yield Ask(ending, _LONG_S)
        if will is not None:
            will.open = False

    def _tell_staged(self, will: Will) -> Program:
        with suppress(StrataError):
            yield Ask(wire.CheckpointStaged(checkpoint_id=will.checkpoint_id, writer_id=will.writer_id), 30.0)
