"""What the coordinator answers, and what it asks of storage writers."""

from __future__ import annotations

import msgspec

from strata_zmq.protocol.fields import CheckpointSummary, Count, Header, Lag, Resources, RetentionRule, WriterInfo
from strata_zmq.protocol.sight import Sight

__all__ = [
    "CheckpointDurable",
    "CheckpointOpened",
    "CheckpointTaken",
    "CommitCheckpoint",
    "DatasetRegistered",
    "Done",
    "EpochAdvanced",
    "ErrorReply",
    "HangRow",
    "HeartbeatAck",
    "LostRow",
    "Membership",
    "RankArrival",
    "Registered",
    "Released",
    "Reply",
    "Restored",
    "Resume",
    "Shards",
    "Sight",
    "Status",
    "View",
    "Welcome",
    "WorkerRow",
]


class Welcome(Header, frozen=True, kw_only=True, tag="welcome"):
    """The session is open: `session` in the header, the chosen version, and what the client has to know."""

    proto: Count
    features: list[str] = []
    broadcast_endpoint: str = ""
    broadcast_seq: Count = 0
    lease_s: float = 30.0
    heartbeat_s: float = 5.0
    max_request_bytes: Count = 65_536
    server_version: str = ""


class Registered(Header, frozen=True, kw_only=True, tag="registered"):
    """The worker or writer is known. `need` and `have` tell of a generation that still waits for its quorum.

    `stopped`: the ranks of the run that this worker belongs to have agreed to stop, so it has nothing to train.
    """

    worker_id: str
    need: Count = 0
    have: Count = 0
    stopped: bool = False


class Membership(Header, frozen=True, kw_only=True, tag="membership"):
    """One generation: members in rank order, the caller's rank, and the point that history stands at.

    `lineage` tells apart commit points of one number in histories that have parted; 0 where it is not known.
    `commands_answered` is the number of the caller's latest `checkpoint` command that a commit point has answered.
    """

    members: list[str]
    rank: int
    epoch: Count = 0
    commit_index: Count = 0
    joined: list[str] = []
    left: list[str] = []
    lineage: Count = 0
    commands_answered: Count = 0


class Done(Header, frozen=True, kw_only=True, tag="done"):
    """The request was carried out and has nothing to say."""


class HeartbeatAck(Header, frozen=True, kw_only=True, tag="heartbeat_ack"):
    """The lease is renewed; the header carries the current generation.

    `commands` are numbered; `command_id` is the number of the last one. They are repeated until a heartbeat has told
    that they were seen.
    """

    server_time: float = 0.0
    commands: list[str] = []
    command_id: Count = 0


class Released(Header, frozen=True, kw_only=True, tag="released"):
    """All have arrived. `participants` are in order of arrival; `commit_index` counts commit points. Where more than
    32 arrived in one generation, their `ranks` in it may stand for their names.

    `reduced` holds the arrivals' values by name. `lag` and `slowest` (slowest first) tell who was waited for; `joined`
    and `left` who came and went while a barrier that re-forms was open.
    """

    name: str
    step: Count
    participants: list[str]
    commit_index: Count = 0
    remaining: dict[str, int] = {}
    reduced: dict[str, float] = {}
    lag: Lag | None = None
    slowest: list[str] = []
    joined: list[str] = []
    left: list[str] = []
    ranks: list[Count] = []
    lineage: Count = 0


class DatasetRegistered(Header, frozen=True, kw_only=True, tag="dataset_registered"):
    """The dataset is known (new, or the same as before)."""

    dataset_id: str
    total_shards: Count


class Shards(Header, frozen=True, kw_only=True, tag="shards"):
    """The shards that one worker owns in one epoch, with the samples already committed in each.

    `shards` ascends; `cursors` runs parallel to it. `remaining` counts the whole dataset's uncommitted samples.
    """

    dataset_id: str
    epoch: Count
    worker_id: str
    total_samples: Count
    shard_size: Count
    shuffle: bool
    seed: int
    path: str
    shards: list[int]
    cursors: list[int]
    remaining: Count = 0


class EpochAdvanced(Header, frozen=True, kw_only=True, tag="epoch_advanced"):
    """The current epoch."""

    epoch: Count


class CheckpointOpened(Header, frozen=True, kw_only=True, tag="checkpoint_opened"):
    """Where this checkpoint's chunks go. Every rank of a generation gets the same id for the same step.

    `parent` is the checkpoint whose chunks may be referred to instead of being written again: it stays while this one
    is open. "": there is none.
    """

    checkpoint_id: str
    rank: Count
    world_size: Count
    writers: list[WriterInfo]
    parent: str = ""


class CheckpointDurable(Header, frozen=True, kw_only=True, tag="checkpoint_durable"):
    """HEAD reaches the checkpoint: it survives anything that the storage survives."""

    checkpoint_id: str


