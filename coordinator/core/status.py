"""The snapshot that people see: every figure read from the state, none invented, and bounded to fit one frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from strata_zmq.protocol.messages import LostRow, Status, WorkerRow
from strata_zmq.protocol.sight_tables import fitting

if TYPE_CHECKING:
    from .barriers import Barriers
    from .hangs import Hangs
    from .rendezvous import Rendezvous
    from .world import Worker, World

__all__ = ["report"]

_WORKERS_MAX = 10_000
_WORKERS_BYTES_MAX = 4 * 1024 * 1024
_LOST_BYTES_MAX = 1024 * 1024
_LISTED_MAX = 1000
_OPEN_CHECKPOINTS_MAX = 100
_NAMES_MAX = 20


def report(
    world: World, barriers: Barriers, rendezvous: Rendezvous, hangs: Hangs, recipients: list[tuple[bytes, int, int]]
) -> None:
    """Answer all GET_STATUS of a step, each given as (connection, session, seq), with one snapshot."""
    history = world.history
    skews_ms = sorted(skew * 1000 for skew in barriers.skews_s)
    checkpoints = list(history.checkpoints.values())[::-1]
    world.reply_all(
        recipients,
        Status,
        epoch=history.epoch,
        commit_index=history.commit_index,
        need=rendezvous.need,
        workers=fitting(_workers(world), _WORKERS_BYTES_MAX),
        writers=list(world.writers)[:_LISTED_MAX],
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
        checkpoints=checkpoints[:_LISTED_MAX],
        open_checkpoints=list(history.open_checkpoints)[:_OPEN_CHECKPOINTS_MAX],
        checkpoint_waits={
            name: _names(opened.missing)
            for name, opened in islice(history.open_checkpoints.items(), _OPEN_CHECKPOINTS_MAX)
        },
        barriers=[
            {
                "name": key.name,
                "step": key.step,
                "arrived": len(barrier.arrivals),
                "total": barrier.expected,
                "missing": list(
                    islice((name for name in history.member_ids if name not in barrier.arrivals), _NAMES_MAX)
                ),
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
                "joined": _names(change.joined),
                "left": _names(change.left),
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
        hangs=hangs.rows()[:_LISTED_MAX],
        frozen=world.frozen,
        have=len(world.workers),
        pending=str(rendezvous.pending or ""),
        lost=fitting(_lost(rendezvous.lost, world.now), _LOST_BYTES_MAX),
        stopped_runs=list(history.stopped_runs[:_LISTED_MAX]),
    )


def _workers(world: World) -> Iterator[WorkerRow]:
    ranks, now = world.history.ranks, world.now
    for worker in islice(world.workers.values(), _WORKERS_MAX):
        yield WorkerRow(
            worker_id=worker.worker_id,
            rank=ranks.get(worker.worker_id, -1),
            state=worker.state,
            step=worker.step,
            epoch=worker.epoch,
            hostname=worker.hostname,
            pid=worker.pid,
            heard_s=max(now - worker.heard_at, 0.0),
            gpu_count=worker.gpu_count,
            resources=worker.resources,
            metadata=worker.metadata,
            progress=worker.progress,
            moved_s=max(now - worker.moved_at, 0.0),
        )


def _lost(workers: Iterable[Worker], now: float) -> Iterator[LostRow]:
    for worker in islice(workers, _LISTED_MAX):
        yield LostRow(
            worker_id=worker.worker_id,
            incarnation=worker.incarnation,
            hostname=worker.hostname,
            boot_id=worker.boot_id,
            pid=worker.pid,
            lost_s=now - worker.story[-1].at,
            reason=worker.end,
        )


def _names(names: Sequence[str]) -> list[str]:
    return list(names[:_NAMES_MAX])
