"""The durable state: what the records say when applied in order. It decides nothing and never fails on its own records.

`apply` is the only way in, live and at replay, so that a restarted coordinator stands where the old one stood. A
snapshot is the same state as plain values.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import msgspec

from strata_zmq.domain.barrier import BarrierKey
from strata_zmq.domain.ledger import EpochLedger
from strata_zmq.domain.lineage import UNKNOWN, lineage_after
from strata_zmq.errors import SupersededError
from strata_zmq.protocol.fields import CHECKPOINT_VOTE, STOP_VOTE
from strata_zmq.protocol.messages import CheckpointSummary

from .entries import Certificate, CommandQueue, DatasetHistory, OpenCheckpoint, Outcome, Rebalance
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
    RankStaged,
    Record,
    TermStarted,
)

__all__ = ["COMMANDS_MAX", "History"]

COMMANDS_MAX = 16
"""Commands that may wait for one worker."""
OUTCOMES_MAX = 256
CERTIFICATES_MAX = 1000
REBALANCES_MAX = 100
LOST_MAX = 1000
SUPERSEDED_MAX = 256


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
        self.superseded: deque[str] = deque(maxlen=SUPERSEDED_MAX)
        """Checkpoints that were given up for good: no rank that comes late shall open them again."""
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
            RankStaged: self._stage,
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
                "superseded": list(self.superseded),
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
        self.superseded.extend(state.get("superseded", ()))
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

    def _stage(self, record: RankStaged) -> None:
        self.open_checkpoints[record.checkpoint_id].staged[record.rank] = record

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
        if record.code == SupersededError.code:
            self.superseded.append(record.checkpoint_id)

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
