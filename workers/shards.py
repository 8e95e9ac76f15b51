"""A shard as training code sees it: which samples, in which order. It knows nothing of who else exists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from strata_zmq.domain.shuffle import num_shards, sample_ids, shard_bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from strata_zmq.protocol.messages import Shards

__all__ = ["Shard", "shards_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Positions [start_index, end_index) of one epoch's order over a dataset.

    `indices` maps them to sample ids: int64 of shape (num_samples,). Without shuffling the two are the same.
    """

    dataset_id: str
    shard_id: int
    total_shards: int
    start_index: int
    end_index: int
    epoch: int
    total_samples: int
    shuffle: bool
    seed: int
    file_paths: tuple[str, ...] = field(default=())

    @property
    def num_samples(self) -> int:
        """How many samples the shard holds."""
        return self.end_index - self.start_index

    @property
    def indices(self) -> NDArray[np.int64]:
        """The sample ids, in reading order."""
        return self.samples(0, self.num_samples)

    def samples(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the ids of the samples [start, stop) of this shard, as offsets within it."""
        return sample_ids(
            self.start_index + start,
            self.start_index + stop,
            self.total_samples,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=self.epoch,
        )

    def __len__(self) -> int:
        return self.num_samples


def make_shard(
    dataset_id: str,
    shard_id: int,
    epoch: int,
    *,
    total_samples: int,
    shard_size: int,
    shuffle: bool,
    seed: int,
    path: str,
) -> Shard:
    """Return one shard of a described dataset."""
    start, stop = shard_bounds(shard_id, shard_size, total_samples)
    return Shard(
        dataset_id=dataset_id,
        shard_id=shard_id,
        total_shards=num_shards(total_samples, shard_size),
        start_index=start,
        end_index=stop,
        epoch=epoch,
        total_samples=total_samples,
        shuffle=shuffle,
        seed=seed,
        file_paths=(path,) if path else (),
    )


def shards_from(reply: Shards) -> list[Shard]:
    """Return the shards that a SHARDS reply lists."""
    return [
        make_shard(
            reply.dataset_id,
            shard,
            reply.epoch,
            total_samples=reply.total_samples,
            shard_size=reply.shard_size,
            shuffle=reply.shuffle,
            seed=reply.seed,
            path=reply.path,
        )
        for shard in reply.shards
    ]
