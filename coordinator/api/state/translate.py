"""From rows that cores show to rows that the API answers, one function a row. It keeps nothing and knows no clock.

Seconds become milliseconds, words that this version does not know become the ones that say so, and what is not known
stays null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from strata_zmq.protocol.sight_rows import (
    CertificateSight,
    CheckpointSight,
    DatasetSight,
    EventSight,
    FunctionWorkerSight,
    HangSight,
    JobSight,
    LostSight,
    OpenBarrierSight,
    RebalanceSight,
    ReleaseSight,
    SettingSight,
    StacksSight,
    WorkerSight,
)

from .feed import Origin
from .models import Release
from .ports import VaultRow
from .rows import (
    Barrier,
    Certificate,
    Checkpoint,
    CheckpointPhases,
    Dataset,
    Event,
    FunctionWorker,
    Hang,
    Job,
    LateWorker,
    Level,
    Rebalance,
    Setting,
    ShardShare,
    Usage,
    Worker,
    WorkerState,
    WorkerStatus,
)

__all__ = [
    "barrier_open",
    "barrier_release",
    "certificate",
    "checkpoint",
    "dataset",
    "event",
    "function_worker",
    "hang",
    "lost_worker",
    "millis",
    "rebalance",
    "setting",
    "timeline_release",
    "training",
    "worker",
]

_STATES: dict[str, WorkerStatus] = {
    "TRAINING": "active",
    "LOADING_DATA": "active",
    "CHECKPOINTING": "active",
    "RECOVERING": "active",
    "IDLE": "idle",
    "INITIALIZING": "idle",
    "FAILED": "failed",
    "UNKNOWN": "unknown",
}
_LEVELS = get_args(Level)
_DATE_MAX_S = 8.64e12
"""ECMA-262: a Date lies within 8.64e15 ms of 1970."""
_SOURCES = ("default", "option", "environment", "derived")


def millis(seconds: float) -> int:
    """Return Unix milliseconds; what is no date to a browser becomes the first or the last that is one."""
    return round(min(max(seconds, -_DATE_MAX_S), _DATE_MAX_S) * 1000)


def worker(row: WorkerSight, *, hanging: bool, shares: Mapping[str, float], samples_per_s: float | None) -> Worker:
    """Return a registered worker; `shares` of its last minute by phase, empty where it does not report them."""
    state = row.state if row.state in _STATES else "UNKNOWN"
    return Worker(
        id=row.worker_id,
        ip=row.hostname,
        port=row.port,
        status=_STATES[state],
        gpu_count=row.gpu_count,
        last_heartbeat=millis(row.heard_at),
        assigned_shards=row.shards,
        current_epoch=row.epoch,
        current_step=row.step,
        current_task=row.task or None,
        state=cast(WorkerState, state),
        rank=row.rank if row.rank >= 0 else None,
        pid=row.pid,
        incarnation=row.incarnation,
        progress=row.progress,
        moved_at=millis(row.moved_at),
        registered_at=millis(row.registered_at),
        lease_ends_at=millis(row.expires_at),
        memory_bytes=row.memory_bytes,
        usage=None if row.resources is None else _usage(row.resources),
        samples=None if row.spent is None else row.spent.samples,
        samples_per_s=samples_per_s,
        training_share=shares.get("training"),
        data_share=shares.get("data"),
        barrier_share=shares.get("barrier"),
        checkpoint_share=shares.get("checkpoint"),
        last_at_barriers=row.last_at_barriers,
        hanging=hanging,
        lost_reason="",
        metadata=row.metadata,
    )


def lost_worker(row: LostSight, known: WorkerSight | None) -> Worker:
    """Return a worker that was given up, with what was `known` of it before; it owns nothing any more.

    Where nothing was known, it was heard and moved last when it was given up, for all that can be said here.
    """
    return Worker(
        id=row.worker_id,
        ip=row.hostname,
        port=known.port if known else 0,
        status="failed",
        gpu_count=known.gpu_count if known else 0,
        last_heartbeat=millis(known.heard_at if known else row.lost_at),
        assigned_shards=0,
        current_epoch=known.epoch if known else 0,
        current_step=known.step if known else 0,
        current_task=None,
        state="FAILED",
        rank=None,
        pid=row.pid,
        incarnation=row.incarnation,
        progress=known.progress if known else 0,
        moved_at=millis(known.moved_at if known else row.lost_at),
        registered_at=millis(known.registered_at) if known else None,
        lease_ends_at=None,
        memory_bytes=known.memory_bytes if known else 0,
        usage=None,
        samples=known.spent.samples if known and known.spent else None,
        samples_per_s=None,
        training_share=None,
        data_share=None,
        barrier_share=None,
        checkpoint_share=None,
        last_at_barriers=known.last_at_barriers if known else 0,
        hanging=False,
        lost_reason=row.reason,
        metadata=known.metadata if known else {},
    )


def dataset(row: DatasetSight) -> Dataset:
    """Return a dataset; its name is its id."""
    return Dataset(
        id=row.dataset_id,
        name=row.dataset_id,
        total_samples=row.total_samples,
        shard_size=row.shard_size,
        shard_count=row.shards,
        format=row.format,
        shuffle=row.shuffle,
        registered_at=millis(row.registered_at),
        path=row.path,
        seed=row.seed,
        epoch=row.epoch,
        committed_samples=row.committed,
        open_shards=row.open_shards,
        shards=[ShardShare(worker_id=name, shards=count) for name, count in row.shards_by_worker],
        metadata=row.metadata,
    )


def checkpoint(row: CheckpointSight, store: VaultRow | None) -> Checkpoint:
    """Return a checkpoint, with what the `store` knows of it."""
    total = _between(row.began_at, row.durable_at)
    return Checkpoint(
        id=row.checkpoint_id,
        step=row.step,
        epoch=row.epoch,
        size=row.size_bytes,
        path=store.path if store else "",
        created_at=millis(row.created_at),
        worker_id=row.worker_id,
        status=cast(Any, row.status if row.status in ("writing", "durable", "aborted") else "writing"),
        kind=row.kind or (store.kind if store else ""),
        world_size=row.world_size,
        arrived=row.arrived,
        missing=row.missing,
        written_bytes=row.written_bytes,
        durable_at=_moment(row.durable_at),
        phases=CheckpointPhases(
            stage_s=_between(row.began_at, row.staged_at),
            drain_s=_between(row.staged_at, row.arrived_at),
            commit_s=_between(row.arrived_at, row.durable_at),
            total_s=total,
        ),
        megabytes_per_s=row.size_bytes / total / 1e6 if total else None,
        tier=store.tier if store else None,
        verified=store.verified if store else None,
        verified_at=_moment(store.verified_at) if store else None,
        reason=row.reason,
        metrics=row.metrics,
    )


def barrier_open(row: OpenBarrierSight) -> Barrier:
    """Return a barrier that somebody waits at."""
    return Barrier(
        id=row.barrier_id,
        name=row.name,
        arrived=row.arrived,
        total=row.total,
        status="waiting",
        created_at=millis(row.opened_at),
        step=row.step,
        generation=row.generation,
        commit=row.commit,
        broken=False,
        ended_at=None,
        wait_ms=None,
        skew_p50_ms=None,
        skew_p90_ms=None,
        skew_p99_ms=None,
        skew_max_ms=None,
        slowest=[],
        missing=row.missing,
    )


def barrier_release(row: ReleaseSight) -> Barrier:
    """Return a barrier that has ended."""
    lag = row.lag
    return Barrier(
        id=row.barrier_id,
        name=row.name,
        arrived=row.arrived,
        total=row.total,
        status="complete",
        created_at=millis(row.opened_at),
        step=row.step,
        generation=row.generation,
        commit=row.commit,
        broken=not row.released,
        ended_at=millis(row.ended_at),
        wait_ms=row.wait_s * 1000,
        skew_p50_ms=lag.p50_ms if lag else None,
        skew_p90_ms=lag.p90_ms if lag else None,
        skew_p99_ms=lag.p99_ms if lag else None,
        skew_max_ms=lag.max_ms if lag else None,
        slowest=_late(row),
        missing=[],
    )


def timeline_release(row: ReleaseSight) -> Release:
    """Return a barrier's end as the timeline marks it."""
    return Release(
        id=row.barrier_id,
        at=millis(row.ended_at),
        wait_ms=row.wait_s * 1000,
        skew_max_ms=row.lag.max_ms if row.lag else None,
        broken=not row.released,
        slowest=_late(row),
    )


