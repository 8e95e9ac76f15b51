"""What the durable state is made of: datasets, open checkpoints, outcomes, commands.

Each keeps its own rule; none knows the others, or what has happened before (`history.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from strata_zmq.domain.barrier import BarrierKey
from strata_zmq.domain.ledger import EpochLedger
from strata_zmq.domain.lineage import UNKNOWN
from strata_zmq.domain.sharding import Assignment, assign, reassign
from strata_zmq.domain.shuffle import num_shards
from strata_zmq.protocol.messages import RankArrival

from .records import CheckpointBegan, DatasetAdded, RankStaged

__all__ = [
    "Certificate",
    "CommandQueue",
    "DatasetHistory",
    "OpenCheckpoint",
    "Outcome",
    "Rebalance",
]


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """How a barrier ended, kept so that whoever missed the reply can ask again. `asked` is as in BarrierReleased."""

    participants: list[str]
    commit_index: int
    generation: int = 0
    reduced: dict[str, float] = {}
    asked: dict[str, int] = {}
    joined: list[str] = []
    left: list[str] = []
    lineage: int = UNKNOWN

    def answers(self, worker_id: str, key: BarrierKey) -> bool:
        """Whether this is what became of the worker's arrival at `key`.

        Who arrived in an earlier generation and uses the key in a later one means a barrier that is still to come.
        """
        return self.asked.get(worker_id, self.generation or key.generation) == key.generation


class Rebalance(msgspec.Struct, array_like=True, frozen=True):
    """What one change of membership moved, over all datasets."""

    generation: int
    joined: list[str]
    left: list[str]
    moved: int
    lower_bound: int


class Certificate(msgspec.Struct, array_like=True, frozen=True):
    """What committed history saw of one dataset in one finished epoch. `checksum` sums the mixed sample ids."""

    dataset_id: str
    epoch: int
    total_samples: int
    samples: int
    checksum: int
    complete: bool


class CommandQueue(msgspec.Struct, array_like=True):
    """The latest commands to one process life, numbered without gaps up to `last`."""

    incarnation: str
    last: int
    commands: list[str]
    answered: int = 0
    """The last number when a commit point answered `checkpoint` commands: who has one up to it has nothing to do."""

    def after(self, seen: int) -> list[str]:
        """Return the commands with numbers above `seen`; "" stands for one that nobody has to carry out any more."""
        waiting = min(self.last - seen, len(self.commands))
        return self.commands[-waiting:] if waiting > 0 else []

    def answer(self, command: str) -> None:
        """Let its worker off a command; the others keep their numbers."""
        self.commands = ["" if one == command else one for one in self.commands]
        self.answered = self.last


class _CommitIndex(msgspec.Struct):
    commit_index: int


class OpenCheckpoint(msgspec.Struct):
    """A checkpoint that is on its way: who takes part, in rank order, who has arrived, and whose save a writer could
    finish.
    """

    began: CheckpointBegan
    arrivals: dict[int, RankArrival]
    staged: dict[int, RankStaged] = {}

    @property
    def commit_index(self) -> int:
        """The commit point that its ledger is of."""
        return msgspec.json.decode(self.began.ledger, type=_CommitIndex).commit_index

    @property
    def kind(self) -> str:
        """What is saved; a full state some chunks of which lie in another checkpoint's folder is incremental."""
        refers = any(arrival.refs for arrival in self.arrivals.values())
        return "INCREMENTAL" if refers and self.began.kind == "FULL" else self.began.kind

    @property
    def missing(self) -> tuple[str, ...]:
        """The workers whose bytes are not durable yet."""
        return tuple(worker for rank, worker in enumerate(self.began.workers) if rank not in self.arrivals)

    @property
    def complete(self) -> bool:
        """Whether every rank's bytes are durable."""
        return len(self.arrivals) == len(self.began.workers)


class DatasetHistory:
    """One dataset: its description, who owns what, and the current epoch's ledger.

    `home` is the assignment of all shards, a function of the seed and the ordered membership log. An epoch begins with
    it; within the epoch `current` moves only shards that are still open.
    """

    def __init__(self, added: DatasetAdded, members: tuple[str, ...]) -> None:
        self.added = added
        self.shards = num_shards(added.total_samples, added.shard_size)
        self.home = assign(self.shards, members, seed=added.seed)
        self.current = self.home
        self.ledger = EpochLedger(added.total_samples, added.shard_size)

    def begin_epoch(self) -> None:
        """Start a fresh ledger from the home assignment."""
        self.current = self.home
        self.ledger = EpochLedger(self.added.total_samples, self.added.shard_size)

    def certificate(self, epoch: int) -> Certificate:
        """Return what committed history has seen so far of `epoch`, the current one."""
        seen = self.ledger.certificate()
        return Certificate(
            dataset_id=self.added.dataset_id,
            epoch=epoch,
            total_samples=seen.total_samples,
            samples=seen.samples,
            checksum=seen.checksum,
            complete=self.ledger.complete,
        )

    @property
    def remaining(self) -> int:
        """Samples of this epoch that are not committed yet."""
        return self.added.total_samples - self.ledger.committed

    def rebalance(self, members: tuple[str, ...]) -> tuple[int, int]:
        """Deal the open shards to `members`; returns (moved, lower bound) within this epoch."""
        self.home, _ = reassign(self.home, members, seed=self.added.seed)
        self.current, movement = reassign(
            self.current, members, seed=self.added.seed, open_shards=self.ledger.open_shards
        )
        return movement.moved, movement.lower_bound

    def to_state(self) -> list[Any]:
        """Return plain values for a snapshot."""
        return [msgspec.to_builtins(self.added), *map(_pack, (self.home, self.current)), self.ledger.to_state()]

    @classmethod
    def from_state(cls, state: list[Any]) -> DatasetHistory:
        """Build from a snapshot's values."""
        added, home, current, ledger = state
        self = cls(msgspec.convert(added, DatasetAdded), ())
        self.home, self.current = _unpack(home), _unpack(current)
        self.ledger = EpochLedger.from_state(ledger)
        return self


def _pack(assignment: Assignment) -> list[Any]:
    return [list(assignment.workers), assignment.owners.astype("<i4").tobytes()]


def _unpack(packed: list[Any]) -> Assignment:
    workers, owners = packed
    return Assignment(tuple(workers), np.frombuffer(owners, dtype="<i4").astype(np.int32))
