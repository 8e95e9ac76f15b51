"""What the state routes and the live feed answer, made of the rows in `rows`. It computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .rows import (
    Alert,
    Barrier,
    BarrierStatistics,
    Certificate,
    Checkpoint,
    CheckpointPhases,
    Coordinator,
    Dataset,
    Event,
    Functions,
    FunctionTask,
    FunctionWorker,
    Goodput,
    Hang,
    Job,
    JobStatus,
    JobTemplate,
    LateWorker,
    LogLine,
    Millis,
    Phase,
    Rebalance,
    Setting,
    ShardShare,
    Usage,
    Worker,
)

__all__ = [
    "Alert",
    "Barrier",
    "BarrierStatistics",
    "Certificate",
    "Checkpoint",
    "CheckpointPhases",
    "Coordinator",
    "CreateJob",
    "CreatedJob",
    "Dashboard",
    "DashboardChanges",
    "Dataset",
    "Event",
    "FunctionTask",
    "FunctionTaskPage",
    "FunctionWorker",
    "Functions",
    "Goodput",
    "Hang",
    "History",
    "Job",
    "JobStopped",
    "JobTemplate",
    "LateWorker",
    "LiveChanges",
    "LiveSnapshot",
    "LogLine",
    "LogPage",
    "Metrics",
    "Rebalance",
    "Release",
    "Setting",
    "ShardShare",
    "StateHealth",
    "Timeline",
    "TimelineRow",
    "Usage",
    "Worker",
    "WorkerStory",
]


class StateHealth(Struct, kw_only=True):
    """Whether this process serves and is fed: `ok`, `stale` (the coordinator was heard once) or `waiting` (never)."""

    status: Literal["ok", "stale", "waiting"]
    version: str
    simulated: bool
    stale_since: Millis | None
    clients: int


class Metrics(Struct, kw_only=True):
    """Rates over the last ten seconds. `checkpoint_throughput` is in MB/s (of 10^6 bytes), `barrier_latency_p99` and
    `shard_assignment_time` in milliseconds; null where nothing of the kind has happened.
    """

    checkpoint_throughput: float | None
    coordinator_rps: float | None
    active_workers: int
    total_workers: int
    barrier_latency_p99: float | None
    shard_assignment_time: float | None
    samples_per_s: float | None
    barriers_per_s: float | None
    idle_workers: int
    failed_workers: int
    unknown_workers: int
    request_latency_p99_ms: float | None
    data_wait_p99_ms: float | None
    tasks_per_s: float | None


class CreateJob(Struct, kw_only=True, forbid_unknown_fields=True):
    """A job to start: `type` names an entry of the allow-list, `config` gives its parameters."""

    name: Annotated[str, Meta(min_length=1, max_length=80, pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    type: Annotated[str, Meta(min_length=1, max_length=128)]
    dataset_id: Annotated[str, Meta(max_length=256, pattern="^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")] = ""
    worker_count: Annotated[int, Meta(ge=1, le=1024)] = 1
    config: dict[Annotated[str, Meta(max_length=128)], str | int | float | bool] = {}


class CreatedJob(Struct, kw_only=True):
    """The job's id."""

    task_id: str


class JobStopped(Struct, kw_only=True):
    """The job's state after the request to stop it; it ends when its workers have committed what they hold."""

    task_id: str
    status: JobStatus


class LogPage(Struct, kw_only=True):
    """Lines, newest last; `before` is the number to ask with for earlier ones, null at the beginning."""

    lines: list[LogLine]
    before: int | None
    sources: list[str]


class Dashboard(Struct, kw_only=True):
    """The full state in one call; `number` and `life` are where the live feed continues it."""

    coordinator: Coordinator
    workers: list[Worker]
    datasets: list[Dataset]
    checkpoints: list[Checkpoint]
    barriers: list[Barrier]
    metrics: Metrics
    tasks: list[Job]
    logs: list[LogLine]
    life: str
    number: int
    at: Millis
    goodput: Goodput
    alerts: list[Alert]
    barrier_statistics: BarrierStatistics
    hangs: list[Hang]
    rebalances: list[Rebalance]
    certificates: list[Certificate]
    events: list[Event]
    functions: Functions
    settings: list[Setting]
    templates: list[JobTemplate]