def hang(row: HangSight, stacks: StacksSight | None) -> Hang:
    """Return a hang, with the stacks that the worker has told since it began, if it has."""
    told = stacks if stacks is not None and stacks.at >= row.since else None
    return Hang(
        worker_id=row.worker_id,
        rank=row.rank if row.rank >= 0 else None,
        where=row.where,
        since=millis(row.since),
        waiter_count=row.waiter_count,
        waiters=row.waiters,
        stacks=told.text if told else "",
        stacks_at=millis(told.at) if told else None,
    )


def rebalance(row: RebalanceSight) -> Rebalance:
    """Return what a change of membership moved."""
    return Rebalance(
        generation=row.generation,
        at=_moment(row.at),
        joined=row.joined,
        left=row.left,
        joined_count=row.joined_count,
        left_count=row.left_count,
        moved=row.moved,
        lower_bound=row.lower_bound,
    )


def certificate(row: CertificateSight) -> Certificate:
    """Return an epoch's certificate."""
    return Certificate(
        dataset_id=row.dataset_id,
        epoch=row.epoch,
        total_samples=row.total_samples,
        samples=row.samples,
        checksum=row.checksum,
        complete=row.complete,
    )


def event(row: EventSight, number: int, origin: Literal["coordinator", "dispatcher", "api"]) -> Event:
    """Return an event under the API's own number."""
    return Event(
        number=number,
        at=millis(row.at),
        kind=row.kind,
        level=cast(Level, row.level if row.level in _LEVELS else "info"),
        text=row.text,
        subject=row.subject,
        worker_id=row.worker_id,
        origin=origin,
    )


