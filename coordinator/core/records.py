"""What the journal keeps: every decision that must outlive the process, as one typed record each.

The durable state is nothing but these records applied in order (`history.py`), live and after a restart alike.
Fields are append-only, as on the wire.
"""

from __future__ import annotations

from typing import Any

import msgspec

from strata_zmq.protocol.messages import CheckpointSummary, RankArrival, SeenRange

__all__ = [
    "BarrierReleased",
    "CheckpointAborted",
    "CheckpointBegan",
    "CheckpointTaken",
    "CheckpointsReconciled",
    "CommandIssued",
    "DatasetAdded",
    "EpochBegan",
    "GenerationBroken",
    "GenerationChanged",
    "GenerationFormed",
    "HistoryRestored",
    "MemberRecord",
    "RankArrived",
    "RankStaged",
    "Record",
    "TermStarted",
]


class _Record(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Base of all records."""


class TermStarted(_Record, frozen=True, kw_only=True, tag="term"):
    """The coordinator began a life; `adopted`: above the term of another journal, whose checkpoints it found."""

    term: int
    adopted: bool = False


class MemberRecord(msgspec.Struct, array_like=True, frozen=True):
    """One member of a generation: its id and the process life that holds it."""

    worker_id: str
    incarnation: str
    hostname: str
    pid: int
    gpu_count: int
    memory_bytes: int
    metadata: dict[str, str]
    since_commit: int = 0
    """The commit point at which this process joined: it remembers what came after, and nothing before."""
    run: str = ""


class GenerationChanged(_Record, frozen=True, kw_only=True, tag="change"):
    """A generation, as the difference to the members before: without `left`, with `updated` in place, then `joined`.

    `lost` are those of `left` that were given up.
    """

    generation: int
    joined: list[MemberRecord]
    left: list[str]
    updated: list[MemberRecord] = []
    lost: list[str] = []


class GenerationFormed(_Record, frozen=True, kw_only=True, tag="generation"):
    """A whole membership, in rank order: what journals of the first release hold."""

    generation: int
    members: list[MemberRecord]
    joined: list[str]
    left: list[str]


class GenerationBroken(_Record, frozen=True, kw_only=True, tag="broken"):
    """The generation lost members and too few are left to go on; `lost` as in GenerationChanged."""

    left: list[str]
    lost: list[str] = []


class DatasetAdded(_Record, frozen=True, kw_only=True, tag="dataset"):
    """A dataset was registered."""

    dataset_id: str
    total_samples: int
    shard_size: int
    shuffle: bool
    seed: int
    path: str
    format: str
    metadata: dict[str, str]
    at: float


class BarrierReleased(_Record, frozen=True, kw_only=True, tag="released"):
    """A barrier's outcome; of a commit point also every rank's ranges, keyed by worker.

    `asked` has the generation that a participant arrived in, where it was an earlier one; `joined` and `left` tell who
    came and went meanwhile.
    """

    generation: int
    name: str
    step: int
    participants: list[str]
    commit: bool
    ranges: dict[str, list[SeenRange]]
    reduced: dict[str, float] = {}
    asked: dict[str, int] = {}
    joined: list[str] = []
    left: list[str] = []


class CommandIssued(_Record, frozen=True, kw_only=True, tag="command"):
    """Something was asked of workers: (worker id, incarnation, number of the command) of each.

    `gone` are workers whose commands nobody will ask for any more.
    """

    command: str
    workers: list[tuple[str, str, int]]
    reason: str
    gone: list[str] = []


class EpochBegan(_Record, frozen=True, kw_only=True, tag="epoch"):
    """The epoch rose to `epoch`."""

    epoch: int


class CheckpointBegan(_Record, frozen=True, kw_only=True, tag="checkpoint_began"):
    """A checkpoint was opened for these workers, in rank order. `ledger` is what its manifest will embed, and `parent`
    is the newest one that was committed then, which stays while this one is open.
    """

    checkpoint_id: str
    step: int
    epoch: int
    kind: str
    metadata: dict[str, str]
    generation: int
    workers: list[str]
    created_at: float
    ledger: bytes
    metrics: dict[str, float] = {}
    parent: str = ""


class RankStaged(_Record, frozen=True, kw_only=True, tag="rank_staged"):
    """One rank's whole state lies in a writer's reach; both are named with their process lives."""

    checkpoint_id: str
    rank: int
    incarnation: str
    writer_id: str
    writer_incarnation: str


class RankArrived(_Record, frozen=True, kw_only=True, tag="rank_arrived"):
    """One rank's bytes are durable."""

    checkpoint_id: str
    arrival: RankArrival


class CheckpointTaken(_Record, frozen=True, kw_only=True, tag="checkpoint_taken"):
    """HEAD reaches the checkpoint; `retained` are the ones it reaches now."""

    checkpoint: CheckpointSummary
    retained: list[str]


class CheckpointAborted(_Record, frozen=True, kw_only=True, tag="checkpoint_aborted"):
    """The checkpoint is given up; with the code `superseded` for good, and not to be begun again."""

    checkpoint_id: str
    reason: str
    code: str = ""


class CheckpointsReconciled(_Record, frozen=True, kw_only=True, tag="checkpoints"):
    """The store said what it holds, and the store is the truth."""

    checkpoints: list[CheckpointSummary]


class HistoryRestored(_Record, frozen=True, kw_only=True, tag="restored"):
    """History went back to a checkpoint: a new generation of the same members, at the manifest's data position."""

    checkpoint_id: str
    generation: int
    epoch: int
    commit_index: int
    ledgers: dict[str, dict[str, Any]]
    lineage: int = 0


Record = (
    TermStarted
    | GenerationChanged
    | GenerationFormed
    | GenerationBroken
    | DatasetAdded
    | BarrierReleased
    | EpochBegan
    | CheckpointBegan
    | RankStaged
    | RankArrived
    | CheckpointTaken
    | CheckpointAborted
    | CheckpointsReconciled
    | HistoryRestored
    | CommandIssued
)
