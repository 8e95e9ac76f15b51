"""TrainingOrchestrator: the worker as one object, under the published names. It adds names, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping

from .mixin import WorkerMixin
from .shards import Shard, shards_from

__all__ = ["TrainingOrchestrator"]


class TrainingOrchestrator(WorkerMixin):
    """A worker for scripts that would rather hold an object than inherit from a class.

    `coordinator_url` and `worker_id` default to COORDINATOR_URL and WORKER_ID.
    """

    def __init__(
        self,
        coordinator_url: str | None = None,
        worker_id: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.coordinator_url = coordinator_url
        self.worker_id = worker_id
        self.worker_metadata = dict(metadata or {})

    def get_shard(self, dataset: str, epoch: int) -> list[Shard]:
        """Return every shard that this worker owns in `epoch`."""
        return shards_from(self.session.get_shards(dataset, epoch=epoch))

    def heartbeat(self, current_step: int = 0, current_epoch: int = 0) -> bool:
        """Renew the lease now and report a position; the connection's thread does it by itself as well."""
        session = self.session
        session.step = max(session.step, current_step)
        session.epoch = max(session.epoch, current_epoch)
        return session.heartbeat()
