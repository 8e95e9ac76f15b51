"""DatasetRegistry: who owns which shard, with a coordinator or, without a URL, in this process alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from strata_zmq.domain.membership import rank_order
from strata_zmq.domain.names import WORKER_NAME_MAX, check_dataset, check_name, check_not_negative
from strata_zmq.domain.sharding import Assignment, assign, reassign
from strata_zmq.domain.shuffle import num_shards
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from strata_zmq.protocol import messages as wire

from .session import WorkerIdentity, WorkerSession
from .shards import Shard, make_shard, shards_from

__all__ = ["DatasetRegistry"]

_FORMED_S = 30.0


@dataclass(frozen=True, slots=True)
class _Dataset:
    dataset_id: str
    total_samples: int
    shard_size: int
    shuffle: bool
    seed: int


class _Backend(Protocol):
    def register_worker(self, worker_id: str, options: Mapping[str, Any]) -> None: ...
    def remove_worker(self, worker_id: str) -> None: ...
    def register_dataset(self, dataset: _Dataset) -> int: ...
    def get_shards(self, dataset_id: str, worker_id: str, epoch: int) -> list[Shard]: ...
    def advance_epoch(self, timeout_s: float) -> int: ...
    def current_epoch(self) -> int: ...
    def active_workers(self) -> list[str]: ...
    def datasets(self) -> list[str]: ...
    def close(self) -> None: ...


class DatasetRegistry:
    """Registers datasets and workers, and tells every shard that a worker owns in an epoch.

    With `coordinator_url` (or COORDINATOR_URL) the coordinator answers; with neither, the registry works in this
    process without any server, by the same rules.
    """

    def __init__(self, coordinator_url: str | None = None) -> None:
        url = coordinator_url or os.environ.get("COORDINATOR_URL")
        self._backend: _Backend = _Remote(url) if url else _Local()

    def register_worker(
        self,
        worker_id: str,
        hostname: str = "",
        port: int = 0,
        gpu_count: int = 0,
        memory_bytes: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Add a worker. With a coordinator this opens a session for it that lasts until `remove_worker` or `close`."""
        check_name("worker_id", worker_id, WORKER_NAME_MAX)
        options = {
            "hostname": hostname,
            "port": port,
            "gpu_count": gpu_count,
            "memory_bytes": memory_bytes,
            "metadata": dict(metadata or {}),
        }
        self._backend.register_worker(worker_id, options)

    def remove_worker(self, worker_id: str) -> None:
        """Take a worker out; its shards go to the others, with the least movement."""
        self._backend.remove_worker(worker_id)

    def register_dataset(
        self, dataset_id: str, total_samples: int, shard_size: int, shuffle: bool = True, seed: int = 42
    ) -> int:
        """Register a dataset and return how many shards it has; the same again is harmless."""
        check_dataset(dataset_id=dataset_id, total_samples=total_samples, shard_size=shard_size, seed=seed)
        return self._backend.register_dataset(_Dataset(dataset_id, total_samples, shard_size, shuffle, seed))

    def get_shards(self, dataset_id: str, worker_id: str, epoch: int) -> list[Shard]:
        """Return every shard of `dataset_id` that `worker_id` owns in `epoch`, in ascending order."""
        check_not_negative("epoch", epoch, 2**62)
        return self._backend.get_shards(dataset_id, worker_id, epoch)

    def get_shard_for_worker(self, dataset_id: str, worker_id: str, epoch: int) -> list[Shard]:
        """Return the same as `get_shards`: all of the worker's shards, not only the first."""
        return self.get_shards(dataset_id, worker_id, epoch)

    def advance_epoch(self, timeout_s: float = 300.0) -> int:
        """Finish the epoch for this registry's workers and return the epoch that has begun."""
        return self._backend.advance_epoch(timeout_s)

    def current_epoch(self) -> int:
        """Return the epoch."""
        return self._backend.current_epoch()

    def active_workers(self) -> list[str]:
        """Return the workers in rank order."""
        return self._backend.active_workers()

    def datasets(self) -> list[str]:
        """Return the names of the datasets."""
        return self._backend.datasets()

    @property
    def worker_count(self) -> int:
        """How many workers there are."""
        return len(self.active_workers())

    @property
    def dataset_count(self) -> int:
        """How many datasets there are."""
        return len(self.datasets())

    def close(self) -> None:
        """Take this registry's own workers out and close its connections."""
        self._backend.close()

    def __enter__(self) -> DatasetRegistry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Local:
    """The rules without a server."""

    def __init__(self) -> None:
        self._workers: tuple[str, ...] = ()
        self._datasets: dict[str, tuple[_Dataset, Assignment]] = {}
        self._epoch = 0

    def register_worker(self, worker_id: str, options: Mapping[str, Any]) -> None:
        if worker_id in self._workers:
            raise AlreadyExistsError(f"worker_id {worker_id!r} is registered: choose another, or remove it first")
        self._change((*self._workers, worker_id))

    def remove_worker(self, worker_id: str) -> None:
        self._known(worker_id)
        self._change(tuple(worker for worker in self._workers if worker != worker_id))

    def register_dataset(self, dataset: _Dataset) -> int:
        known = self._datasets.get(dataset.dataset_id)
        if known is not None and known[0] != dataset:
            raise AlreadyExistsError(
                f"dataset_id {dataset.dataset_id!r} is registered as {known[0]}: use the same description or "
                "another name"
            )
        shards = num_shards(dataset.total_samples, dataset.shard_size)
        if known is None:
            self._datasets[dataset.dataset_id] = (dataset, assign(shards, self._workers, seed=dataset.seed))
        return shards

    def get_shards(self, dataset_id: str, worker_id: str, epoch: int) -> list[Shard]:
        if dataset_id not in self._datasets:
            known = ", ".join(self._datasets) or "none"
            raise NotFoundError(f"dataset_id {dataset_id!r} is not registered (registered: {known}): register it first")
        self._known(worker_id)
        dataset, assignment = self._datasets[dataset_id]
        return [
            make_shard(
                dataset_id,
                int(shard),
                epoch,
                total_samples=dataset.total_samples,
                shard_size=dataset.shard_size,
                shuffle=dataset.shuffle,
                seed=dataset.seed,
                path="",
            )
            for shard in assignment.shards_of(worker_id)
        ]

    def advance_epoch(self, timeout_s: float) -> int:
        self._epoch += 1
        return self._epoch

    def current_epoch(self) -> int:
        return self._epoch

    def active_workers(self) -> list[str]:
        return list(self._workers)

    def datasets(self) -> list[str]:
        return list(self._datasets)

    def close(self) -> None:
        """Nothing is open."""

    def _known(self, worker_id: str) -> None:
        if worker_id not in self._workers:
            known = ", ".join(self._workers[:20]) or "none"
            raise NotFoundError(f"worker_id {worker_id!r} is not registered (registered: {known}): register it first")

    def _change(self, workers: tuple[str, ...]) -> None:
        self._workers = rank_order(self._workers, workers)
        for name, (dataset, assignment) in self._datasets.items():
            moved, _ = reassign(assignment, self._workers, seed=dataset.seed)
            self._datasets[name] = (dataset, moved)


