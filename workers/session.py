"""One worker's side of the control plane: join, heartbeat, barrier, shards, epochs.

It knows the membership that the training code has adopted, which changes only when the training code is told: what it
sends in between carries the old generation and is refused, so that nothing stale is ever committed.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from strata_zmq.domain.names import WORKER_NAME_MAX, check_metadata, check_name, check_seconds
from strata_zmq.errors import GenerationChangedError, InvalidArgumentError, StaleGenerationError
from strata_zmq.protocol import messages as wire

from .client import CoordinatorClient
from .resources import ResourceMeter, count_gpus

__all__ = ["WorkerIdentity", "WorkerSession", "boot_id"]

_COMMIT = "commit"


def boot_id() -> str:
    """Return what tells this machine's current boot from every other; two processes with the same one share memory."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """Who a worker says it is. `incarnation` names this process life; `memory_bytes` is the machine's."""

    worker_id: str
    hostname: str = field(default_factory=socket.gethostname)
    port: int = 0
    gpu_count: int = field(default_factory=count_gpus)
    memory_bytes: int = field(default_factory=lambda: psutil.virtual_memory().total)
    metadata: dict[str, str] = field(default_factory=dict)
    incarnation: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        check_name("worker_id", self.worker_id, WORKER_NAME_MAX)
        check_metadata("metadata", self.metadata)

    @classmethod
    def default_id(cls) -> str:
        """Return WORKER_ID, or a name made of the host's and the process's."""
        return os.environ.get("WORKER_ID") or f"{socket.gethostname()}-{os.getpid()}"


class WorkerSession:
    """A registered worker. Methods block with a timeout and raise the StrataError tree; all are thread-safe."""

    def __init__(self, identity: WorkerIdentity, coordinator_url: str | None = None) -> None:
        self.identity = identity
        self.state: wire.WorkerState = "IDLE"
        self.step = 0
        self.epoch = 0
        self.progress = 0
        self.reported_step = 0
        self.reported_epoch = 0
        self._membership: wire.Membership | None = None
        self._released: dict[str, tuple[int, int]] = {}
        """By barrier name the (generation, step) that was released last."""
        self._meter = ResourceMeter()
        self.client = CoordinatorClient(
            coordinator_url,
            role="worker",
            introduce=self._registration,
            heartbeat=self._heartbeat,
        )

    def connect(self, timeout_s: float = 10.0) -> None:
        """Wait until the coordinator has taken this worker in."""
        self.client.connect(timeout_s)

    @property
    def membership(self) -> wire.Membership:
        """The generation that the training code has adopted."""
        if self._membership is None:
            raise StaleGenerationError("no generation is adopted yet: call join() first")
        return self._membership

    @property
    def generation(self) -> int:
        """The adopted generation; 0 before the first."""
        return self._membership.generation if self._membership else 0

    def join(self, timeout_s: float = 300.0, *, newer: bool = False) -> wire.Membership:
        """Adopt the current generation, or with `newer` the first after the adopted one; waits for the quorum."""
        after = self.generation if newer else 0
        membership: wire.Membership = self._ask(wire.AwaitGeneration(after=after, timeout_s=timeout_s), timeout_s)
        self._membership = membership
        self.epoch, self.step = membership.epoch, membership.commit_index
        return membership

    def barrier(self, name: str, step: int, *, expected: int = 0, timeout_s: float = 300.0) -> wire.Released:
        """Wait until all ranks of the adopted generation have arrived at (name, step).

        Raises GenerationChangedError when the membership has changed, also when that was this worker's own loss, and
        InvalidArgumentError for a step that this worker was just released from: nobody would be waited for.
        """
        if name == _COMMIT:
            raise InvalidArgumentError(f"barrier name {name!r} is what commit points are called: choose another")
        place = (self.generation, step)
        if self._released.get(name) == place:
            raise InvalidArgumentError(
                f"barrier {name!r} step {step} is released already in generation {self.generation}, nobody would be "
                "waited for: give every meeting a step of its own"
            )
        try:
            released = self._arrive(
                wire.Arrive(name=name, step=step, expected=expected, timeout_s=timeout_s, generation=self.generation)
            )
        except StaleGenerationError as error:
            raise GenerationChangedError(str(error), left=(self.identity.worker_id,)) from error
        self._released[name] = place
        return released

    def commit(self, ranges: Sequence[wire.SeenRange], *, timeout_s: float = 300.0) -> wire.Released:
        """Arrive at the next commit point with what this rank has seen; on release all ranks' ranges are committed."""
        released = self._arrive(
            wire.Arrive(
                name=_COMMIT,
                step=self.step + 1,
                timeout_s=timeout_s,
                commit=True,
                ranges=list(ranges),
                generation=self.generation,
            )
        )
        self.step = released.commit_index
        return released

    def register_dataset(
        self,
        dataset_id: str,
        total_samples: int,
        shard_size: int,
        *,
        shuffle: bool = True,
        seed: int = 42,
        path: str = "",
        metadata: dict[str, str] | None = None,
    ) -> int:
        """Register a dataset and return how many shards it has. The same again is harmless."""
        reply: wire.DatasetRegistered = self._ask(
            dataset_request(dataset_id, total_samples, shard_size, shuffle, seed, path, metadata), 30.0
        )
        return int(reply.total_shards)

    def get_shards(self, dataset_id: str, *, worker_id: str = "", epoch: int = -1) -> wire.Shards:
        """Return what a worker (by default this one) owns in an epoch (by default the current one)."""
        reply: wire.Shards = self._ask(wire.GetShards(dataset_id=dataset_id, worker_id=worker_id, epoch=epoch), 30.0)
        return reply

    def advance_epoch(self, *, timeout_s: float = 300.0) -> int:
        """Say that this worker has finished its epoch, wait for the others, and return the epoch that has begun."""
        finished, deadline = self.epoch, time.monotonic() + check_seconds("timeout_s", timeout_s)
        while True:
            left_s = max(deadline - time.monotonic(), 0.0)
            try:
                reply: wire.EpochAdvanced = self._ask(wire.AdvanceEpoch(epoch=finished, timeout_s=left_s), left_s)
            except StaleGenerationError:
                # Fenced while it waited: what it finished is committed, so it says so again as a newcomer.
                self.join(max(deadline - time.monotonic(), 0.0))
                continue
            self.epoch = reply.epoch
            return int(reply.epoch)

    def latest_checkpoints(self, limit: int = 1) -> list[wire.CheckpointSummary]:
        """Return committed checkpoints, newest first."""
        reply: wire.CheckpointTaken = self._ask(wire.LatestCheckpoint(limit=limit), 30.0)
        return list(reply.checkpoints)

    def restore(self, checkpoint_id: str, ledger: bytes) -> bool:
        """Take the data position back to a manifest's; False if other members carry a later history.

        Every rank may call it; it happens once, and makes a new generation.
        """
        reply: wire.Restored = self._ask(wire.Restore(checkpoint_id=checkpoint_id, ledger=ledger), 30.0)
        return reply.rewound

    def heartbeat(self) -> bool:
        """Renew the lease now; True when the coordinator has answered."""
        self._ask(self._heartbeat(), 10.0)
        return True

    def status(self) -> wire.Status:
        """Return the coordinator's snapshot."""
        reply: wire.Status = self._ask(wire.GetStatus(), 30.0)
        return reply

    def close(self, *, leave: bool = True) -> None:
        """Leave the membership, unless the coordinator cannot be reached, and end the connection."""
        if leave and self.client.is_ready:
            future = self.client.submit(wire.Deregister(reason="closed"))
            try:
                future.result(2.0)
            except Exception:  # noqa: BLE001 - a lease ends by itself
                future.cancel()
        self.client.close()

    def _arrive(self, request: wire.Arrive) -> wire.Released:
        before, self.state = self.state, "IDLE"
        try:
            released: wire.Released = self._ask(request, request.timeout_s)
        finally:
            self.state = before
        return released

    def _ask(self, request: wire.Request, timeout_s: float) -> Any:
        self.progress += 1
        return self.client.request(request, timeout_s)

    def _registration(self) -> wire.RegisterWorker:
        identity = self.identity
        return wire.RegisterWorker(
            worker_id=identity.worker_id,
            incarnation=identity.incarnation,
            hostname=identity.hostname,
            port=identity.port,
            pid=os.getpid(),
            boot_id=boot_id(),
            gpu_count=identity.gpu_count,
            memory_bytes=identity.memory_bytes,
            metadata=identity.metadata,
        )

    def _heartbeat(self) -> wire.Heartbeat:
        return wire.Heartbeat(
            state=self.state,
            step=max(self.step, self.reported_step),
            epoch=max(self.epoch, self.reported_epoch),
            progress=self.progress,
            resources=self._meter.read(),
            generation=self.generation,
        )


def dataset_request(
    dataset_id: str,
    total_samples: int,
    shard_size: int,
    shuffle: bool,
    seed: int,
    path: str,
    metadata: dict[str, str] | None,
) -> wire.RegisterDataset:
    """Return the registration message, or say which field cannot be sent at all."""
    for name, value in (("total_samples", total_samples), ("shard_size", shard_size), ("seed", seed)):
        if not _is_int64(value):
            raise InvalidArgumentError(f"{name} is {value!r}: give an integer of at most 64 bits")
    return wire.RegisterDataset(
        dataset_id=dataset_id,
        total_samples=total_samples,
        shard_size=shard_size,
        shuffle=shuffle,
        seed=seed,
        path=path,
        metadata=metadata or {},
    )


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
