"""The loop over committed history: batches of this rank's shards, a commit point behind each, and the way back.

A batch that was handed out counts when the next commit point is released on every rank, and not before. If the
membership changes first, the batch is void: the tracked state goes back to the last commit point and the loop goes on
with the shards of the new generation, so that model and data stay one history.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np

from strata_zmq.domain.shuffle import checksum
from strata_zmq.errors import (
    GenerationChangedError,
    HistoryChangedError,
    InvalidArgumentError,
    StaleGenerationError,
)
from strata_zmq.protocol.codec import MAX_REQUEST_BYTES
from strata_zmq.protocol.messages import SeenRange

from .shards import Shard, shards_from

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from strata_zmq.feed import Batch as LoadedBatch
    from strata_zmq.feed import Loader
    from strata_zmq.protocol.messages import Membership, Shards

    from .session import WorkerSession
    from .votes import Decision

__all__ = ["Batch", "BatchStream", "Settled", "Trainer"]

Settled = Literal["committed", "void", "nothing"]
"""What became of the batch in hand: it counts; it was taken back and will come again; there was none."""

# A commit point is one message: at most this many ranges, and this many bytes for them.
_RANGES_MAX = 512
_RANGES_BYTES_MAX = MAX_REQUEST_BYTES - 4096
_RANGE_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sample ids to train on: int64 of shape (n,). An empty one asks its rank to take part in the step without data.

    `step` is the number of the commit point that will count it. With a reader, `arrays` holds the samples: read-only
    views of shared memory by name, with the batch as first axis, valid until the next batch is asked for.
    """

    dataset_id: str
    epoch: int
    step: int
    indices: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return int(self.indices.size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())

    def __getitem__(self, position: int) -> int:
        return int(self.indices[position])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Stand for the ids wherever an array is expected: `images[batch]` works with NumPy and PyTorch."""
        return np.array(self.indices, dtype=dtype, copy=copy)


class Trainer(Protocol):
    """What the loop needs of the training code's side."""

    def on_membership(self, membership: Membership) -> None:
        """Bring this rank's state in line with the others' of a new generation; HistoryChangedError if it is of another
        history and nobody has it.
        """

    def remember(self) -> None:
        """Keep the state as the one to return to."""

    def rollback(self) -> None:
        """Return to the state that was kept."""

    def stepped(self) -> None:
        """Take note of a commit point."""

    def checkpoint(self) -> None:
        """Save, as the ranks have agreed: every rank is asked behind the same commit point."""

    def drain(self) -> None:
        """Leave the job: what this rank has done is committed, and the others take its shards."""


@dataclass(slots=True)
class _Open:
    """A shard of this rank, and where in it the next batch starts."""

    shard: Shard
    position: int


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """A batch that was cut from the shards and is perhaps being read, but not handed out."""

    indices: NDArray[np.int64]
    ranges: tuple[tuple[int, int, int, int], ...]
    """(shard, start, stop, checksum) of each piece."""