class DashboardChanges(Struct, kw_only=True, omit_defaults=True):
    """What is new in a dashboard. A list of rows has those that are new or different, to be put in by `id`; `gone` has
    ids by list. `alerts`, `hangs`, `rebalances`, `certificates`, `settings` and `templates` come whole where they have
    changed; `logs` and `events` are to be appended.
    """

    coordinator: Coordinator | None = None
    workers: list[Worker] = []
    datasets: list[Dataset] = []
    checkpoints: list[Checkpoint] = []
    barriers: list[Barrier] = []
    metrics: Metrics | None = None
    tasks: list[Job] = []
    logs: list[LogLine] = []
    goodput: Goodput | None = None
    alerts: list[Alert] | None = None
    barrier_statistics: BarrierStatistics | None = None
    hangs: list[Hang] | None = None
    rebalances: list[Rebalance] | None = None
    certificates: list[Certificate] | None = None
    events: list[Event] = []
    functions: Functions | None = None
    settings: list[Setting] | None = None
    templates: list[JobTemplate] | None = None
    gone: dict[str, list[str]] = {}


class LiveSnapshot(Struct, kw_only=True, tag="snapshot", tag_field="type"):
    """The first message of a live feed, and the one after a change of `life`."""

    life: str
    number: int
    state: Dashboard


class LiveChanges(Struct, kw_only=True, tag="changes", tag_field="type"):
    """The next message: `number` is one more than the last, or something was missed and the page connects anew.

    `points` are the last values of each series of `/api/history` since the message before, as [milliseconds, value].
    """

    life: str
    number: int
    at: Millis
    changes: DashboardChanges
    points: dict[str, list[tuple[int, float | None]]] = {}


class History(Struct, kw_only=True):
    """Series of equal steps of `step_s` that begin at `start`; null where nothing was measured.

    Names: samples_per_s, checkpoint_megabytes_per_s, requests_per_s, barriers_per_s, barrier_p50_ms, barrier_p99_ms,
    skew_p50_ms, skew_p99_ms, goodput_percent, active_workers, failed_workers, queued_tasks, tasks_per_s,
    task_failures_per_s.
    """

    start: Millis
    step_s: float
    series: dict[str, list[float | None]]


class Release(Struct, kw_only=True):
    """A barrier's end, as the timeline marks it."""

    id: str
    at: Millis
    wait_ms: float
    skew_max_ms: float | None
    broken: bool
    slowest: list[LateWorker]


class TimelineRow(Struct, kw_only=True):
    """One worker's time as runs of (phase, steps): the phases' numbers are their places in Timeline.phases."""

    worker_id: str
    runs: list[tuple[int, int]]


class Timeline(Struct, kw_only=True):
    """What each worker spent its time on, in steps of `step_s` from `start`; a step has the phase it mostly was in.

    Within one heartbeat's time the shares are measured, and their order is not known. `releases` are the barriers that
    ended in that time.
    """

    start: Millis
    step_s: float
    steps: int
    phases: list[Phase]
    rows: list[TimelineRow]
    releases: list[Release]
    total_workers: int


class WorkerStory(Struct, kw_only=True):
    """One worker in full: its row, its events, its stacks where it was asked for them, its shards by dataset."""

    worker: Worker
    events: list[Event]
    stacks: str
    stacks_at: Millis | None
    shards: dict[str, int]
    logs: list[LogLine]


class FunctionTaskPage(Struct, kw_only=True):
    """Some tasks in the order of their acceptance; `next` is the `after` of the next page."""

    tasks: list[FunctionTask]
    next: str | None
