"""A simulated training process: it joins, reads batches, commits, saves, restores, and keeps a model that tells all.

The model is the chain of commit points that it has been through, so that a model and a data position that do not belong
together show. It goes back with every lost step, as a real one's tracked state does.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    GenerationChangedError,
    InvalidArgumentError,
    NotFoundError,
    PeerLostError,
    StaleGenerationError,
    StrataError,
    UnavailableError,
)
from strata_zmq.protocol import messages as wire

from .plan import Plan
from .process import Ask, Program, Sleep
from .samples import Samples
from .truth import BEGINNING, chain

__all__ = ["Model", "Outside", "Trainer"]

_LONG_S = 300.0
_MOVED = (GenerationChangedError, StaleGenerationError)
_BEGINNING = b'{"epoch": 0, "commit_index": 0, "datasets": {}}'


@dataclass(frozen=True, slots=True)
class Model:
    """A model's state: what it went through, and after how many commit points."""

    chain: bytes = BEGINNING
    commits: int = 0


class Outside(Protocol):
    """What a training process has besides the coordinator: peers, a checkpoint store, and somebody who watches."""

    samples: Samples

    def post(self, generation: int, name: str, model: Model | None) -> None:
        """Offer this rank's model to the others of a generation."""

    def posted(self, generation: int) -> dict[str, Model | None]:
        """Return the models on offer."""

    def put_bytes(self, key: str, model: Model, alive: Callable[[], bool], done: Callable[[], None]) -> None:
        """Make a model durable under a key."""

    def latest(self) -> tuple[str, bytes, Model] | None:
        """Return (id, ledger, model) of the newest checkpoint that is committed."""

    def arrives(self, name: str, incarnation: str, request: wire.Arrive) -> None:
        """Be told that a worker wants to arrive."""

    def committed(
        self, trainer: Trainer, generation: int, released: wire.Released, ranges: list[wire.SeenRange]
    ) -> None:
        """Be told that a worker has heard of a commit point, which carried these ranges of its own."""

    def released(self, trainer: Trainer, request: wire.Arrive, released: wire.Released) -> None:
        """Be told that a worker was released from a plain barrier."""

    def adopted(self, trainer: Trainer, membership: wire.Membership) -> None:
        """Be told that a worker has adopted a generation."""

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