def setting(row: SettingSight, process: Origin) -> Setting:
    """Return an effective setting of one process."""
    source = row.source if row.source in _SOURCES else "derived"
    return Setting(process=process, name=row.name, value=row.value, source=cast(Any, source))


def function_worker(row: FunctionWorkerSight) -> FunctionWorker:
    """Return a worker of the function plane; its id is its session's number."""
    return FunctionWorker(
        id=str(row.session),
        worker_id=row.worker_id,
        mode=row.mode,
        python=row.python,
        slots=row.slots,
        held=row.held,
        running=row.running,
        retiring=row.retiring,
        stalled=row.stalled,
        moved_at=millis(row.moved_at),
    )


def training(row: JobSight, workers: int, *, live: bool, stoppable: bool) -> Job:
    """Return the coordinator's own run."""
    return Job(
        id=row.job,
        name=row.job,
        type="training",
        status="running" if row.formed else "pending",
        dataset_id="",
        worker_count=workers,
        config={},
        created_at=None,
        started_at=millis(row.started_at),
        ended_at=None,
        exit_code=None,
        pid=None,
        origin="coordinator",
        stoppable=stoppable and live,
        message=row.pending or row.frozen,
    )


def _usage(told: Any) -> Usage:
    return Usage(
        cpu_percent=told.cpu_percent,
        memory_bytes=told.memory_bytes,
        gpu_percent=told.gpu_percent,
        gpu_memory_bytes=told.gpu_memory_bytes,
        gpu_celsius=told.gpu_celsius,
        disk_read_bytes=told.disk_read_bytes,
        disk_write_bytes=told.disk_write_bytes,
        network_sent_bytes=told.network_sent_bytes,
        network_received_bytes=told.network_received_bytes,
    )


def _late(row: ReleaseSight) -> list[LateWorker]:
    return [LateWorker(worker_id=name, late_ms=late_s * 1000) for name, late_s in row.slowest]


def _moment(seconds: float | None) -> int | None:
    return None if seconds is None else millis(seconds)


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else max(0.0, end - begin)
