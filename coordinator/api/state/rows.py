"""What a dashboard is made of: one struct for each kind of row. The published names first, what goes beyond them after.

Every time is an integer of Unix milliseconds, every duration says `_s` or `_ms`, every size `_bytes`; the published
fields keep their names. A figure that is not measured is null, never 0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

__all__ = [
    "Alert",
    "Barrier",
    "BarrierStatistics",
    "Certificate",
    "Checkpoint",
    "CheckpointPhases",
    "Coordinator",
    "Dataset",
    "Event",
    "FunctionTask",
    "FunctionWorker",
    "Functions",
    "Goodput",
    "Hang",
    "Job",
    "JobStatus",
    "JobTemplate",
    "LateWorker",
    "Level",
    "LogLine",
    "Millis",
    "Phase",
    "Rebalance",
    "Setting",
    "ShardShare",
    "Usage",
    "Worker",
]

Millis = Annotated[int, Meta(description="Unix time in milliseconds.")]
WorkerStatus = Literal["active", "idle", "failed", "unknown"]
WorkerState = Literal[
    "UNKNOWN", "INITIALIZING", "IDLE", "LOADING_DATA", "TRAINING", "CHECKPOINTING", "RECOVERING", "FAILED"
]
Phase = Literal["unknown", "training", "data", "barrier", "checkpoint", "lost", "idle", "absent"]
Level = Literal["debug", "info", "warning", "error"]
JobStatus = Literal["pending", "running", "completed", "failed", "stopped"]
Source = Literal["live", "stale", "waiting"]
AlertKind = Literal[
    "coordinator_gone", "hang", "worker_lost", "checkpoint_old", "checkpoint_aborted", "barrier_slow", "goodput_low",
    "leases_frozen", "quorum_pending", "dispatcher_gone", "function_failures",
]  # fmt: skip


class Coordinator(Struct, kw_only=True):
    """The coordinator, as `/api/status` has it. `uptime` is in seconds, null while it has never been heard.

    While `connected` is false, `since` says when it was heard last, and everything else is as of then.
    """

    connected: bool
    address: str
    uptime: float | None
    version: str | None
    since: Millis | None
    source: Source
    simulated: bool
    job: str | None
    term: int | None
    generation: int | None
    formed: bool | None
    epoch: int | None
    commit_index: int | None
    world_size: int | None
    need: int | None
    have: int | None
    pending: str
    frozen: str
    lease_s: float | None
    heartbeat_s: float | None
    started_at: Millis | None
    api_version: str
    dispatcher: str | None


class Usage(Struct, kw_only=True):
    """What a worker's process uses, as its last heartbeat that told it."""

    cpu_percent: float
    memory_bytes: int
    gpu_percent: list[float]
    gpu_memory_bytes: list[int]
    gpu_celsius: list[float]
    disk_read_bytes: int
    disk_write_bytes: int
    network_sent_bytes: int
    network_received_bytes: int


class Worker(Struct, kw_only=True):
    """One worker: registered, or lost and not back (`status` failed). `ip` is the name of its host.

    Shares are of the last minute of its time, null where it does not report them.
    """

    id: str
    ip: str
    port: int
    status: WorkerStatus
    gpu_count: int
    last_heartbeat: Millis
    assigned_shards: int
    current_epoch: int
    current_step: int
    current_task: str | None
    state: WorkerState
    rank: int | None
    pid: int
    incarnation: str
    progress: int
    moved_at: Millis
    registered_at: Millis | None
    lease_ends_at: Millis | None
    memory_bytes: int
    usage: Usage | None
    samples: int | None
    samples_per_s: float | None
    training_share: float | None
    data_share: float | None
    barrier_share: float | None
    checkpoint_share: float | None
    last_at_barriers: int
    hanging: bool
    lost_reason: str
    metadata: dict[str, str]


class ShardShare(Struct, kw_only=True):
    """How many shards of a dataset one worker owns."""

    worker_id: str
    shards: int


class Dataset(Struct, kw_only=True):
    """One dataset, and how far the current epoch is."""

    id: str
    name: str
    total_samples: int
    shard_size: int
    shard_count: int
    format: str
    shuffle: bool
    registered_at: Millis
    path: str
    seed: int
    epoch: int
    committed_samples: int
    open_shards: int
    shards: list[ShardShare]
    metadata: dict[str, str]


class CheckpointPhases(Struct, kw_only=True):
    """How long a checkpoint took, in seconds: until all ranks had staged, until all bytes were durable, until HEAD
    reached it. Null where this coordinator has not seen both ends.
    """

    stage_s: float | None
    drain_s: float | None
    commit_s: float | None
    total_s: float | None


class Checkpoint(Struct, kw_only=True):
    """One checkpoint. `size` is in bytes, `path` the folder or URL of it, empty where the place is not known here.

    `worker_id` is rank 0's at the time, empty where that is not known. `verified` is null until somebody verified it.
    """

    id: str
    step: int
    epoch: int
    size: int
    path: str
    created_at: Millis
    worker_id: str
    status: Literal["writing", "durable", "aborted"]
    kind: str
    world_size: int
    arrived: int
    missing: list[str]
    written_bytes: int | None
    durable_at: Millis | None
    phases: CheckpointPhases
    megabytes_per_s: float | None
    tier: str | None
    verified: bool | None
    verified_at: Millis | None
    reason: str
    metrics: dict[str, float]