class Trainer:
    """One process life of a training worker, as a program."""

    def __init__(self, name: str, life: int, plan: Plan, rng: random.Random, outside: Outside) -> None:
        self.name, self.life = name, life
        self.incarnation = f"{name}.{life}"
        self.plan = plan
        self.model: Model | None = None
        self.membership: wire.Membership | None = None
        self.announced = -1
        self.leaving = False
        self.progress = 0
        self.state: wire.WorkerState = "IDLE"
        self._rng = rng
        self._outside = outside
        self._spawn: Callable[[Program], None] = lambda program: None

    def registration(self) -> wire.RegisterWorker:
        """Return what introduces this process."""
        return wire.RegisterWorker(worker_id=self.name, incarnation=self.incarnation, pid=self.life, hostname="host")

    def heartbeat(self) -> wire.Heartbeat:
        """Return what renews the lease."""
        return wire.Heartbeat(state=self.state, progress=self.progress, generation=self.generation)

    @property
    def generation(self) -> int:
        """The adopted generation; 0 before the first."""
        return self.membership.generation if self.membership is not None else 0

    def run(self, spawn: Callable[[Program], None]) -> Program:
        """Train until told to leave."""
        self._spawn = spawn
        yield from self._join()
        for dataset in self.plan.datasets:
            yield Ask(
                wire.RegisterDataset(
                    dataset_id=dataset.dataset_id,
                    total_samples=dataset.total,
                    shard_size=dataset.shard_size,
                    shuffle=dataset.shuffle,
                    seed=dataset.seed,
                )
            )
        yield from self._restore()
        while not self.leaving:
            for dataset in self.plan.datasets:
                yield from self._stream(_Stream(dataset.dataset_id))
                if self.leaving:
                    break
            else:
                yield from self._advance_epoch()
        yield Ask(wire.Deregister(reason="enough"))

    # ---- membership

    def _join(self) -> Program:
        membership: wire.Membership = yield Ask(wire.AwaitGeneration(timeout_s=_LONG_S), _LONG_S)
        self.membership = membership
        self.progress += 1
        self._outside.adopted(self, membership)

    def _restore(self) -> Program:
        """Take the newest checkpoint, unless others carry a later history."""
        while True:
            latest = self._outside.latest()
            name, ledger, model = latest if latest is not None else ("beginning", _BEGINNING, Model())
            yield Sleep(self._rng.random() * self.plan.storage_s)
            try:
                reply: wire.Restored = yield Ask(wire.Restore(checkpoint_id=name, ledger=ledger))
            except _MOVED:
                yield from self._join()
                continue
            if reply.rewound:
                self.model = model
            return

    def _agree(self) -> Program:
        """Bring this rank's model in line with the others'; raises when the generation changes meanwhile."""
        membership = self.membership
        assert membership is not None
        if membership.generation == self.announced:
            return
        while True:
            fits = self.model is not None and self.model.commits == membership.commit_index
            self._outside.post(membership.generation, self.name, self.model if fits else None)
            yield from self._barrier("agree", membership.generation)
            posted = self._outside.posted(membership.generation)
            models = [posted[name] for name in membership.members if posted.get(name) is not None]
            if models:
                self.model = models[0]
                self.announced = membership.generation
                self._outside.agreed(self)
                return
            # Nobody remembers: the job begins again from what was saved.
            yield from self._restore()
            raise GenerationChangedError("restored")

    # ---- data

    def _stream(self, stream: _Stream) -> Program:
        yield from self._adopt(stream)
        while stream.remaining and not self.leaving:
            if stream.shards:
                self.state = "TRAINING"
                yield Sleep(self.plan.step_s * (0.5 + self._rng.random()))
                self._take_batch(stream)
            yield from self._commit(stream)
        self.state = "IDLE"

    def _adopt(self, stream: _Stream) -> Program:
        while True:
            try:
                yield from self._join()
                reply: wire.Shards = yield Ask(wire.GetShards(dataset_id=stream.dataset_id))
                if reply.generation != self.generation:
                    continue
                self._take_shards(stream, reply)
                if stream.remaining:
                    yield from self._agree()
            except _MOVED:
                continue
            except DeadlineExceededError:
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
        self.progress += 1

    def _commit(self, stream: _Stream) -> Program:
        model = self.model
        assert model is not None
        ranges = list(stream.seen.values())
        generation = self.generation
        try:
            released: wire.Released = yield from self._arrive(
                wire.Arrive(
                    name="commit",
                    step=model.commits + 1,
                    timeout_s=_LONG_S,
                    commit=True,
                    ranges=ranges,
                    generation=generation,
                )
            )
        except _MOVED:
            self.state = "RECOVERING"
            yield from self._adopt(stream)
            return
        stream.seen.clear()
        stream.remaining = released.remaining.get(stream.dataset_id, 0)
        self.model = Model(chain(model.chain, generation, released.step, released.participants), released.commit_index)
        self.progress += 1
        self._outside.committed(self, generation, released, ranges)
        yield from self._between_commits(self.model)

    def _between_commits(self, model: Model) -> Program:
        plan = self.plan
        if plan.save_every and model.commits % plan.save_every == 0:
            yield from self._save(model)
        try:
            if plan.barrier_every and model.commits % plan.barrier_every == 0:
                yield from self._barrier("meet", model.commits)
            if plan.pair_every and model.commits % plan.pair_every == 0 and self._size > 1:
                yield from self._barrier("pair", model.commits, expected=2)
        except _MOVED:
            # Nothing was in hand: the next commit point finds out and goes back.
            return
        except DeadlineExceededError:
            return

    @property
    def _size(self) -> int:
        return len(self.membership.members) if self.membership is not None else 0

    def _advance_epoch(self) -> Program:
        assert self.membership is not None
        finished = self.membership.epoch
        while True:
            try:
                yield Ask(wire.AdvanceEpoch(epoch=finished, timeout_s=_LONG_S), _LONG_S)
            except StaleGenerationError:
                yield from self._join()
            except InvalidArgumentError:
                # History was taken back to an earlier epoch meanwhile.
                return
            else:
                self.progress += 1
                return

    def _barrier(self, name: str, step: int, *, expected: int = 0) -> Generator[Any, Any, wire.Released]:
        timeout_s = 0.5 + 2.0 * self._rng.random() if self.plan.impatient and name != "agree" else _LONG_S
        request = wire.Arrive(name=name, step=step, expected=expected, timeout_s=timeout_s, generation=self.generation)
        released: wire.Released = yield from self._arrive(request)
        self._outside.released(self, request, released)
        return released

    def _arrive(self, request: wire.Arrive) -> Generator[Any, Any, wire.Released]:
        self._outside.arrives(self.name, self.incarnation, request)
        before, self.state = self.state, "IDLE"
        try:
            released: wire.Released = yield Ask(request, request.timeout_s)
        finally:
            self.state = before
        return released

    # ---- checkpoints

    def _save(self, model: Model) -> Program:
        try:
            opened: wire.CheckpointOpened = yield Ask(
                wire.CheckpointBegin(
                    step=model.commits, commit_index=model.commits, generation=self.generation, epoch=0
                )
            )
        except (*_MOVED, AlreadyExistsError, UnavailableError, NotFoundError, InvalidArgumentError):
            return
        self._spawn(self._stage(opened, model))

    def _stage(self, opened: wire.CheckpointOpened, model: Model) -> Program:
        """Write this rank's bytes and wait until the checkpoint is durable; training goes on meanwhile."""
        key = f"ckpt/{opened.checkpoint_id}/rank-{opened.rank:05d}/index-{self.incarnation}"
        written: list[bool] = []
        self._outside.put_bytes(key, model, lambda: True, lambda: written.append(True))
        while not written:
            yield Sleep(0.01 + self.plan.storage_s)
        try:
            yield Ask(
                wire.CheckpointArrive(checkpoint_id=opened.checkpoint_id, index_key=key, digest="0" * 64, size_bytes=8),
                _LONG_S,
            )
        except (*_MOVED, NotFoundError, PeerLostError, DeadlineExceededError, StrataError):
            return
