"""What clients say to the coordinator."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from strata_zmq.protocol.fields import (
    PROTOCOL_VERSION,
    CheckpointSummary,
    Command,
    Count,
    Header,
    Identifier,
    Metadata,
    Metrics,
    Names,
    Resources,
    Role,
    Seconds,
    Spent,
    Text,
    Value,
    WorkerState,
    WriterInfo,
)
from strata_zmq.protocol.sight import GetSight

__all__ = [
    "STACKS_BYTES_MAX",
    "AdvanceEpoch",
    "Arrive",
    "AwaitGeneration",
    "CheckpointArrive",
    "CheckpointBegin",
    "CheckpointCommitted",
    "CheckpointFailed",
    "CheckpointStaged",
    "Deregister",
    "GetShards",
    "GetSight",
    "GetStatus",
    "GetView",
    "Heartbeat",
    "Hello",
    "LatestCheckpoint",
    "RegisterDataset",
    "RegisterWorker",
    "RegisterWriter",
    "ReportLost",
    "ReportStacks",
    "Request",
    "Restore",
    "ResumeFrom",
    "SeenRange",
    "SendCommand",
]


STACKS_BYTES_MAX = 16 * 1024


class Hello(Header, frozen=True, kw_only=True, tag="hello"):
    """Opens a session and offers a range of protocol versions. Answered by WELCOME."""

    proto_min: Count = PROTOCOL_VERSION
    proto_max: Count = PROTOCOL_VERSION
    features: Annotated[list[Identifier], Meta(max_length=64)] = []
    role: Role = "client"
    token: Annotated[str, Meta(max_length=256)] = ""


class RegisterWorker(Header, frozen=True, kw_only=True, tag="register_worker"):
    """Joins the membership. `incarnation` names one process life; the same one may register again after a reconnect.

    `progress` is the training loop's, as in HEARTBEAT. `run` names what has started the process, and would start it
    again; the header's generation is the one that it has adopted, if any.
    """

    worker_id: Annotated[str, Meta(max_length=4096)]
    incarnation: Identifier
    hostname: Text = ""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    pid: Count = 0
    boot_id: Text = ""
    gpu_count: Annotated[int, Meta(ge=0, le=1024)] = 0
    memory_bytes: Count = 0
    metadata: Metadata = {}
    progress: Count = 0
    run: Annotated[str, Meta(max_length=256)] = ""


class AwaitGeneration(Header, frozen=True, kw_only=True, tag="await_generation"):
    """Asks for the first membership after generation `after`; parked until there is one. Answered by MEMBERSHIP."""

    after: Count = 0
    timeout_s: Seconds = 0.0


class Deregister(Header, frozen=True, kw_only=True, tag="deregister"):
    """Leaves the membership on purpose."""

    reason: Text = ""


class Heartbeat(Header, frozen=True, kw_only=True, tag="heartbeat"):
    """Renews the lease. `progress` rises when the training loop moves, so that a hung loop shows.

    `commands_seen` is the number of the last command that this process life has taken. `spent` tells where its time
    went; None: as before.
    """

    state: WorkerState = "IDLE"
    step: Count = 0
    epoch: Count = 0
    progress: Count = 0
    task: Text = ""
    resources: Resources | None = None
    commands_seen: Count = 0
    spent: Spent | None = None


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

    `expected` is 0 for the whole generation. Answered by RELEASED when all have arrived. `on_change` says what a change
    of the membership does to those who wait; `values` are reduced over all arrivals, which must name the same ones.
    """

    name: Identifier
    step: Count
    expected: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    timeout_s: Seconds = 300.0
    commit: bool = False
    ranges: Annotated[list[SeenRange], Meta(max_length=512)] = []
    on_change: Literal["break", "reform"] = "break"
    values: Annotated[list[Value], Meta(max_length=16)] = []


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
    """Opens the checkpoint of (step, generation), or joins it. Answered by CHECKPOINT_OPENED.

    `commit_index` is the commit point that the caller's state belongs to: the checkpoint's ledger has to be of the same
    one. -1: the caller keeps no history. `kind`, `metadata` and `metrics` are those of the rank that opens it.
    """

    step: Count
    epoch: Count = 0
    kind: Literal["FULL", "INCREMENTAL", "OPTIMIZER_ONLY", "MODEL_ONLY"] = "FULL"
    metadata: Metadata = {}
    commit_index: Annotated[int, Meta(ge=-1, le=2**62)] = -1
    metrics: Metrics = {}