class _Remote:
    """A coordinator's answers. Each registered worker has a session of its own: identity comes from the connection."""

    def __init__(self, url: str) -> None:
        from .client import CoordinatorClient

        self._url = url
        self._client = CoordinatorClient(url).connect()
        self._sessions: dict[str, WorkerSession] = {}

    def register_worker(self, worker_id: str, options: Mapping[str, Any]) -> None:
        session = WorkerSession(WorkerIdentity(worker_id=worker_id, **options), self._url)
        try:
            session.connect()
            status = session.status()
            # Newcomers are gathered for a moment: where there are enough, this one is a member when the call returns.
            if len(status.workers) >= status.need:
                session.join(_FORMED_S)
        except BaseException:
            session.close(leave=False)
            raise
        self._sessions[worker_id] = session

    def remove_worker(self, worker_id: str) -> None:
        session = self._sessions.pop(worker_id, None)
        if session is None:
            raise NotFoundError(
                f"worker_id {worker_id!r} was not registered by this registry: only its own can be removed"
            )
        session.close()

    def register_dataset(self, dataset: _Dataset) -> int:
        request = wire.RegisterDataset(
            dataset_id=dataset.dataset_id,
            total_samples=dataset.total_samples,
            shard_size=dataset.shard_size,
            shuffle=dataset.shuffle,
            seed=dataset.seed,
        )
        return int(self._client.request(request).total_shards)

    def get_shards(self, dataset_id: str, worker_id: str, epoch: int) -> list[Shard]:
        return shards_from(
            self._client.request(wire.GetShards(dataset_id=dataset_id, worker_id=worker_id, epoch=epoch))
        )

    def advance_epoch(self, timeout_s: float) -> int:
        if not self._sessions:
            raise InvalidArgumentError(
                "advance_epoch: this registry registered no worker, so there is nobody to speak for"
            )
        epoch = self.current_epoch()
        futures = [
            session.client.submit(wire.AdvanceEpoch(epoch=epoch, timeout_s=timeout_s))
            for session in self._sessions.values()
        ]
        return max(int(future.result(timeout_s + 5.0).epoch) for future in futures)

    def current_epoch(self) -> int:
        return int(self._status().epoch)

    def active_workers(self) -> list[str]:
        return [row.worker_id for row in sorted(self._status().workers, key=lambda row: (row.rank < 0, row.rank))]

    def datasets(self) -> list[str]:
        return [str(entry["dataset_id"]) for entry in self._status().datasets]

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._client.close()

    def _status(self) -> wire.Status:
        status: wire.Status = self._client.request(wire.GetStatus())
        return status
