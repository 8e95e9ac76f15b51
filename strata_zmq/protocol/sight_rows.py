"""What a core lets people see, as rows: one table for each kind of thing, each row with a key. It decides nothing.

A core tells a whole table once and then the rows that changed; so every row stands for itself, and its times are Unix
seconds, never ages. A figure that nobody has measured is None. Fields are append-only, as everywhere on the wire.
"""

from __future__ import annotations

import msgspec

from strata_zmq.protocol.fields import Count, Lag, Resources, Spent

__all__ = [
    "BARRIER_BOUNDS_S",
    "CHECKPOINT_BOUNDS_S",
    "FUNCTION_BOUNDS_S",
    "REQUEST_BOUNDS_S",
    "CertificateSight",
    "CheckpointSight",
    "DatasetSight",
    "EventSight",
    "FunctionWorkerSight",
    "FunctionsSight",
    "HangSight",
    "HistogramSight",
    "JobSight",
    "LostSight",
    "OpenBarrierSight",
    "RebalanceSight",
    "ReleaseSight",
    "SettingSight",
    "StacksSight",
    "WorkerSight",
    "WriterSight",
]

REQUEST_BOUNDS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
BARRIER_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
CHECKPOINT_BOUNDS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FUNCTION_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper bounds of the histograms that cores keep; each has one more bucket, without a bound."""


class _Row(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Base of all rows."""


class JobSight(_Row, frozen=True, kw_only=True):
    """The coordinator itself and what it stands at: one row, without a key.

    `need` and `have` count workers for the next generation, `pending` says why there is none now and `frozen` why no
    lease ends; both are empty otherwise. `committed_samples` and the other totals count since `started_at`.
    """

    job: str
    term: Count
    generation: Count
    formed: bool
    epoch: Count
    commit_index: Count
    started_at: float
    version: str
    lease_s: float
    heartbeat_s: float
    hang_s: float
    world_size: Count
    need: Count
    have: Count
    pending: str = ""
    frozen: str = ""
    stopped_runs: list[str] = []
    requests: Count = 0
    releases: Count = 0
    committed_samples: Count = 0
    checkpoint_bytes: Count = 0
    moved_shards: Count = 0
    counters: dict[str, int] = {}
    """Named counters of rare things: refusals by code, freezes, hangs, leases that ended."""


class WorkerSight(_Row, frozen=True, kw_only=True):
    """One registered worker; the key is `worker_id`. `rank` is -1 while it is no member.

    `heard_at` is when its last message came, `moved_at` when its training loop last moved. `last_at_barriers` counts
    the barriers that it was the last to arrive at. `expires_at` ends its lease.
    """

    worker_id: str
    incarnation: str
    rank: int
    state: str
    step: Count
    epoch: Count
    progress: Count
    task: str
    hostname: str
    port: Count
    pid: Count
    run: str
    registered_at: float
    heard_at: float
    moved_at: float
    expires_at: float
    gpu_count: Count
    memory_bytes: Count
    shards: Count
    last_at_barriers: Count
    resources: Resources | None = None
    spent: Spent | None = None
    metadata: dict[str, str] = {}
    contested: bool = False


class WriterSight(_Row, frozen=True, kw_only=True):
    """One live storage writer; the key is `writer_id`."""

    writer_id: str
    hostname: str
    pid: Count
    store: str
    heard_at: float


class DatasetSight(_Row, frozen=True, kw_only=True):
    """One dataset; the key is `dataset_id`. `committed` counts samples of `epoch` in committed history.

    `shards_by_worker` pairs worker ids with how many shards of it each owns; it is sent when ownership has changed.
    """

    dataset_id: str
    path: str
    format: str
    total_samples: Count
    shard_size: Count
    shards: Count
    shuffle: bool
    seed: int
    metadata: dict[str, str]
    registered_at: float
    epoch: Count
    committed: Count
    open_shards: Count
    shards_by_worker: list[tuple[str, int]] = []


class CertificateSight(_Row, frozen=True, kw_only=True):
    """What committed history saw of one dataset in one finished epoch; the key is both. `checksum` is a number of 64
    bits as decimal text.
    """

    dataset_id: str
    epoch: Count
    total_samples: Count
    samples: Count
    checksum: str
    complete: bool


class RebalanceSight(_Row, frozen=True, kw_only=True):
    """What one change of membership moved; the key is `generation`. Names are cut at 20, the counts are whole."""

    generation: Count
    at: float | None
    joined: list[str]
    left: list[str]
    joined_count: Count
    left_count: Count
    moved: Count
    lower_bound: Count


