"""Owns how a coordinator comes by a long history: workers that register datasets and pass commit points, as fast as
they can.

The data is real: each range starts where its shard was left, is sent by its owner and carries the checksum of its
samples, so that the coordinator checks and adds up what it would in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.domain.checksum import mix
from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.messages import (
    Arrive,
    DatasetRegistered,
    GetShards,
    GetStatus,
    RegisterDataset,
    Released,
    SeenRange,
    Shards,
    Status,
)

from .session import Connection, Kind, Worker, asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Extent", "check", "grow"]

_WIDTH_MAX = 3
"""Most samples that a commit point takes from one shard."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a history is: every commit point moves each shard of each dataset on once."""

    workers: int
    datasets: int
    shards: int
    commit_points: int

    @property
    def updates(self) -> int:
        """How many ranges enter the ledgers."""
        return self.datasets * self.shards * self.commit_points

    @property
    def shard_size(self) -> int:
        """Samples in a shard: no commit point finds one at its end."""
        return _WIDTH_MAX * self.commit_points

    def cursors(self, commit_points: int) -> NDArray[np.int64]:
        """Return where the shards of a dataset stand after so many commit points.

        Neighbours stand at different places, as in training: equal ones would be remembered in few bytes.
        """
        points, shards = np.arange(1, commit_points + 1), np.arange(self.shards)
        widths = 1 + (shards[:, None] + points) % _WIDTH_MAX
        cursors: NDArray[np.int64] = widths.sum(axis=1)
        return cursors

    def __str__(self) -> str:
        return (
            f"{self.workers:,} workers, {self.datasets} datasets x {self.shards:,} shards, "
            f"{self.updates:,} ledger updates"
        )


def grow(workers: Sequence[Worker[Kind]], extent: Extent) -> None:
    """Let the coordinator of `workers`, who are the members of its first generation, live through `extent`."""
    first, connections = workers[0], [worker.socket for worker in workers]
    names = [f"dataset-{number}" for number in range(extent.datasets)]
    for name in names:
        description = RegisterDataset(
            seq=1,
            session=first.session,
            dataset_id=name,
            total_samples=extent.shards * extent.shard_size,
            shard_size=extent.shard_size,
            shuffle=False,
        )
        asked(connections[:1], [description], DatasetRegistered)
    owned: list[list[tuple[str, int]]] = [[] for _ in workers]
    for name in names:
        requests = [GetShards(seq=2, session=worker.session, dataset_id=name) for worker in workers]
        for mine, reply in zip(owned, asked(connections, requests, Shards), strict=True):
            mine += [(name, shard) for shard in reply.shards]
    for point in range(1, extent.commit_points + 1):
        pieces = _pieces(extent, point)
        arrivals = [
            Arrive(
                seq=2 + point,
                session=worker.session,
                generation=worker.generation,
                name="history",
                step=point,
                commit=True,
                ranges=[SeenRange(name, 0, shard, *pieces[shard]) for name, shard in mine],
            )
            for worker, mine in zip(workers, owned, strict=True)
        ]
        replies = asked(connections, arrivals, Released)
        if any(reply.commit_index != point for reply in replies):
            raise ProtocolError(f"commit point {point} was not released as such to every worker")


def check(connection: Connection, session: int, extent: Extent) -> None:
    """Raise unless the coordinator still knows all of `extent`."""
    (status,) = asked([connection], [GetStatus(seq=1, session=session)], Status)
    left = {dataset["remaining"] for dataset in status.datasets}
    expected = extent.shards * extent.shard_size - int(extent.cursors(extent.commit_points).sum())
    known = (status.commit_index, len(status.datasets), left)
    if known != (extent.commit_points, extent.datasets, {expected}):
        raise ProtocolError(f"of {extent}, {expected} samples a dataset left, this is known: {known}")


def _pieces(extent: Extent, point: int) -> list[tuple[int, int, bytes]]:
    """Return (start, stop, checksum) of what commit point `point` takes from each shard.

    Without shuffling, sample ids are positions.
    """
    starts, stops = extent.cursors(point - 1), extent.cursors(point)
    mixed = mix(np.arange(extent.shards * extent.shard_size, dtype=np.int64))
    sums = np.zeros(mixed.size + 1, dtype=np.uint64)
    np.cumsum(mixed, out=sums[1:])
    first = np.arange(extent.shards) * extent.shard_size
    checksums = sums[first + stops] - sums[first + starts]
    packed = checksums.astype("<u8").tobytes()
    return [
        (start, stop, packed[8 * shard : 8 * shard + 8])
        for shard, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True))
    ]
