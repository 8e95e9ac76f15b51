"""The durable state: what the records say when applied in order. It decides nothing and never fails on its own records.

`apply` is the only way in, live and at replay, so that a restarted coordinator stands where the old one stood. A
snapshot is the same state as plain values.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from strata_zmq.domain.barrier import BarrierKey
from strata_zmq.domain.ledger import EpochLedger
from strata_zmq.domain.lineage import UNKNOWN, lineage_after
from strata_zmq.domain.sharding import Assignment, assign, reassign
from strata_zmq.domain.shuffle import num_shards
from strata_zmq.protocol.fields import CHECKPOINT_VOTE, STOP_VOTE
from strata_zmq.protocol.messages import CheckpointSummary, RankArrival

from .records import (
    BarrierReleased,
    CheckpointAborted,
    CheckpointBegan,
    CheckpointsReconciled,
    CheckpointTaken,
    CommandIssued,
    DatasetAdded,
    EpochBegan,
    GenerationBroken,
    GenerationChanged,
    GenerationFormed,
    HistoryRestored,
    MemberRecord,
    RankArrived,
    Record,
    TermStarted,
)

__all__ = [
    "COMMANDS_MAX",
    "Certificate",
    "CommandQueue",
    "DatasetHistory",
    "History",
    "OpenCheckpoint",
    "Outcome",
    "Rebalance",
]

COMMANDS_MAX = 16
"""Commands that may wait for one worker."""
OUTCOMES_MAX = 256
CERTIFICATES_MAX = 1000
REBALANCES_MAX = 100
LOST_MAX = 1000


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
    """A checkpoint that is on its way: who takes part, in rank order, and who has arrived."""

    began: CheckpointBegan
    arrivals: dict[int, RankArrival]

    @property
    def commit_index(self) -> int:
        """The commit point that its ledger is of."""
        return msgspec.json.decode(self.began.ledger, type=_CommitIndex).commit_index

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


class History:
    """Everything a coordinator must not forget."""

    def __init__(self) -> None:
        self.term = 0
        self.first_term = 0
        """Checkpoints of lower terms belong to another journal's history, whose generations count anew."""
        self.generation = 0
        self.formed = False
        self.members = ()
        self.joined: tuple[str, ...] = ()
        self.left: tuple[str, ...] = ()
        """Who made the last difference to the membership."""
        self.lost: OrderedDict[str, MemberRecord] = OrderedDict()
        """Members that were given up and whose names nobody has taken up again, the latest last."""
        self.stopped_generation = 0
        self.stopped_runs: tuple[str, ...] = ()
        """The generation whose ranks agreed to stop last, and the runs that its members belonged to."""
        self.epoch = 0
        self.commit_index = 0
        self.lineage = UNKNOWN
        """Of the latest commit point, see `domain.lineage`."""
        self.datasets: dict[str, DatasetHistory] = {}
        self.outcomes: OrderedDict[BarrierKey, Outcome] = OrderedDict()
        self.open_checkpoints: dict[str, OpenCheckpoint] = {}
        self.checkpoints: dict[str, CheckpointSummary] = {}
        self.certificates: deque[Certificate] = deque(maxlen=CERTIFICATES_MAX)
        self.rebalances: deque[Rebalance] = deque(maxlen=REBALANCES_MAX)
        self.releases = 0
        self.commands: dict[str, CommandQueue] = {}
        self.commands_issued = 0
        """The highest number of any command."""
        self._appliers: dict[type, Callable[[Any], None]] = {
            TermStarted: self._start_term,
            GenerationChanged: self._change,
            GenerationFormed: self._form,
            GenerationBroken: self._break,
            DatasetAdded: self._add_dataset,
            BarrierReleased: self._release,
            EpochBegan: self._begin_epoch,
            CheckpointBegan: self._begin_checkpoint,
            RankArrived: self._arrive,
            CheckpointTaken: self._take,
            CheckpointAborted: self._abort,
            CheckpointsReconciled: self._reconcile,
            HistoryRestored: self._restore,
            CommandIssued: self._command,
        }

    @property
    def members(self) -> tuple[MemberRecord, ...]:
        """The members of the generation, in rank order."""
        return self._members

    @members.setter
    def members(self, members: tuple[MemberRecord, ...]) -> None:
        self._members = members
        self.ranks = {member.worker_id: rank for rank, member in enumerate(members)}
        """Rank by worker id; every arrival looks its sender up."""
        self.member_ids = tuple(self.ranks)
        """The members' ids, in rank order."""

    def apply(self, record: Record) -> None:
        """Move the state on by one record."""
        self._appliers[type(record)](record)

    def ledger_state(self) -> bytes:
        """Return the data position as a manifest embeds it: JSON, readable by people."""
        return msgspec.json.encode(
            {
                "epoch": self.epoch,
                "commit_index": self.commit_index,
                "lineage": self.lineage,
                "datasets": {
                    name: {
                        "total_samples": dataset.added.total_samples,
                        "shard_size": dataset.added.shard_size,
                        "shuffle": dataset.added.shuffle,
                        "seed": dataset.added.seed,
                        "ledger": dataset.ledger.to_state(),
                    }
                    for name, dataset in self.datasets.items()
                },
            }
        )

    def to_snapshot(self) -> bytes:
        """Return the whole state as MessagePack."""
        return msgspec.msgpack.encode(
            {
                "term": self.term,
                "first_term": self.first_term,
                "generation": self.generation,
                "formed": self.formed,
                "members": list(self.members),
                "joined": self.joined,
                "left": self.left,
                "lost": list(self.lost.values()),
                "stopped_generation": self.stopped_generation,
                "stopped_runs": self.stopped_runs,
                "epoch": self.epoch,
                "commit_index": self.commit_index,
                "lineage": self.lineage,
                "datasets": [dataset.to_state() for dataset in self.datasets.values()],
                "outcomes": [[*key, outcome] for key, outcome in self.outcomes.items()],
                "open_checkpoints": list(self.open_checkpoints.values()),
                "checkpoints": list(self.checkpoints.values()),
                "certificates": list(self.certificates),
                "rebalances": list(self.rebalances),
                "releases": self.releases,
                "commands": self.commands,
                "commands_issued": self.commands_issued,
            }
        )

    @classmethod
    def from_snapshot(cls, data: bytes) -> History:
        """Build from `to_snapshot`'s bytes."""
        state: dict[str, Any] = msgspec.msgpack.decode(data)
        self = cls()
        for name in ("term", "first_term", "generation", "formed", "epoch", "commit_index", "releases"):
            setattr(self, name, state[name])
        self.members = tuple(msgspec.convert(state["members"], list[MemberRecord]))
        self.joined, self.left = tuple(state["joined"]), tuple(state["left"])
        self.lost.update((one.worker_id, one) for one in msgspec.convert(state.get("lost", []), list[MemberRecord]))
        self.stopped_runs = tuple(state.get("stopped_runs", ()))
        for packed in state["datasets"]:
            dataset = DatasetHistory.from_state(packed)
            self.datasets[dataset.added.dataset_id] = dataset
        for generation, name, step, outcome in state["outcomes"]:
            self.outcomes[BarrierKey(generation, name, step)] = msgspec.convert(outcome, Outcome)
        for checkpoint in msgspec.convert(state["open_checkpoints"], list[OpenCheckpoint]):
            self.open_checkpoints[checkpoint.began.checkpoint_id] = checkpoint
        for summary in msgspec.convert(state["checkpoints"], list[CheckpointSummary]):
            self.checkpoints[summary.checkpoint_id] = summary
        self.certificates.extend(msgspec.convert(state["certificates"], list[Certificate]))
        self.rebalances.extend(msgspec.convert(state["rebalances"], list[Rebalance]))
        self.commands = msgspec.convert(state.get("commands", {}), dict[str, CommandQueue])
        for name in ("commands_issued", "lineage", "stopped_generation"):
            setattr(self, name, state.get(name, 0))
        return self

    def _start_term(self, record: TermStarted) -> None:
        self.term = record.term
        if record.adopted:
            self.first_term = record.term

    def _break(self, record: GenerationBroken) -> None:
        self._lose(record.lost)
        gone = set(record.left)
        self.members = tuple(member for member in self.members if member.worker_id not in gone)
        self.formed = False
        self.joined, self.left = (), tuple(record.left)

    def _add_dataset(self, record: DatasetAdded) -> None:
        self.datasets[record.dataset_id] = DatasetHistory(record, self.member_ids)

    def _begin_checkpoint(self, record: CheckpointBegan) -> None:
        self.open_checkpoints[record.checkpoint_id] = OpenCheckpoint(record, {})

    def _arrive(self, record: RankArrived) -> None:
        self.open_checkpoints[record.checkpoint_id].arrivals[record.arrival.rank] = record.arrival

    def _take(self, record: CheckpointTaken) -> None:
        name = record.checkpoint.checkpoint_id
        self.open_checkpoints.pop(name, None)
        kept = {name, *record.retained}
        self.checkpoints[name] = record.checkpoint
        self.checkpoints = {known: value for known, value in self.checkpoints.items() if known in kept}

    def _abort(self, record: CheckpointAborted) -> None:
        self.open_checkpoints.pop(record.checkpoint_id, None)

    def _reconcile(self, record: CheckpointsReconciled) -> None:
        self.checkpoints = {summary.checkpoint_id: summary for summary in record.checkpoints}
        for name in self.checkpoints:
            self.open_checkpoints.pop(name, None)

    def _restore(self, record: HistoryRestored) -> None:
        self.generation = record.generation
        self.joined = self.left = ()
        self.epoch, self.commit_index, self.lineage = record.epoch, record.commit_index, record.lineage
        self.members = tuple(
            msgspec.structs.replace(member, since_commit=record.commit_index) for member in self.members
        )
        for name, dataset in self.datasets.items():
            dataset.begin_epoch()
            if name in record.ledgers:
                dataset.ledger = EpochLedger.from_state(record.ledgers[name])
        surviving = [entry for entry in self.certificates if entry.epoch < record.epoch]
        self.certificates = deque(surviving, maxlen=CERTIFICATES_MAX)
        self.outcomes.clear()

    def _change(self, record: GenerationChanged) -> None:
        self._lose(record.lost)
        gone = set(record.left)
        updated = {member.worker_id: member for member in record.updated}
        kept = (updated.get(one.worker_id, one) for one in self.members if one.worker_id not in gone)
        joined = [member.worker_id for member in record.joined]
        self._begin_generation(record.generation, (*kept, *record.joined), joined, record.left)

    def _lose(self, names: list[str]) -> None:
        self.lost.update((name, self.members[self.ranks[name]]) for name in names)
        while len(self.lost) > LOST_MAX:
            self.lost.popitem(last=False)

    def _form(self, record: GenerationFormed) -> None:
        self._begin_generation(record.generation, tuple(record.members), record.joined, record.left)

    def _begin_generation(
        self, generation: int, members: tuple[MemberRecord, ...], joined: list[str], left: list[str]
    ) -> None:
        self.generation, self.members, self.formed = generation, members, True
        for name in joined:
            self.lost.pop(name, None)
        self.joined, self.left = tuple(joined), tuple(left)
        moves = [dataset.rebalance(self.member_ids) for dataset in self.datasets.values()]
        self.rebalances.append(
            Rebalance(
                generation=generation,
                joined=joined,
                left=left,
                moved=sum(moved for moved, _ in moves),
                lower_bound=sum(bound for _, bound in moves),
            )
        )

    def _release(self, record: BarrierReleased) -> None:
        total = 0
        for worker, ranges in record.ranges.items():
            for seen in ranges:
                checksum = int.from_bytes(seen.checksum, "little")
                total += checksum
                self.datasets[seen.dataset_id].ledger.advance(seen.shard, seen.start, seen.stop, checksum, worker)
        if record.commit:
            self.commit_index += 1
            self.lineage = lineage_after(
                self.lineage,
                term=self.term,
                generation=record.generation,
                commit_index=self.commit_index,
                checksum=total,
            )
            if record.reduced.get(STOP_VOTE):
                self.stopped_generation = record.generation
                self.stopped_runs = tuple(dict.fromkeys(member.run for member in self.members if member.run))
            if record.reduced.get(CHECKPOINT_VOTE):
                # All save behind this commit point. Who hears of the command only later would have all save again.
                for queue in self.commands.values():
                    queue.answer("checkpoint")
        self.releases += 1
        outcome = Outcome(
            record.participants,
            self.commit_index,
            record.generation,
            record.reduced,
            record.asked,
            record.joined,
            record.left,
            self.lineage,
        )
        for generation in sorted({*record.asked.values(), record.generation}):
            key = BarrierKey(generation, record.name, record.step)
            self.outcomes.pop(key, None)
            self.outcomes[key] = outcome
        while len(self.outcomes) > OUTCOMES_MAX:
            self.outcomes.popitem(last=False)

    def _command(self, record: CommandIssued) -> None:
        for name in record.gone:
            self.commands.pop(name, None)
        for name, incarnation, number in record.workers:
            queue = self.commands.get(name)
            goes_on = queue is not None and queue.incarnation == incarnation and queue.last == number - 1
            before = queue.commands if queue is not None and goes_on else []
            answered = queue.answered if queue is not None and queue.incarnation == incarnation else 0
            waiting = [*before, record.command][-COMMANDS_MAX:]
            self.commands[name] = CommandQueue(incarnation, number, waiting, answered)
            self.commands_issued = max(self.commands_issued, number)

    def _begin_epoch(self, record: EpochBegan) -> None:
        for dataset in self.datasets.values():
            self.certificates.append(dataset.certificate(self.epoch))
            dataset.begin_epoch()
        self.epoch = record.epoch


def _pack(assignment: Assignment) -> list[Any]:
    return [list(assignment.workers), assignment.owners.astype("<i4").tobytes()]


def _unpack(packed: list[Any]) -> Assignment:
    workers, owners = packed
    return Assignment(tuple(workers), np.frombuffer(owners, dtype="<i4").astype(np.int32))