class CheckpointSight(_Row, frozen=True, kw_only=True):
    """One checkpoint, open or durable; the key is `checkpoint_id`.

    `status` is writing, durable or aborted (told once, then the row goes). `began_at`, `staged_at` (the last rank),
    `arrived_at` (the last rank's bytes) and `durable_at` (HEAD reaches it) are None where this life has not seen it.
    `written_bytes` is what was new in it, `worker_id` its rank 0; `kind` and `worker_id` are empty where this life has
    not seen it open.
    """

    checkpoint_id: str
    step: Count
    epoch: Count
    kind: str
    status: str
    world_size: Count
    arrived: Count
    staged: Count
    size_bytes: Count
    written_bytes: Count | None
    created_at: float
    began_at: float | None = None
    staged_at: float | None = None
    arrived_at: float | None = None
    durable_at: float | None = None
    missing: list[str] = []
    reason: str = ""
    metrics: dict[str, float] = {}
    worker_id: str = ""


class OpenBarrierSight(_Row, frozen=True, kw_only=True):
    """One barrier that somebody waits at; the key is `barrier_id`, which is GENERATION/NAME/STEP.

    `missing` names at most 20 of those who have not come.
    """

    barrier_id: str
    name: str
    step: Count
    generation: Count
    commit: bool
    arrived: Count
    total: Count
    opened_at: float
    missing: list[str]


class ReleaseSight(_Row, frozen=True, kw_only=True):
    """One barrier that was released or broken; `number` rises by one with each, so that what was left out shows.

    `wait_s` is the time from its first arrival to its end. `lag` tells how much later than the first the others came,
    and `slowest` names up to four of them, the last one first, with how late they were.
    """

    number: Count
    barrier_id: str
    name: str
    step: Count
    generation: Count
    commit: bool
    released: bool
    arrived: Count
    total: Count
    opened_at: float
    ended_at: float
    wait_s: float
    lag: Lag | None = None
    slowest: list[tuple[str, float]] = []


class HangSight(_Row, frozen=True, kw_only=True):
    """A worker that others wait for and that does not move; the key is `worker_id`. `waiters` names at most 20."""

    worker_id: str
    rank: int
    where: str
    since: float
    found_at: float
    waiter_count: Count
    waiters: list[str]


class LostSight(_Row, frozen=True, kw_only=True):
    """A worker that was given up and has not come back; the key is `worker_id`."""

    worker_id: str
    incarnation: str
    hostname: str
    pid: Count
    lost_at: float
    reason: str


class StacksSight(_Row, frozen=True, kw_only=True):
    """What one worker's threads were doing when it was asked; the key is `worker_id`, the latest answer stays."""

    worker_id: str
    incarnation: str
    at: float
    text: str


class EventSight(_Row, frozen=True, kw_only=True):
    """Something that happened, in the order of `number`, which rises by one.

    `kind` is a word of a closed list (docs/sight.md has it), `level` is info, warning or error, `text` a sentence that
    says why. `subject` is what it is of: a worker id, a checkpoint's, a dataset's, a task's; empty: the job's.
    """

    number: Count
    at: float
    kind: str
    level: str
    text: str
    subject: str = ""
    worker_id: str = ""


class HistogramSight(_Row, frozen=True, kw_only=True):
    """Durations that a core or its shell has measured since it began; the key is NAME and `label`.

    `name` is request (label: the request's tag; from reading it until all answers of its turn are sent, counted only
    while somebody looks on), assignment (of a turn that dealt shards anew), barrier, checkpoint (label: stage, drain,
    commit, total), or, of functions, wait or run. `buckets` counts the values up to each bound of that name and, last,
    those beyond.
    """

    name: str
    label: str
    count: Count
    sum_s: float
    buckets: list[Count]


class SettingSight(_Row, frozen=True, kw_only=True):
    """One effective setting of a process; the key is `name`. `source` is default, option, environment or derived.

    A secret's value is not told: `value` is "set" or "".
    """

    name: str
    value: str
    source: str


class FunctionsSight(_Row, frozen=True, kw_only=True):
    """The dispatcher itself: one row, without a key. Totals count since `started_at`."""

    incarnation: str
    version: str
    mode: str
    store: str
    started_at: float
    queued: Count
    running: Count
    ended: Count
    workers: Count
    slots: Count
    queued_bytes: Count
    result_bytes: Count
    accepted_total: Count
    ended_total: Count
    completed_total: Count
    failed_total: Count
    cancelled_total: Count
    requeued_total: Count
    late_results: Count


class FunctionWorkerSight(_Row, frozen=True, kw_only=True):
    """One worker of the function plane; the key is `session`."""

    session: Count
    worker_id: str
    mode: str
    python: str
    slots: Count
    held: Count
    running: Count
    retiring: bool
    stalled: bool
    moved_at: float
    expires_at: float | None
