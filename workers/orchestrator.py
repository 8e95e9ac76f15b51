"""TrainingOrchestrator: the worker as one object, under the published names. It adds names, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping

from strata_zmq.domain.names import check_not_negative

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

    def register_worker(
        self,
        worker_id: str | None = None,
        hostname: str = "",
        port: int = 0,
        gpu_count: int = 0,
        memory_bytes: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Register with this description and return the rank; what is left out is found out from the machine."""
        told = {"hostname": hostname, "port": port, "gpu_count": gpu_count, "memory_bytes": memory_bytes}
        self.describe(worker_id, metadata, **{name: value for name, value in told.items() if value})
        return self.connect().rank

    def heartbeat(self, current_step: int = 0, current_epoch: int = 0) -> bool:
        """Report a position and renew the lease now; the connection's thread renews it by itself as well."""
        session = self.session
        session.reported_step = check_not_negative("current_step", current_step, 2**62)
        session.reported_epoch = check_not_negative("current_epoch", current_epoch, 2**62)
        return session.heartbeat()
