"""The simulated datasets: who owns which shards, how far the epoch is, what changes of membership moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from strata_zmq.protocol.sight_rows import CertificateSight, DatasetSight, RebalanceSight

__all__ = ["Data"]


@dataclass(slots=True)
class _Shelf:
    dataset_id: str
    path: str
    format: str
    metadata: dict[str, str]
    shard_size: int
    batch: int
    """Samples that one worker is handed in one step."""
    total: int
    committed: int = 0
    owned: dict[str, int] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        return -(-self.total // self.shard_size)


class Data:
    """Two datasets, one epoch of both."""

    def __init__(self, workers: int, random: Random, at: float) -> None:
        self._random = random
        self._at = at
        self.epoch = 1
        self.committed_samples = self.moved_shards = 0
        self._shelves = [
            _Shelf("images", "/data/images", "webdataset", {"classes": "100"}, 512, 256, 23_040 * workers),
            _Shelf("captions", "s3://corpora/captions", "parquet", {"language": "en"}, 256, 64, 5_760 * workers),
        ]

    def assign(
        self, members: Sequence[str], generation: int, at: float, joined: Sequence[str], left: Sequence[str]
    ) -> RebalanceSight | None:
        """Give all shards to `members`; returns what that moved, None for the first time."""
        moved = 0
        first = True
        for shelf in self._shelves:
            before = shelf.owned
            first = not before
            # As it is dealt in earnest: nobody owns two more than another, and who owns most keeps the larger part.
            part, larger = divmod(shelf.shards, len(members))
            order = sorted(members, key=lambda name: -before.get(name, 0))
            shares = {name: part + (place < larger) for place, name in enumerate(order)}
            shelf.owned = {name: shares[name] for name in members}
            moved += sum(max(0, count - before.get(name, 0)) for name, count in shares.items())
        if first:
            return None
        self.moved_shards += moved
        return RebalanceSight(
            generation=generation,
            at=at,
            joined=list(joined),
            left=list(left),
            joined_count=len(joined),
            left_count=len(left),
            moved=moved,
            lower_bound=moved,
        )

    def commit(self, members: int) -> tuple[int, bool]:
        """Commit one step of so many workers; returns the samples of each, and whether the epoch has ended with it."""
        samples = 0
        for shelf in self._shelves:
            taken = min(shelf.batch * members, shelf.total - shelf.committed)
            shelf.committed += taken
            self.committed_samples += taken
            samples += taken // members
        return samples, all(shelf.committed == shelf.total for shelf in self._shelves)

    def end_epoch(self) -> list[CertificateSight]:
        """Begin the next epoch; returns the certificates of the one that has ended."""
        told = [
            CertificateSight(
                dataset_id=shelf.dataset_id,
                epoch=self.epoch,
                total_samples=shelf.total,
                samples=shelf.committed,
                checksum=str(self._random.getrandbits(64)),
                complete=True,
            )
            for shelf in self._shelves
        ]
        for shelf in self._shelves:
            shelf.committed = 0
        self.epoch += 1
        return told

    def shards_of(self, worker_id: str) -> int:
        """Return how many shards a worker owns."""
        return sum(shelf.owned.get(worker_id, 0) for shelf in self._shelves)

    def rows(self) -> list[DatasetSight]:
        """Return the datasets as they are now."""
        return [
            DatasetSight(
                dataset_id=shelf.dataset_id,
                path=shelf.path,
                format=shelf.format,
                total_samples=shelf.total,
                shard_size=shelf.shard_size,
                shards=shelf.shards,
                shuffle=True,
                seed=42,
                metadata=shelf.metadata,
                registered_at=self._at,
                epoch=self.epoch,
                committed=shelf.committed,
                open_shards=-(-(shelf.total - shelf.committed) // shelf.shard_size),
                shards_by_worker=list(shelf.owned.items()),
            )
            for shelf in self._shelves
        ]
