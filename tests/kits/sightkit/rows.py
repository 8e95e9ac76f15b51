"""Rows of cores with every field filled in, but for those that a test names."""

from __future__ import annotations

from typing import Any

from strata_zmq.protocol.sight_rows import (
    CertificateSight,
    CheckpointSight,
    DatasetSight,
    EventSight,
    FunctionsSight,
    JobSight,
    LostSight,
    OpenBarrierSight,
    ReleaseSight,
    WorkerSight,
)


def job(**fields: Any) -> JobSight:
    known: dict[str, Any] = {
        "job": "digits",
        "term": 1,
        "generation": 1,
        "formed": True,
        "epoch": 0,
        "commit_index": 0,
        "started_at": 900.0,
        "version": "0.1.0",
        "lease_s": 30.0,
        "heartbeat_s": 5.0,
        "hang_s": 60.0,
        "world_size": 1,
        "need": 1,
        "have": 1,
    }
    return JobSight(**known | fields)


def worker(worker_id: str, rank: int = 0, **fields: Any) -> WorkerSight:
    known: dict[str, Any] = {
        "worker_id": worker_id,
        "incarnation": "i1",
        "rank": rank,
        "state": "TRAINING",
        "step": 1,
        "epoch": 0,
        "progress": 1,
        "task": "",
        "hostname": "host-a",
        "port": 0,
        "pid": 100 + rank,
        "run": "r",
        "registered_at": 950.0,
        "heard_at": 1000.0,
        "moved_at": 1000.0,
        "expires_at": 1030.0,
        "gpu_count": 0,
        "memory_bytes": 2**30,
        "shards": 0,
        "last_at_barriers": 0,
    }
    return WorkerSight(**known | fields)


def lost(worker_id: str, at: float = 1000.0, **fields: Any) -> LostSight:
    known: dict[str, Any] = {
        "worker_id": worker_id,
        "incarnation": "i1",
        "hostname": "host-a",
        "pid": 100,
        "lost_at": at,
        "reason": "its lease ended",
    }
    return LostSight(**known | fields)


def dataset(dataset_id: str, **fields: Any) -> DatasetSight:
    known: dict[str, Any] = {
        "dataset_id": dataset_id,
        "path": f"/data/{dataset_id}",
        "format": "raw",
        "total_samples": 1000,
        "shard_size": 100,
        "shards": 10,
        "shuffle": True,
        "seed": 42,
        "metadata": {},
        "registered_at": 940.0,
        "epoch": 0,
        "committed": 0,
        "open_shards": 0,
    }
    return DatasetSight(**known | fields)


def certificate(dataset_id: str, epoch: int) -> CertificateSight:
    return CertificateSight(
        dataset_id=dataset_id, epoch=epoch, total_samples=1000, samples=1000, checksum="1", complete=True
    )


def checkpoint(checkpoint_id: str, **fields: Any) -> CheckpointSight:
    known: dict[str, Any] = {
        "checkpoint_id": checkpoint_id,
        "step": 10,
        "epoch": 0,
        "kind": "full",
        "status": "durable",
        "world_size": 1,
        "arrived": 1,
        "staged": 1,
        "size_bytes": 10_000_000,
        "written_bytes": 10_000_000,
        "created_at": 990.0,
    }
    return CheckpointSight(**known | fields)


def open_barrier(barrier_id: str, **fields: Any) -> OpenBarrierSight:
    generation, name, step = barrier_id.split("/")
    known: dict[str, Any] = {
        "barrier_id": barrier_id,
        "name": name,
        "step": int(step),
        "generation": int(generation),
        "commit": True,
        "arrived": 1,
        "total": 2,
        "opened_at": 1000.0,
        "missing": ["w1"],
    }
    return OpenBarrierSight(**known | fields)


def release(number: int, **fields: Any) -> ReleaseSight:
    known: dict[str, Any] = {
        "number": number,
        "barrier_id": f"1/step/{number}",
        "name": "step",
        "step": number,
        "generation": 1,
        "commit": True,
        "released": True,
        "arrived": 2,
        "total": 2,
        "opened_at": 999.0,
        "ended_at": 1000.0,
        "wait_s": 0.1,
    }
    return ReleaseSight(**known | fields)


def event(number: int, **fields: Any) -> EventSight:
    known: dict[str, Any] = {"number": number, "at": 1000.0, "kind": "note", "level": "info", "text": f"event {number}"}
    return EventSight(**known | fields)


def functions(**fields: Any) -> FunctionsSight:
    totals = ("accepted", "ended", "completed", "failed", "cancelled", "requeued")
    known: dict[str, Any] = {
        "incarnation": "d1",
        "version": "0.1.0",
        "mode": "global",
        "store": "none",
        "started_at": 900.0,
        "late_results": 0,
        **dict.fromkeys(("queued", "running", "ended", "workers", "slots", "queued_bytes", "result_bytes"), 0),
        **{f"{name}_total": 0 for name in totals},
    }
    return FunctionsSight(**known | fields)
