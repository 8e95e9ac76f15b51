"""The shards of one worker as training code iterates over them, asked for anew each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .shards import Shard, shards_from

if TYPE_CHECKING:
    from .session import WorkerSession

__all__ = ["ShardView"]


class ShardView:
    """The shards that a worker owns in the current epoch. Every iteration asks anew and covers all of them."""

    def __init__(self, session: WorkerSession, dataset_id: str) -> None:
        self._session = session
        self._dataset_id = dataset_id

    def __iter__(self) -> Iterator[Shard]:
        yield from shards_from(self._session.get_shards(self._dataset_id))

    def __len__(self) -> int:
        return len(self._session.get_shards(self._dataset_id).shards)
