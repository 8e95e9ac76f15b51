"""The snapshot that people see: every figure read from the state, none invented."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strata_zmq.protocol.messages import Status, WorkerRow

if TYPE_CHECKING:
    from .barriers import Barriers
    from .world import Session, World

__all__ = ["report"]

_ROWS_MAX = 10_000


def report(world: World, barriers: Barriers, need: int, session: Session, seq: int) -> None:
    """Answer GET_STATUS."""
    history = world.history
    skews_ms = sorted(skew * 1000 for skew in barriers.skews_s)
    world.reply(
        session,
        seq,
        Status,
        epoch=history.epoch,
        commit_index=history.commit_index,
        need=need,
        workers=[
            WorkerRow(
                worker_id=worker.worker_id,
                rank=history.ranks.get(worker.worker_id, -1),
                state=worker.state,
                step=worker.step,
                epoch=worker.epoch,
                hostname=worker.hostname,
                pid=worker.pid,
                heard_s=max(world.now - worker.heard_at, 0.0),
                gpu_count=worker.gpu_count,
                resources=worker.resources,
            )
            for worker in list(world.workers.values())[:_ROWS_MAX]
        ],
        writers=list(world.writers),
        datasets=[
            {
                "dataset_id": name,
                "total_samples": dataset.added.total_samples,
                "shard_size": dataset.added.shard_size,
                "total_shards": dataset.shards,
                "shuffle": dataset.added.shuffle,
                "remaining": dataset.remaining,
            }
            for name, dataset in history.datasets.items()
        ],
        checkpoints=list(history.checkpoints.values())[::-1],
        open_checkpoints=list(history.open_checkpoints),
        checkpoint_waits={name: list(opened.missing)[:100] for name, opened in history.open_checkpoints.items()},
        barriers=[
            {
                "name": key.name,
                "step": key.step,
                "arrived": len(barrier.arrivals),
                "total": barrier.expected,
                "missing": list(barrier.missing(history.member_ids))[:100],
                "open_s": world.now - barrier.opened_at,
            }
            for key, barrier in barriers.open.items()
        ],
        certificates=[
            {
                "dataset_id": certificate.dataset_id,
                "epoch": certificate.epoch,
                "total_samples": certificate.total_samples,
                "samples": certificate.samples,
                "checksum": str(certificate.checksum),
                "complete": certificate.complete,
            }
            for certificate in history.certificates
        ],
        rebalances=[
            {
                "generation": change.generation,
                "joined": change.joined,
                "left": change.left,
                "moved": change.moved,
                "lower_bound": change.lower_bound,
            }
            for change in history.rebalances
        ],
        counters={**world.counters, "barriers_released": history.releases},
        barrier_wait_ms={
            f"p{percent}": skews_ms[min(len(skews_ms) * percent // 100, len(skews_ms) - 1)] for percent in (50, 99)
        }
        if skews_ms
        else {},
    )