class Restored(Header, frozen=True, kw_only=True, tag="restored"):
    """History stands at the checkpoint (`rewound`), or others carry a later one and the caller takes theirs."""

    rewound: bool


class Resume(Header, frozen=True, kw_only=True, tag="resume"):
    """Where the caller goes on: the newest committed checkpoint, its step, the current epoch and the caller's shards.

    `rank` is -1 and `assignments` empty while the caller is no member.
    """

    step: Count
    epoch: Count
    commit_index: Count
    rank: int
    world_size: Count
    assignments: dict[str, list[int]]
    checkpoint: CheckpointSummary | None = None


class CheckpointTaken(Header, frozen=True, kw_only=True, tag="checkpoint_taken"):
    """Committed checkpoints, newest first."""

    checkpoints: list[CheckpointSummary]


class RankArrival(msgspec.Struct, array_like=True, frozen=True):
    """One rank's share of a checkpoint. `drained`: a writer finished it after the worker's death."""

    rank: Count
    worker_id: str
    index_key: str
    digest: str
    size_bytes: Count
    refs: list[str] = []
    written_bytes: int = -1
    drained: bool = False


class CommitCheckpoint(Header, frozen=True, kw_only=True, tag="commit_checkpoint"):
    """Tells a storage writer to write the manifest and advance HEAD under the header's term.

    `pinned` are the parents of all open checkpoints: they stay, whatever `retention` says.
    """

    checkpoint_id: str
    step: Count
    epoch: Count
    kind: str
    world_size: Count
    created_at: float
    metadata: dict[str, str]
    ranks: list[RankArrival]
    ledger: bytes
    keep_count: Count
    parent: str = ""
    metrics: dict[str, float] = {}
    pinned: list[str] = []
    retention: RetentionRule = RetentionRule()


class WorkerRow(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One worker in STATUS; `heard_s` is the age of its last message in seconds, `moved_s` of its last progress."""

    worker_id: str
    rank: int
    state: str
    step: Count
    epoch: Count
    hostname: str
    pid: Count
    heard_s: float
    gpu_count: Count
    resources: Resources | None = None
    metadata: dict[str, str] = {}
    progress: Count = 0
    moved_s: float = 0.0


class HangRow(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """A worker that others wait for and whose training loop has not moved for `since_s` seconds.

    `where` names what is waited for, `waited_for_by` counts who waits.
    """

    worker_id: str
    rank: int
    since_s: float
    waited_for_by: Count
    where: str


class LostRow(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """A process life that the coordinator has given up `lost_s` seconds ago, and that has not come back since.

    Who has left is none. `reason` is a clause for people.
    """

    worker_id: str
    incarnation: str
    hostname: str
    boot_id: str
    pid: Count
    lost_s: float
    reason: str


class Status(Header, frozen=True, kw_only=True, tag="status"):
    """A snapshot. Every figure is measured; what is not known is absent. Long lists are cut short, see PROTOCOL.md."""

    epoch: Count
    commit_index: Count
    need: Count
    workers: list[WorkerRow]
    writers: list[str]
    datasets: list[dict[str, int | str | bool]]
    checkpoints: list[CheckpointSummary]
    open_checkpoints: list[str]
    barriers: list[dict[str, int | str | float | list[str]]]
    certificates: list[dict[str, int | str | bool]]
    rebalances: list[dict[str, int | str | list[str]]]
    counters: dict[str, int]
    barrier_wait_ms: dict[str, float]
    checkpoint_waits: dict[str, list[str]] = {}
    hangs: list[HangRow] = []
    frozen: str = ""
    have: Count = 0
    pending: str = ""
    lost: list[LostRow] = []
    stopped_runs: list[str] = []


class View(Header, frozen=True, kw_only=True, tag="view"):
    """What a follower of the broadcasts needs to begin, or to go on after a gap.

    It is the state after the broadcast number `broadcast_seq` of the header's term. `digest` is what TICK repeats.
    """

    broadcast_seq: Count
    epoch: Count
    commit_index: Count
    formed: bool
    members: list[str]
    checkpoints: list[CheckpointSummary]
    digest: Count


class ErrorReply(Header, frozen=True, kw_only=True, tag="error"):
    """The request failed; `code` names the class in the error tree. The connection stays open."""

    code: str
    message: str
    missing: list[str] = []
    joined: list[str] = []
    left: list[str] = []


Reply = (
    Welcome
    | Registered
    | Membership
    | Done
    | HeartbeatAck
    | Released
    | DatasetRegistered
    | Shards
    | EpochAdvanced
    | CheckpointOpened
    | CheckpointDurable
    | CheckpointTaken
    | Restored
    | Resume
    | CommitCheckpoint
    | Status
    | View
    | Sight
    | ErrorReply
)
