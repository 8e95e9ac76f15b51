"""The control plane's messages: what a coordinator and its clients say to each other, typed and bounded.

Every message is one MessagePack array `[tag, job, term, generation, session, seq, ...]`. Fields are
append-only: a newer sender may add fields at the end, an older receiver ignores them. PROTOCOL.md describes each
message for other languages.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "PROTOCOL_VERSION",
    "AdvanceEpoch",
    "Arrive",
    "AwaitGeneration",
    "Broadcast",
    "CheckpointAnnounced",
    "CheckpointArrive",
    "CheckpointBegin",
    "CheckpointCommitted",
    "CheckpointDurable",
    "CheckpointFailed",
    "CheckpointOpened",
    "CheckpointSummary",
    "CheckpointTaken",
    "CommitCheckpoint",
    "DatasetRegistered",
    "Deregister",
    "Done",
    "EpochAdvanced",
    "EpochStarted",
    "ErrorReply",
    "GetShards",
    "GetStatus",
    "Heartbeat",
    "HeartbeatAck",
    "Hello",
    "LatestCheckpoint",
    "Membership",
    "MembershipChanged",
    "RankArrival",
    "RegisterDataset",
    "RegisterWorker",
    "RegisterWriter",
    "Registered",
    "Released",
    "Reply",
    "ReportLost",
    "Request",
    "Resources",
    "Role",
    "SeenRange",
    "Shards",
    "Status",
    "Tick",
    "Welcome",
    "WorkerRow",
    "WorkerState",
    "WriterInfo",
]

PROTOCOL_VERSION = 1

Count = Annotated[int, Meta(ge=0, le=2**62)]
Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
Seconds = Annotated[float, Meta(ge=0, le=86_400 * 30)]
Names = Annotated[list[Identifier], Meta(max_length=100_000)]
Metadata = Annotated[dict[Annotated[str, Meta(max_length=1024)], Text], Meta(max_length=64)]
WorkerState = Literal[
    "UNKNOWN", "INITIALIZING", "IDLE", "LOADING_DATA", "TRAINING", "CHECKPOINTING", "RECOVERING", "FAILED"
]
Role = Literal["worker", "writer", "supervisor", "client"]


class Header(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What every request and reply begins with.

    `term` counts the coordinator's lives, `generation` the memberships; a request carries those its sender believes in.
    `session` is given by WELCOME and `seq` pairs a reply with its request (0 on what nobody asked for).
    """

    job: Annotated[str, Meta(max_length=128)] = ""
    term: Count = 0
    generation: Count = 0
    session: Count = 0
    seq: Count = 0


# ---- from a client ------------------------------------------------------------------------------------------------


class Hello(Header, frozen=True, kw_only=True, tag="hello"):
    """Opens a session and offers a range of protocol versions. Answered by WELCOME."""

    proto_min: Count = PROTOCOL_VERSION
    proto_max: Count = PROTOCOL_VERSION
    features: Annotated[list[Identifier], Meta(max_length=64)] = []
    role: Role = "client"
    token: Annotated[str, Meta(max_length=256)] = ""


class RegisterWorker(Header, frozen=True, kw_only=True, tag="register_worker"):
    """Joins the membership. `incarnation` names one process life; the same one may register again after a reconnect."""

    worker_id: Annotated[str, Meta(max_length=4096)]
    incarnation: Identifier
    hostname: Text = ""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    pid: Count = 0
    boot_id: Text = ""
    gpu_count: Annotated[int, Meta(ge=0, le=1024)] = 0
    memory_bytes: Count = 0
    metadata: Metadata = {}


class AwaitGeneration(Header, frozen=True, kw_only=True, tag="await_generation"):
    """Asks for the first membership after generation `after`; parked until there is one. Answered by MEMBERSHIP."""

    after: Count = 0
    timeout_s: Seconds = 0.0


class Deregister(Header, frozen=True, kw_only=True, tag="deregister"):
    """Leaves the membership on purpose."""

    reason: Text = ""


