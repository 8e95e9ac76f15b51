"""Which samples a range stands for and what their checksum is, worked out once for each epoch of a dataset."""

from __future__ import annotations

import numpy as np

from strata_zmq.domain.checksum import mix
from strata_zmq.domain.shuffle import sample_ids
from strata_zmq.protocol.messages import SeenRange

from .plan import Dataset

__all__ = ["Samples"]


class Samples:
    """The datasets of a run."""

    def __init__(self, datasets: tuple[Dataset, ...]) -> None:
        self._datasets = {dataset.dataset_id: dataset for dataset in datasets}
        self._sums: dict[tuple[str, int], list[int]] = {}

    def size(self, dataset_id: str, shard: int) -> int:
        """Return how many samples a shard has."""
        dataset = self._datasets[dataset_id]
        return min(dataset.shard_size, dataset.total - shard * dataset.shard_size)

    def seen(self, dataset_id: str, epoch: int, shard: int, start: int, stop: int) -> SeenRange:
        """Return the range [start, stop) of a shard, with the checksum of what reading it gives."""
        dataset = self._datasets[dataset_id]
        sums = self._sums.get((dataset_id, epoch))
        if sums is None:
            ids = sample_ids(0, dataset.total, dataset.total, shuffle=dataset.shuffle, seed=dataset.seed, epoch=epoch)
            sums = self._sums[dataset_id, epoch] = [0, *np.cumsum(mix(ids)).tolist()]
        first = shard * dataset.shard_size
        total = (sums[first + stop] - sums[first + start]) % 2**64
        return SeenRange(dataset_id, epoch, shard, start, stop, total.to_bytes(8, "little"))