class LateWorker(Struct, kw_only=True):
    """Who came late to a barrier, and how much after the first."""

    worker_id: str
    late_ms: float


class Barrier(Struct, kw_only=True):
    """A barrier that is open (`waiting`), or one of the last that ended (`complete`, or `broken`, too)."""

    id: str
    name: str
    arrived: int
    total: int
    status: Literal["waiting", "complete"]
    created_at: Millis
    step: int
    generation: int
    commit: bool
    broken: bool
    ended_at: Millis | None
    wait_ms: float | None
    skew_p50_ms: float | None
    skew_p90_ms: float | None
    skew_p99_ms: float | None
    skew_max_ms: float | None
    slowest: list[LateWorker]
    missing: list[str]


class BarrierStatistics(Struct, kw_only=True):
    """Of the barriers that ended in the last `window_s`; `most_often_last` counts since the coordinator began."""

    window_s: float
    count: int
    wait_p50_ms: float | None
    wait_p99_ms: float | None
    skew_p50_ms: float | None
    skew_p99_ms: float | None
    most_often_last: list[ShardShare]


class Goodput(Struct, kw_only=True):
    """The share of all worker time of the last `window_s` that was spent training; null while nobody reports it.

    `measured_workers` report it, of `workers`. The shares add up to 1 with what was idle or unknown.
    """

    window_s: float
    percent: float | None
    training_share: float | None
    data_share: float | None
    barrier_share: float | None
    checkpoint_share: float | None
    lost_share: float | None
    measured_workers: int
    workers: int


class Alert(Struct, kw_only=True):
    """Something that a person should look at now; `id` is its kind and subject. docs/sight.md has each one's rule."""

    id: str
    kind: AlertKind
    level: Literal["warning", "error"]
    text: str
    way_out: str
    subject: str
    since: Millis


class Event(Struct, kw_only=True):
    """Something that happened, and why."""

    number: int
    at: Millis
    kind: str
    level: Level
    text: str
    subject: str
    worker_id: str
    origin: Literal["coordinator", "dispatcher", "api"]


class Hang(Struct, kw_only=True):
    """Who is waited for, by whom, since when, and what its threads do, where that was told."""

    worker_id: str
    rank: int | None
    where: str
    since: Millis
    waiter_count: int
    waiters: list[str]
    stacks: str
    stacks_at: Millis | None


class Rebalance(Struct, kw_only=True):
    """What one change of membership moved, against the least that it could have."""

    generation: int
    at: Millis | None
    joined: list[str]
    left: list[str]
    joined_count: int
    left_count: int
    moved: int
    lower_bound: int


class Certificate(Struct, kw_only=True):
    """What committed history saw of one finished epoch; `checksum` is decimal text."""

    dataset_id: str
    epoch: int
    total_samples: int
    samples: int
    checksum: str
    complete: bool


class Setting(Struct, kw_only=True):
    """One effective setting and where its value came from."""

    process: Literal["coordinator", "dispatcher", "api"]
    name: str
    value: str
    source: Literal["default", "option", "environment", "derived"]


class FunctionWorker(Struct, kw_only=True):
    """One worker of the function plane."""

    id: str
    worker_id: str
    mode: str
    python: str
    slots: int
    held: int
    running: int
    retiring: bool
    stalled: bool
    moved_at: Millis


class Functions(Struct, kw_only=True):
    """The function plane; null figures while no dispatcher was heard. Rates are of the last ten seconds."""

    connected: bool
    address: str
    since: Millis | None
    mode: str | None
    store: str | None
    queued: int | None
    running: int | None
    ended: int | None
    slots: int | None
    queued_bytes: int | None
    result_bytes: int | None
    accepted_total: int | None
    completed_total: int | None
    failed_total: int | None
    cancelled_total: int | None
    requeued_total: int | None
    late_results: int | None
    accepted_per_s: float | None
    completed_per_s: float | None
    failed_per_s: float | None
    workers: list[FunctionWorker]


class FunctionTask(Struct, kw_only=True):
    """One task's story, as far as the dispatcher still knows it. `task_id` is a UUID."""

    task_id: str
    status: str
    attempt: int
    submitted_at: Millis | None
    started_at: Millis | None
    ended_at: Millis | None
    worker: str
    error_type: str
    error_message: str
    traceback: str
    cause: str
    stdout: str
    stderr: str


class Job(Struct, kw_only=True):
    """One training run: the coordinator's own (`origin` coordinator), or one that was started here."""

    id: str
    name: str
    type: str
    status: JobStatus
    dataset_id: str
    worker_count: int
    config: dict[str, Any]
    created_at: Millis | None
    started_at: Millis | None
    ended_at: Millis | None
    exit_code: int | None
    pid: int | None
    origin: Literal["coordinator", "api"]
    stoppable: bool
    message: str


class JobTemplate(Struct, kw_only=True):
    """What the operator allows to be started, by `type`; `parameters` are names and what each takes."""

    type: str
    description: str
    workers_max: int
    parameters: dict[str, str]


class LogLine(Struct, kw_only=True):
    """One line of a process's log, or an event. `source` is the process: coordinator, worker-0, writer-0, api."""

    number: int
    timestamp: Millis
    level: Level
    source: str
    message: str
    fields: dict[str, Any]
