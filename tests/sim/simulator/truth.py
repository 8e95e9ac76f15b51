"""What the records say, read by somebody who knows only sets and lists: the independent model that the core is held to.

A second copy of the rules on purpose: it shares no code with the core's history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from strata_zmq.coordinator.core import records
from strata_zmq.protocol.messages import SeenRange

from .faulty import require

__all__ = ["BEGINNING", "Saved", "Truth", "chain"]

BEGINNING = b""
"""The chain of a history without any commit point."""


def chain(before: bytes, generation: int, step: int, participants: list[str]) -> bytes:
    """Return what a model is after one more commit point: it tells its whole history, as real weights do."""
    return blake2b(b"%b|%d|%d|%b" % (before, generation, step, ",".join(participants).encode()), digest_size=8).digest()


@dataclass(slots=True)
class Saved:
    """Where history stood when a checkpoint began."""

    chain: bytes
    commits: int
    epoch: int
    workers: list[str]


@dataclass(slots=True)
class Truth:
    """The state after some records. Reading a record that cannot be true raises InvariantError."""

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By dataset (total samples, samples per shard)."""
    term: int = 0
    generation: int = 0
    epoch: int = 0
    commits: int = 0
    formed: bool = False
    members: list[str] = field(default_factory=list)
    lives: dict[str, str] = field(default_factory=dict)
    """By member the process life that holds its rank."""
    memberships: dict[int, list[str]] = field(default_factory=dict)
    seen: dict[str, dict[int, int]] = field(default_factory=dict)
    """By dataset and shard a bit mask of the samples committed in this epoch."""
    released: dict[tuple[int, str, int], list[str]] = field(default_factory=dict)
    outcomes: set[tuple[str, int, tuple[str, ...]]] = field(default_factory=set)
    been_at: dict[str, int] = field(default_factory=dict)
    """By member's life the last commit point of surviving history that it took part in."""
    chain: bytes = BEGINNING
    chains: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """By (generation, step) of a commit point the chain after it, also of history that was given up since."""
    ranges: dict[tuple[int, int], dict[str, list[SeenRange]]] = field(default_factory=dict)
    """By (generation, step) of a commit point what each member brought."""
    saved: dict[str, Saved] = field(default_factory=dict)
    arrived: dict[str, set[str]] = field(default_factory=dict)
    """By checkpoint the workers whose bytes are durable."""
    staged: set[tuple[str, str]] = field(default_factory=set)
    """By checkpoint and worker who has left its bytes in a writer's reach."""
    aborted: set[str] = field(default_factory=set)
    """Checkpoints that were given up, and not begun again since."""
    taken: set[str] = field(default_factory=set)
    progress: int = 0
    """Commit points and epochs that ever were."""

    def read(self, record: records.Record) -> None:
        """Move on by one record."""
        reader: Callable[[Any], None] | None = getattr(self, f"_{type(record).__name__}", None)
        if reader is not None:
            reader(record)

    def _TermStarted(self, record: records.TermStarted) -> None:  # noqa: N802 - named like the record
        require(record.term > self.term, f"term {record.term} follows {self.term}")
        self.term = record.term

    def _GenerationChanged(self, record: records.GenerationChanged) -> None:  # noqa: N802
        require(record.generation == self.generation + 1, f"generation {record.generation} follows {self.generation}")
        require(set(record.left) <= set(self.members), f"{record.left} leave, who are not all members")
        survivors = [name for name in self.members if name not in record.left]
        names = survivors + [member.worker_id for member in record.joined]
        require(len(set(names)) == len(names), f"a member twice: {names}")
        for member in record.updated:
            require(member.worker_id in survivors, f"{member.worker_id} is updated and no survivor")
            require(
                self.lives[member.worker_id] == member.incarnation, f"{member.worker_id} survives as another process"
            )
        self.generation, self.members, self.formed = record.generation, names, True
        self._keep(survivors)
        self.lives.update((member.worker_id, member.incarnation) for member in record.joined)
        self.memberships[record.generation] = names

    def _GenerationBroken(self, record: records.GenerationBroken) -> None:  # noqa: N802
        self.members = [name for name in self.members if name not in record.left]
        self._keep(self.members)
        self.formed = False

    def _keep(self, names: list[str]) -> None:
        """Who is lost is a newcomer when it comes back, whatever it remembers."""
        self.lives = {name: self.lives[name] for name in names}
        self.been_at = {life: self.been_at[life] for life in self.lives.values() if life in self.been_at}

    def _DatasetAdded(self, record: records.DatasetAdded) -> None:  # noqa: N802
        require(record.dataset_id not in self.sizes, f"dataset {record.dataset_id} is added twice")
        self.sizes[record.dataset_id] = (record.total_samples, record.shard_size)
        self.seen[record.dataset_id] = {}

    def _BarrierReleased(self, record: records.BarrierReleased) -> None:  # noqa: N802
        key = (record.generation, record.name, record.step)
        require(self.formed, f"barrier {key} is released in a broken generation")
        require(record.generation == self.generation, f"barrier {key} is released in generation {self.generation}")
        require(key not in self.released, f"barrier {key} is released twice")
        require(len(set(record.participants)) == len(record.participants), f"barrier {key} counts somebody twice")
        require(set(record.participants) <= set(self.members), f"barrier {key} counts somebody who is no member")
        self.released[key] = record.participants
        self.outcomes.add((record.name, record.step, tuple(record.participants)))
        if not record.commit:
            require(not record.ranges, f"barrier {key} is no commit point and carries ranges")
            return
        require(set(record.participants) == set(self.members), f"commit point {key} without some members")
        self.commits += 1
        self.progress += 1
        require(record.step == self.commits, f"commit point {record.step} is number {self.commits}")
        self.chain = self.chains[record.generation, record.step] = chain(
            self.chain, record.generation, record.step, record.participants
        )
        self.ranges[record.generation, record.step] = record.ranges
        self.been_at.update((self.lives[name], self.commits) for name in record.participants)
        for name, ranges in record.ranges.items():
            require(name in self.members, f"commit point {key} has ranges of {name}, who is no member")
            for one in ranges:
                self._see(key, one)

    def _see(self, key: tuple[int, str, int], one: SeenRange) -> None:
        require(one.epoch == self.epoch, f"commit point {key} counts samples of epoch {one.epoch} in {self.epoch}")
        total, shard_size = self.sizes[one.dataset_id]
        size = min(shard_size, total - one.shard * shard_size)
        require(0 <= one.start < one.stop <= size, f"commit point {key}: {one} is outside its shard")
        mask = (1 << one.stop) - (1 << one.start)
        before = self.seen[one.dataset_id].get(one.shard, 0)
        require(not before & mask, f"commit point {key}: samples of {one} count twice")
        self.seen[one.dataset_id][one.shard] = before | mask

    def committed(self, dataset_id: str) -> int:
        """Return how many samples of the present epoch are committed."""
        return sum(mask.bit_count() for mask in self.seen[dataset_id].values())

    def _EpochBegan(self, record: records.EpochBegan) -> None:  # noqa: N802
        require(record.epoch == self.epoch + 1, f"epoch {record.epoch} follows {self.epoch}")
        self.epoch = record.epoch
        self.progress += 1
        for masks in self.seen.values():
            masks.clear()

    def _CheckpointBegan(self, record: records.CheckpointBegan) -> None:  # noqa: N802
        name = record.checkpoint_id
        require(name not in self.saved or name in self.aborted, f"checkpoint {name} begins twice")
        self.aborted.discard(name)
        self.arrived.pop(name, None)
        require(record.workers == self.members, f"checkpoint {record.checkpoint_id} is of {record.workers}")
        self.saved[record.checkpoint_id] = Saved(self.chain, self.commits, self.epoch, record.workers)

    def _CheckpointAborted(self, record: records.CheckpointAborted) -> None:  # noqa: N802
        self.aborted.add(record.checkpoint_id)

    def _RankStaged(self, record: records.RankStaged) -> None:  # noqa: N802
        saved = self.saved.get(record.checkpoint_id)
        require(saved is not None and record.checkpoint_id not in self.aborted, f"{record} of nothing that is open")
        assert saved is not None
        self.staged.add((record.checkpoint_id, saved.workers[record.rank]))

    def _RankArrived(self, record: records.RankArrived) -> None:  # noqa: N802
        arrived = self.arrived.setdefault(record.checkpoint_id, set())
        require(record.arrival.worker_id not in arrived, f"{record.arrival} arrives twice at {record.checkpoint_id}")
        arrived.add(record.arrival.worker_id)
        left = (record.checkpoint_id, record.arrival.worker_id) in self.staged
        require(left or not record.arrival.drained, f"{record.arrival} is drained, and was never in a writer's reach")

    def _CheckpointTaken(self, record: records.CheckpointTaken) -> None:  # noqa: N802
        self.taken.add(record.checkpoint.checkpoint_id)

    def _CheckpointsReconciled(self, record: records.CheckpointsReconciled) -> None:  # noqa: N802
        self.taken.update(one.checkpoint_id for one in record.checkpoints)

    def _HistoryRestored(self, record: records.HistoryRestored) -> None:  # noqa: N802
        require(record.generation == self.generation + 1, f"generation {record.generation} follows {self.generation}")
        self.generation, self.epoch, self.commits = record.generation, record.epoch, record.commit_index
        self.memberships[record.generation] = list(self.members)
        self.been_at.clear()
        known = self.saved.get(record.checkpoint_id)
        self.chain = known.chain if known is not None else BEGINNING
        require(record.commit_index == (known.commits if known else 0), f"restored to commit {record.commit_index}")
        for name, masks in self.seen.items():
            masks.clear()
            ledger = record.ledgers.get(name)
            if ledger is None:
                continue
            shard = 0
            runs: list[int] = ledger["cursors"]
            for count, cursor in zip(runs[::2], runs[1::2], strict=True):
                if cursor:
                    masks.update(dict.fromkeys(range(shard, shard + count), (1 << cursor) - 1))
                shard += count
