"""The loop over committed history: batches of this rank's shards, a commit point behind each, and the way back.

A batch that was handed out counts when the next commit point is released on every rank, and not before. If the
membership changes first, the batch is void: the tracked state goes back to the last commit point and the loop goes on
with the shards of the new generation, so that model and data stay one history.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from strata_zmq.domain.shuffle import checksum
from strata_zmq.errors import GenerationChangedError, InvalidArgumentError, StaleGenerationError
from strata_zmq.protocol.messages import SeenRange

from .shards import Shard, shards_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from strata_zmq.protocol.messages import Membership

    from .session import WorkerSession

__all__ = ["Batch", "BatchStream", "Trainer"]

_RANGES_MAX = 256


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sample ids to train on: int64 of shape (n,). An empty one asks its rank to take part in the step without data.

    `step` is the number of the commit point that will count it.
    """

    dataset_id: str
    epoch: int
    step: int
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.indices.size)


class Trainer(Protocol):
    """What the loop needs of the training code's side."""

    def on_membership(self, membership: Membership) -> None:
        """Bring this rank's state in line with the others' of a new generation."""

    def remember(self) -> None:
        """Keep the state as the one to return to."""

    def rollback(self) -> None:
        """Return to the state that was kept."""


@dataclass(slots=True)
class _Open:
    """A shard of this rank, and where in it the next batch starts."""

    shard: Shard
    position: int


class BatchStream:
    """Iterates over one dataset's current epoch; ends when the whole dataset is committed, on every rank."""

    def __init__(
        self,
        session: WorkerSession,
        trainer: Trainer,
        dataset_id: str,
        *,
        batch_size: int,
        commit_every: int = 1,
        every_rank: bool = False,
        timeout_s: float = 300.0,
    ) -> None:
        if batch_size < 1:
            raise InvalidArgumentError(f"batch_size is {batch_size}: it takes 1 or more samples")
        if commit_every < 1:
            raise InvalidArgumentError(f"commit_every is {commit_every}: it takes 1 or more batches")
        self._session = session
        self._trainer = trainer
        self._dataset_id = dataset_id
        self._batch_size = batch_size
        self._commit_every = commit_every
        self._every_rank = every_rank
        self._timeout_s = timeout_s
        self._shards: deque[_Open] = deque()
        self._seen: dict[int, SeenRange] = {}
        self._handed_out: int = 0
        self._remaining = -1
        self._epoch = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._remaining < 0:
            self._begin()
        elif self._handed_out:
            self._commit_if_due()
        while self._remaining:
            batch = self._next_batch()
            if batch is not None:
                return batch
            self._commit()
        self._session.state = "IDLE"
        raise StopIteration

    def settle(self) -> bool:
        """Commit the batch in hand now instead of at the next turn; False if it was lost to a change of membership."""
        if not self._handed_out:
            return True
        before = self._session.step
        self._commit()
        return self._session.step == before + 1

    def _next_batch(self) -> Batch | None:
        """Return the next local batch, an empty one where every rank takes every step, or None."""
        if self._shards:
            indices = self._take()
        elif self._every_rank:
            indices = np.empty(0, dtype=np.int64)
        else:
            return None
        self._handed_out += 1
        self._session.state = "TRAINING"
        return Batch(self._dataset_id, self._epoch, self._session.step + 1, indices)

    def _take(self) -> NDArray[np.int64]:
        """Take up to a batch of samples from the shards at hand, and note what was taken."""
        parts: list[NDArray[np.int64]] = []
        wanted = self._batch_size
        while wanted and self._shards:
            opened = self._shards[0]
            start = opened.position
            stop = min(start + wanted, opened.shard.num_samples)
            ids = opened.shard.samples(start, stop)
            self._note(opened.shard.shard_id, start, stop, ids)
            parts.append(ids)
            wanted -= stop - start
            opened.position = stop
            if stop == opened.shard.num_samples:
                self._shards.popleft()
        return np.concatenate(parts)

    def _note(self, shard: int, start: int, stop: int, ids: NDArray[np.int64]) -> None:
        seen = self._seen.get(shard)
        total = checksum(ids) + (int.from_bytes(seen.checksum, "little") if seen else 0)
        self._seen[shard] = SeenRange(
            self._dataset_id,
            self._epoch,
            shard,
            seen.start if seen else start,
            stop,
            (total % 2**64).to_bytes(8, "little"),
        )

    def _commit_if_due(self) -> None:
        if self._handed_out >= self._commit_every or not self._shards or len(self._seen) >= _RANGES_MAX:
            self._commit()

    def _commit(self) -> None:
        """Meet the other ranks at the next commit point; on a change of membership go back to the last one."""
        try:
            released = self._session.commit(list(self._seen.values()), timeout_s=self._timeout_s)
        except (GenerationChangedError, StaleGenerationError):
            self._trainer.rollback()
            self._adopt()
            return
        self._seen.clear()
        self._handed_out = 0
        self._remaining = released.remaining.get(self._dataset_id, 0)
        self._trainer.remember()

    def _begin(self) -> None:
        """Start with the adopted generation if it is still the current one."""
        session = self._session
        self._epoch = session.epoch
        if not session.generation:
            session.join(self._timeout_s)
        self._adopt(newer=False)

    def _adopt(self, *, newer: bool = True) -> None:
        """Adopt a generation, agree on the state with its other members, and take this rank's shards."""
        session = self._session
        while True:
            session.state = "RECOVERING" if newer else "LOADING_DATA"
            if newer:
                session.join(self._timeout_s)
            reply = session.get_shards(self._dataset_id)
            if reply.generation != session.generation:
                newer = True
                continue
            self._seen.clear()
            self._handed_out = 0
            self._epoch = reply.epoch
            self._remaining = reply.remaining
            self._shards = deque(
                _Open(shard, cursor)
                for shard, cursor in zip(shards_from(reply), reply.cursors, strict=True)
                if cursor < shard.num_samples
            )
            if not self._remaining:
                return
            try:
                self._trainer.on_membership(session.membership)
            except GenerationChangedError:
                newer = True
                continue
            self._trainer.remember()
            return