class CheckpointStaged(Header, frozen=True, kw_only=True, tag="checkpoint_staged"):
    """Says that the caller's whole state lies in memory that a writer has in its hands: the save survives the caller.

    Answered by DONE. From here on the caller's death does not end the checkpoint while that writer may finish it.
    """

    checkpoint_id: Identifier
    writer_id: Identifier


class CheckpointArrive(Header, frozen=True, kw_only=True, tag="checkpoint_arrive"):
    """Says that every byte of this rank is durable. Answered by CHECKPOINT_DURABLE once HEAD reaches the checkpoint.

    `refs` are the other checkpoints in whose folders some of its chunks lie, `written_bytes` is what was new (-1: not
    told). A writer that has finished a dead rank's save speaks for it: with its `worker_id` and `rank`.
    """

    checkpoint_id: Identifier
    index_key: Text
    digest: Annotated[str, Meta(max_length=256)]
    size_bytes: Count
    refs: Annotated[list[Identifier], Meta(max_length=1000)] = []
    written_bytes: Annotated[int, Meta(ge=-1, le=2**62)] = -1
    worker_id: Annotated[str, Meta(max_length=256)] = ""
    rank: Annotated[int, Meta(ge=-1, le=1_000_000)] = -1


class Restore(Header, frozen=True, kw_only=True, tag="restore"):
    """Takes the data position back to a checkpoint's. `ledger` is what its manifest embeds. Answered by RESTORED.

    It is carried out only while no member remembers later history; a newcomer among others changes nothing.
    """

    checkpoint_id: Identifier
    ledger: Annotated[bytes, Meta(max_length=60_000)]


class LatestCheckpoint(Header, frozen=True, kw_only=True, tag="latest_checkpoint"):
    """Asks for committed checkpoints, newest first. Answered by CHECKPOINT_TAKEN."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1


class ResumeFrom(Header, frozen=True, kw_only=True, tag="resume_from"):
    """Asks where the caller goes on: checkpoint, step, epoch and its shards. Answered by RESUME."""


class RegisterWriter(Header, frozen=True, kw_only=True, tag="register_writer"):
    """A storage writer offers itself and tells what HEAD holds, so that the coordinator can reconcile."""

    writer: WriterInfo
    pid: Count = 0
    hostname: Text = ""
    store: Text = ""
    head_term: Count = 0
    checkpoints: Annotated[list[CheckpointSummary], Meta(max_length=10_000)] = []
    head_version: Count = 0


class CheckpointCommitted(Header, frozen=True, kw_only=True, tag="checkpoint_committed"):
    """A storage writer has advanced HEAD; `retained` lists the checkpoints that HEAD reaches now."""

    checkpoint: CheckpointSummary
    retained: Names = []
    head_version: Count = 0


class CheckpointFailed(Header, frozen=True, kw_only=True, tag="checkpoint_failed"):
    """A rank or a storage writer gives a checkpoint up. With the code `superseded` it is given up for good."""

    checkpoint_id: Identifier
    code: Identifier
    message: Text


class ReportLost(Header, frozen=True, kw_only=True, tag="report_lost"):
    """A supervisor saw a worker's process die. Needs the supervisor's token in HELLO."""

    worker_id: Identifier
    pid: Count
    reason: Text = ""


class SendCommand(Header, frozen=True, kw_only=True, tag="send_command"):
    """Asks something of workers; empty `workers` are all live ones. Needs the supervisor's token in HELLO."""

    command: Command
    workers: Names = []
    reason: Text = ""


class ReportStacks(Header, frozen=True, kw_only=True, tag="report_stacks"):
    """Tells what the caller's threads are doing, in answer to `dump_stacks`. Answered by DONE.

    `command_id` is the number of that command, 0 if it was none. The text is of at most STACKS_BYTES_MAX bytes.
    """

    text: Annotated[str, Meta(max_length=STACKS_BYTES_MAX)]
    command_id: Count = 0


class GetStatus(Header, frozen=True, kw_only=True, tag="get_status"):
    """Asks for a snapshot of everything that a person would want to see."""


class GetView(Header, frozen=True, kw_only=True, tag="get_view"):
    """Asks for the state that the broadcasts after `broadcast_seq` continue. Answered by VIEW."""


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
    | CheckpointStaged
    | CheckpointArrive
    | Restore
    | LatestCheckpoint
    | ResumeFrom
    | RegisterWriter
    | CheckpointCommitted
    | CheckpointFailed
    | ReportLost
    | SendCommand
    | GetStatus
    | GetView
    | GetSight
    | ReportStacks
)
