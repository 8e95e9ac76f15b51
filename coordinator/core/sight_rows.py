"""Rows of what a coordinator shows, made from its state as it is: every figure is read from there, none is invented.

It keeps nothing, and does not know who has been told what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from strata_zmq.domain.barrier import Barrier, BarrierKey
from strata_zmq.protocol.sight_rows import (
    CertificateSight,
    DatasetSight,
    LostSight,
    OpenBarrierSight,
    RebalanceSight,
    WorkerSight,
    WriterSight,
)

from .sight_releases import barrier_id

if TYPE_CHECKING:
    from .rendezvous import Rendezvous
    from .world import Worker, World

__all__ = [
    "NAMES_MAX",
    "Datasets",
    "certificates",
    "lost",
    "open_barrier",
    "owned_shards",
    "rebalances",
    "worker_row",
    "writers",
]

NAMES_MAX = 20
_LOST_MAX = 256
_WRITERS_MAX = 64
_OWNERS_MAX = 1000
_PAIRS_MAX = 20_000


def worker_row(world: World, worker: Worker, shards: Mapping[str, int]) -> WorkerSight:
    """Return the row of a live worker; `shards` counts by worker what each owns."""
    offset_s = world.config.wall_offset_s
    name = worker.worker_id
    return WorkerSight(
        worker_id=name,
        incarnation=worker.incarnation,
        rank=world.history.ranks.get(name, -1),
        state=worker.state,
        step=worker.step,
        epoch=worker.epoch,
        progress=worker.progress,
        task=worker.task,
        hostname=worker.hostname,
        port=worker.port,
        pid=worker.pid,
        run=worker.run,
        registered_at=worker.registered_at + offset_s,
        heard_at=worker.heard_at + offset_s,
        moved_at=worker.moved_at + offset_s,
        expires_at=worker.expires_at + offset_s,
        gpu_count=worker.gpu_count,
        memory_bytes=worker.memory_bytes,
        shards=shards.get(name, 0),
        last_at_barriers=worker.last_at_barriers,
        resources=worker.resources,
        spent=worker.spent,
        metadata=worker.metadata,
        contested=worker.contested,
    )


def writers(world: World) -> Iterator[WriterSight]:
    """Yield the rows of live storage writers."""
    offset_s = world.config.wall_offset_s
    for name, writer in islice(world.writers.items(), _WRITERS_MAX):
        yield WriterSight(
            writer_id=name,
            hostname=writer.hostname,
            pid=writer.pid,
            store=writer.store,
            heard_at=writer.session.heard_at + offset_s,
        )


def owned_shards(world: World) -> dict[str, int]:
    """Return by worker how many shards it owns, over all datasets."""
    totals: dict[tuple[str, ...], Any] = {}
    for dataset in world.history.datasets.values():
        # As a rule all datasets are dealt to the same workers.
        workers = dataset.current.workers
        totals[workers] = totals.get(workers, 0) + dataset.current.counts()
    owned: dict[str, int] = {}
    for workers, counts in totals.items():
        for name, count in zip(workers, counts.tolist(), strict=True):
            owned[name] = owned.get(name, 0) + count
    return owned


class Datasets:
    """Makes the rows of datasets. Who owns how much is counted again when it has been dealt anew."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owners: dict[str, tuple[Any, list[tuple[str, int]]]] = {}

    def rows(self) -> Iterator[DatasetSight]:
        """Yield the rows of this moment."""
        history = self._world.history
        left = _PAIRS_MAX
        for name, dataset in history.datasets.items():
            owners = self._owners_of(name, dataset.current)[:left]
            left -= len(owners)
            added = dataset.added
            yield DatasetSight(
                dataset_id=name,
                path=added.path,
                format=added.format,
                total_samples=added.total_samples,
                shard_size=added.shard_size,
                shards=dataset.shards,
                shuffle=added.shuffle,
                seed=added.seed,
                metadata=added.metadata,
                registered_at=added.at,
                epoch=history.epoch,
                committed=dataset.ledger.committed,
                open_shards=int(dataset.ledger.open_shards.sum()),
                shards_by_worker=owners,
            )

    def _owners_of(self, name: str, assignment: Any) -> list[tuple[str, int]]:
        known = self._owners.get(name)
        if known is None or known[0] is not assignment:
            counts = assignment.counts()[:_OWNERS_MAX].tolist()
            known = self._owners[name] = (assignment, list(zip(assignment.workers, counts, strict=False)))
        return known[1]


def certificates(world: World) -> Iterator[CertificateSight]:
    """Yield what committed history saw of finished epochs."""
    for one in world.history.certificates:
        yield CertificateSight(
            dataset_id=one.dataset_id,
            epoch=one.epoch,
            total_samples=one.total_samples,
            samples=one.samples,
            checksum=str(one.checksum),
            complete=one.complete,
        )


def rebalances(world: World, began_at: Mapping[int, float]) -> Iterator[RebalanceSight]:
    """Yield the latest changes of the membership; `began_at` has Unix times by generation."""
    for one in world.history.rebalances:
        yield RebalanceSight(
            generation=one.generation,
            at=began_at.get(one.generation),
            joined=one.joined[:NAMES_MAX],
            left=one.left[:NAMES_MAX],
            joined_count=len(one.joined),
            left_count=len(one.left),
            moved=one.moved,
            lower_bound=one.lower_bound,
        )


def lost(world: World, rendezvous: Rendezvous) -> Iterator[LostSight]:
    """Yield who was given up and has not come back, the latest first."""
    for worker in islice(rendezvous.lost, _LOST_MAX):
        yield LostSight(
            worker_id=worker.worker_id,
            incarnation=worker.incarnation,
            hostname=worker.hostname,
            pid=worker.pid,
            lost_at=worker.story[-1].at + world.config.wall_offset_s,
            reason=worker.end,
        )


def open_barrier(world: World, barrier: Barrier[Any], key: BarrierKey) -> OpenBarrierSight:
    """Return the row of a barrier that somebody waits at."""
    members: Sequence[str] = world.history.member_ids
    return OpenBarrierSight(
        barrier_id=barrier_id(key),
        name=key.name,
        step=key.step,
        generation=key.generation,
        commit=barrier.terms.commit,
        arrived=len(barrier.arrivals),
        total=barrier.expected,
        opened_at=barrier.opened_at + world.config.wall_offset_s,
        missing=list(islice((name for name in members if name not in barrier.arrivals), NAMES_MAX)),
    )