class Resources(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What a worker uses: percentages in [0, 100 x cores], sizes in bytes, temperatures in degrees Celsius."""

    cpu_percent: float = 0.0
    memory_bytes: Count = 0
    gpu_percent: Annotated[list[float], Meta(max_length=1024)] = []
    gpu_memory_bytes: Annotated[list[Count], Meta(max_length=1024)] = []
    gpu_celsius: Annotated[list[float], Meta(max_length=1024)] = []
    disk_read_bytes: Count = 0
    disk_write_bytes: Count = 0
    network_sent_bytes: Count = 0
    network_received_bytes: Count = 0


class Heartbeat(Header, frozen=True, kw_only=True, tag="heartbeat"):
    """Renews the lease. `progress` rises when the training loop moves, so that a hung loop shows."""

    state: WorkerState = "IDLE"
    step: Count = 0
    epoch: Count = 0
    progress: Count = 0
    task: Text = ""
    resources: Resources | None = None


class SeenRange(msgspec.Struct, array_like=True, frozen=True):
    """Samples [start, stop) of one shard, as offsets within the shard, that a rank has trained on.

    `checksum` is the sum modulo 2**64 of the mixed ids of the samples that were really read.
    """

    dataset_id: Identifier
    epoch: Count
    shard: Count
    start: Count
    stop: Count
    checksum: Annotated[bytes, Meta(min_length=8, max_length=8)]


class Arrive(Header, frozen=True, kw_only=True, tag="arrive"):
    """Arrives at the barrier (generation, name, step); with `commit` the barrier is a commit point and carries cursors.

    `expected` is 0 for the whole generation. Answered by RELEASED when all have arrived.
    """

    name: Identifier
    step: Count
    expected: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    timeout_s: Seconds = 300.0
    commit: bool = False
    ranges: Annotated[list[SeenRange], Meta(max_length=512)] = []


class RegisterDataset(Header, frozen=True, kw_only=True, tag="register_dataset"):
    """Registers (dataset_id, total samples, samples per shard, shuffle, seed). The same again is harmless."""

    dataset_id: Annotated[str, Meta(max_length=4096)]
    total_samples: int
    shard_size: int
    shuffle: bool = True
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 42
    path: Annotated[str, Meta(max_length=8192)] = ""
    format: Text = ""
    metadata: Metadata = {}


class GetShards(Header, frozen=True, kw_only=True, tag="get_shards"):
    """Asks which shards a worker owns. `epoch` -1 is the current one; `worker_id` "" is the caller."""

    dataset_id: Identifier
    worker_id: Annotated[str, Meta(max_length=256)] = ""
    epoch: Annotated[int, Meta(ge=-1, le=2**62)] = -1


class AdvanceEpoch(Header, frozen=True, kw_only=True, tag="advance_epoch"):
    """Says that the caller has finished `epoch`. Answered by EPOCH_ADVANCED once all members have said so."""

    epoch: Count
    timeout_s: Seconds = 300.0


class CheckpointBegin(Header, frozen=True, kw_only=True, tag="checkpoint_begin"):
    """Opens the checkpoint of (step, generation), or joins it. Answered by CHECKPOINT_OPENED."""

    step: Count
    epoch: Count = 0
    kind: Literal["FULL", "INCREMENTAL", "OPTIMIZER_ONLY", "MODEL_ONLY"] = "FULL"
    metadata: Metadata = {}


class CheckpointArrive(Header, frozen=True, kw_only=True, tag="checkpoint_arrive"):
    """Says that every byte of this rank is durable. Answered by CHECKPOINT_DURABLE once HEAD reaches the checkpoint."""

    checkpoint_id: Identifier
    index_key: Text
    digest: Annotated[str, Meta(max_length=256)]
    size_bytes: Count


class LatestCheckpoint(Header, frozen=True, kw_only=True, tag="latest_checkpoint"):
    """Asks for committed checkpoints, newest first. Answered by CHECKPOINT_TAKEN."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1


class CheckpointSummary(msgspec.Struct, array_like=True, frozen=True):
    """One committed checkpoint; `created_at` in Unix seconds."""

    checkpoint_id: Identifier
    step: Count
    epoch: Count
    size_bytes: Count
    created_at: float
    world_size: Count = 1


class WriterInfo(msgspec.Struct, array_like=True, frozen=True):
    """Where a storage writer takes chunks: PUSH to `data_endpoint`, credits and acks on `control_endpoint`."""

    writer_id: Identifier
    incarnation: Identifier
    data_endpoint: Text
    control_endpoint: Text
    boot_id: Text = ""
    fd_path: Text = ""


class RegisterWriter(Header, frozen=True, kw_only=True, tag="register_writer"):
    """A storage writer offers itself and tells what HEAD holds, so that the coordinator can reconcile."""

    writer: WriterInfo
    pid: Count = 0
    hostname: Text = ""
    store: Text = ""
    head_term: Count = 0
    checkpoints: Annotated[list[CheckpointSummary], Meta(max_length=10_000)] = []


class CheckpointCommitted(Header, frozen=True, kw_only=True, tag="checkpoint_committed"):
    """A storage writer has advanced HEAD; `retained` lists the checkpoints that HEAD reaches now."""

    checkpoint: CheckpointSummary
    retained: Names = []


class CheckpointFailed(Header, frozen=True, kw_only=True, tag="checkpoint_failed"):
    """A rank or a storage writer gives a checkpoint up."""

    checkpoint_id: Identifier
    code: Identifier
    message: Text


class ReportLost(Header, frozen=True, kw_only=True, tag="report_lost"):
    """A supervisor saw a worker's process die. Needs the supervisor's token in HELLO."""

    worker_id: Identifier
    pid: Count
    reason: Text = ""


class GetStatus(Header, frozen=True, kw_only=True, tag="get_status"):
    """Asks for a snapshot of everything that a person would want to see."""


Request = (
    Hello
    | RegisterWorker
    | AwaitGeneration
    | Deregister
    | Heartbeat
    | Arrive
    | RegisterDataset
    | GetShards
    | AdvanceEpoch
    | CheckpointBegin
    | CheckpointArrive
    | LatestCheckpoint
    | RegisterWriter
    | CheckpointCommitted
    | CheckpointFailed
    | ReportLost
    | GetStatus
)


# ---- from the coordinator -----------------------------------------------------------------------------------------


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
    """The worker or writer is known. `need` and `have` tell of a generation that still waits for its quorum."""

    worker_id: str
    need: Count = 0
    have: Count = 0


class Membership(Header, frozen=True, kw_only=True, tag="membership"):
    """One generation: members in rank order, the caller's rank, and the point that history stands at."""

    members: list[str]
    rank: int
    epoch: Count = 0
    commit_index: Count = 0
    joined: list[str] = []
    left: list[str] = []


class Done(Header, frozen=True, kw_only=True, tag="done"):
    """The request was carried out and has nothing to say."""


class HeartbeatAck(Header, frozen=True, kw_only=True, tag="heartbeat_ack"):
    """The lease is renewed; the header carries the current generation."""

    server_time: float = 0.0
    commands: list[str] = []


class Released(Header, frozen=True, kw_only=True, tag="released"):
    """All have arrived. `participants` are in order of arrival; `commit_index` counts commit points."""

    name: str
    step: Count
    participants: list[str]
    commit_index: Count = 0
    remaining: dict[str, int] = {}


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
    """Where this checkpoint's chunks go. Every rank of a generation gets the same id for the same step."""

    checkpoint_id: str
    rank: Count
    world_size: Count
    writers: list[WriterInfo]


class CheckpointDurable(Header, frozen=True, kw_only=True, tag="checkpoint_durable"):
    """HEAD reaches the checkpoint: it survives anything that the storage survives."""

    checkpoint_id: str


class CheckpointTaken(Header, frozen=True, kw_only=True, tag="checkpoint_taken"):
    """Committed checkpoints, newest first."""

    checkpoints: list[CheckpointSummary]


class RankArrival(msgspec.Struct, array_like=True, frozen=True):
    """One rank's share of a checkpoint."""

    rank: Count
    worker_id: str
    index_key: str
    digest: str
    size_bytes: Count


class CommitCheckpoint(Header, frozen=True, kw_only=True, tag="commit_checkpoint"):
    """Tells a storage writer to write the manifest and advance HEAD under the header's term."""

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


class WorkerRow(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One worker in STATUS; `heard_s` is the age of its last message in seconds."""

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


class Status(Header, frozen=True, kw_only=True, tag="status"):
    """A snapshot. Every figure is measured; what is not known is absent."""

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
    | CommitCheckpoint
    | Status
    | ErrorReply
)


# ---- on PUB -------------------------------------------------------------------------------------------------------


class Announcement(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What every broadcast begins with; `seq` rises by one per broadcast of a term, so that a gap shows."""

    job: str = ""
    term: Count = 0
    generation: Count = 0
    seq: Count = 0


class EpochStarted(Announcement, frozen=True, kw_only=True, tag="epoch"):
    """The epoch rose."""

    epoch: Count


class MembershipChanged(Announcement, frozen=True, kw_only=True, tag="rebalance"):
    """A new generation. `moved` and `lower_bound` count the shards that changed hands, over all datasets."""

    members: list[str]
    joined: list[str] = []
    left: list[str] = []
    moved: Count = 0
    lower_bound: Count = 0


class CheckpointAnnounced(Announcement, frozen=True, kw_only=True, tag="checkpoint"):
    """A checkpoint was committed."""

    checkpoint: CheckpointSummary


class Tick(Announcement, frozen=True, kw_only=True, tag="tick"):
    """Sent every second, so that a gap shows in quiet times too. It repeats the last seq."""


Broadcast = EpochStarted | MembershipChanged | CheckpointAnnounced | Tick