class BatchStream:
    """Iterates over one dataset's current epoch; ends when the whole dataset is committed, on every rank.

    It ends earlier where the ranks have agreed to stop, behind the same commit point on each, or where this rank alone
    is drained.
    """

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
        loader: Loader | None = None,
    ) -> None:
        batch_size = _count("batch_size", batch_size, "samples")
        commit_every = _count("commit_every", commit_every, "batches")
        self._session = session
        self._trainer = trainer
        self._dataset_id = dataset_id
        self._batch_size = batch_size
        self._commit_every = commit_every
        self._every_rank = every_rank
        self._timeout_s = timeout_s
        self._loader = loader
        ranges_max = min(_RANGES_MAX, _RANGES_BYTES_MAX // (_RANGE_BYTES + len(dataset_id.encode())))
        if every_rank and commit_every > ranges_max:
            raise InvalidArgumentError(
                f"commit_every is {commit_every}: with every_rank it takes at most {ranges_max} batches, which is what "
                "one message of this dataset_id's ranges carries"
            )
        # In step with the others, each batch has an equal part of what fits. Otherwise batches are taken until half of
        # it has been used, and one may itself use the other half.
        self._ranges_max = ranges_max // commit_every if every_rank else ranges_max // 2
        self._planned: deque[_Planned] = deque()
        self._held: LoadedBatch | None = None
        self._shards: deque[_Open] = deque()
        self._seen: dict[int, SeenRange] = {}
        self._handed_out: int = 0
        self._remaining = -1
        self._epoch = 0
        self._cut_short = False
        self._at_commit_point = False
        self._void = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._cut_short:
            raise InvalidArgumentError(
                f"this loop over {self._dataset_id!r} was ended before its data by the worker's next batches() or "
                "advance_epoch(): run one loop at a time"
            )
        self._void = False
        if self._session.votes.stopped:
            if self._handed_out:
                # The others stopped without this rank, and without its batch.
                self._trainer.rollback()
            self._handed_out = self._remaining = 0
        elif self._remaining < 0:
            self._session.state = "LOADING_DATA"
            self._adopt()
        elif self._handed_out:
            self._commit_if_due()
        while self._remaining:
            batch = self._next_batch()
            if batch is not None:
                return batch
            self._commit()
        self._release()
        self._session.state = "IDLE"
        raise StopIteration

    @property
    def running(self) -> bool:
        """Whether there is, as far as is known, another commit point to come."""
        return self._remaining != 0

    def settle(self) -> Settled:
        """Commit the batch in hand now instead of at the next turn, and say what became of it.

        Asked from within `Trainer.checkpoint`, history stands where it should. A batch that was taken back stays so
        until the next one is asked for.
        """
        if self._at_commit_point:
            return "committed"
        if self._handed_out:
            self._void = not self._commit()
            return "void" if self._void else "committed"
        return "void" if self._void else "nothing"

    def close(self) -> None:
        """Commit the batch in hand, give back what was read ahead, and hand out no more."""
        self.settle()
        self._release()
        self._planned.clear()
        self._cut_short = self._remaining != 0
        self._remaining = 0

    def _next_batch(self) -> Batch | None:
        """Return the next local batch, an empty one where every rank takes every step, or None."""
        self._release()
        self._plan()
        arrays: Mapping[str, NDArray[Any]] = {}
        indices = np.empty(0, dtype=np.int64)
        if self._planned:
            self._session.state = "LOADING_DATA"
            planned = self._planned.popleft()
            indices = planned.indices
            if self._loader is not None:
                asked_at = self._session.clock()
                self._held = self._loader.receive(self._timeout_s)
                self._session.spent.waited_for_data(self._session.clock() - asked_at)
                arrays = self._held.arrays
            for piece in planned.ranges:
                self._note(*piece)
        elif not self._every_rank:
            return None
        self._handed_out += 1
        self._session.spent.handed_out(indices.size)
        self._session.state = "TRAINING"
        return Batch(self._dataset_id, self._epoch, self._session.step + 1, indices, arrays)

    def _plan(self) -> None:
        """Cut the next batch and, with a loader, have as many read ahead as it has room for."""
        while self._shards and (self._loader.room > 0 if self._loader is not None else not self._planned):
            planned = self._cut()
            if self._loader is not None:
                self._loader.submit(planned.indices)
            self._planned.append(planned)

    def _cut(self) -> _Planned:
        """Take up to a batch of samples off the shards at hand."""
        parts: list[NDArray[np.int64]] = []
        ranges: list[tuple[int, int, int, int]] = []
        wanted = self._batch_size
        # A commit point carries a bounded number of ranges, so a batch over very many tiny shards ends early.
        while wanted and self._shards and len(ranges) < self._ranges_max:
            opened = self._shards[0]
            start = opened.position
            stop = min(start + wanted, opened.shard.num_samples)
            ids = opened.shard.samples(start, stop)
            ranges.append((opened.shard.shard_id, start, stop, checksum(ids)))
            parts.append(ids)
            wanted -= stop - start
            opened.position = stop
            if stop == opened.shard.num_samples:
                self._shards.popleft()
        return _Planned(np.concatenate(parts), tuple(ranges))

    def _note(self, shard: int, start: int, stop: int, added: int) -> None:
        """Add a piece that is handed out to what the next commit point will carry."""
        seen = self._seen.get(shard)
        total = added + (int.from_bytes(seen.checksum, "little") if seen else 0)
        self._seen[shard] = SeenRange(
            self._dataset_id,
            self._epoch,
            shard,
            seen.start if seen else start,
            stop,
            (total % 2**64).to_bytes(8, "little"),
        )

    def _release(self) -> None:
        if self._held is not None:
            self._held.release()
            self._held = None

    def _commit_if_due(self) -> None:
        due = self._handed_out >= self._commit_every
        # Only a rank that is not in step with the others may come earlier: it waits for them there.
        if not (due or self._every_rank):
            due = not (self._shards or self._planned) or len(self._seen) >= self._ranges_max
        if due:
            self._commit()

    def _commit(self) -> bool:
        """Meet the other ranks at the next commit point; on a change of membership go back to the last one: False."""
        try:
            released = self._session.commit(
                list(self._seen.values()), timeout_s=self._timeout_s, values=self._session.votes.ballot()
            )
        except (GenerationChangedError, StaleGenerationError):
            self._session.state = "RECOVERING"
            self._trainer.rollback()
            self._adopt()
            if self._session.votes.stopped:
                self._end()
            return False
        self._seen.clear()
        self._handed_out = 0
        self._remaining = released.remaining.get(self._dataset_id, 0)
        self._trainer.remember()
        self._trainer.stepped()
        self._obey(self._session.votes.count(released.reduced))
        return True

    def _obey(self, decision: Decision) -> None:
        """Do what was agreed on at this commit point, and what this rank alone was told."""
        if decision.checkpoint:
            self._at_commit_point = True
            try:
                self._trainer.checkpoint()
            finally:
                self._at_commit_point = False
        if decision.stop or self._session.votes.draining:
            self._end()
        if self._session.votes.draining:
            self._trainer.drain()

    def _end(self) -> None:
        """Hand out no more, though there is more."""
        self._release()
        self._planned.clear()
        self._shards.clear()
        if self._loader is not None:
            self._loader.flush()
        self._remaining = 0

    def _adopt(self) -> None:
        """Adopt the current generation, agree on the state with its other members, and take this rank's shards."""
        session = self._session
        self._release()
        self._planned.clear()
        if self._loader is not None:
            self._loader.flush()
        while True:
            try:
                with suppress(HistoryChangedError):
                    # The trainer may bring it in line, and raises the error where it does not.
                    session.join(self._timeout_s)
                reply = session.get_shards(self._dataset_id)
                if reply.generation != session.generation:
                    continue
                self._take(reply)
                if self._remaining:
                    self._trainer.on_membership(session.membership)
                    self._trainer.remember()
            except (GenerationChangedError, StaleGenerationError):
                continue
            return

    def _take(self, reply: Shards) -> None:
        """Start from what is committed of this rank's shards."""
        self._seen.clear()
        self._handed_out = 0
        self._epoch = reply.epoch
        self._remaining = reply.remaining
        self._shards = deque(
            _Open(shard, cursor)
            for shard, cursor in zip(shards_from(reply), reply.cursors, strict=True)
            if cursor < shard.num_samples
        )


def _count(field: str, value: object, what: str) -> int:
    """Accept whole numbers of any kind, NumPy's included."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise InvalidArgumentError(f"{field} is {value!r}: it takes 1 or more {what}")
    return number
