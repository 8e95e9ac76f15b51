"""Datasets, who owns which shard, and the epoch that all members finish together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from strata_zmq.domain.names import check_dataset
from strata_zmq.domain.shuffle import num_shards
from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StrataError,
)
from strata_zmq.protocol.messages import (
    AdvanceEpoch,
    DatasetRegistered,
    EpochAdvanced,
    EpochStarted,
    GetShards,
    RegisterDataset,
    Shards,
)

from .entries import DatasetHistory
from .records import DatasetAdded, EpochBegan
from .rendezvous import Rendezvous
from .world import Parked, Session, World

__all__ = ["DATASETS_MAX", "SHARDS_MAX", "Datasets"]

DATASETS_MAX = 1000
_ENDED_MAX = 4096
SHARDS_MAX = 1_000_000
"""Shards of all datasets together. Each takes some 60 bytes for good, and twice that while a snapshot is written: so
many leave a coordinator of a thousand workers below 300 MB, and a change of the membership below half a second.
"""


class Datasets:
    """Registers datasets, answers who owns what, and lets the epoch rise."""

    def __init__(self, world: World, rendezvous: Rendezvous, on_epoch: Callable[[], None]) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._on_epoch = on_epoch
        self.finished: dict[str, Parked] = {}
        """Who has finished the current epoch and waits for the others."""
        self.finished_since = 0.0
        self._ended: OrderedDict[tuple[bytes, int], StrataError] = OrderedDict()
        """The latest requests whose wait ended with an error: a copy of one of them waits no more."""

    def register(self, session: Session, request: RegisterDataset) -> None:
        """Register a dataset; the same description again is harmless, another one is refused."""
        check_dataset(
            dataset_id=request.dataset_id,
            total_samples=request.total_samples,
            shard_size=request.shard_size,
            seed=request.seed,
            path=request.path,
            metadata=request.metadata,
        )
        datasets = self._world.history.datasets
        known = datasets.get(request.dataset_id)
        if known is None:
            if len(datasets) >= DATASETS_MAX:
                raise ResourceExhaustedError(f"{DATASETS_MAX} datasets are registered, which is the limit")
            _check_room(request, sum(dataset.shards for dataset in datasets.values()))
            self._world.record(
                DatasetAdded(
                    dataset_id=request.dataset_id,
                    total_samples=request.total_samples,
                    shard_size=request.shard_size,
                    shuffle=request.shuffle,
                    seed=request.seed,
                    path=request.path,
                    format=request.format,
                    metadata=request.metadata,
                    at=self._world.now + self._world.config.wall_offset_s,
                )
            )
            known = datasets[request.dataset_id]
        else:
            _check_same(known.added, request)
        self._world.reply(
            session, request.seq, DatasetRegistered, dataset_id=request.dataset_id, total_shards=known.shards
        )

    def get_shards(self, session: Session, request: GetShards) -> int:
        """Tell which shards a worker owns, with the committed cursor of each in the current epoch; returns the cost."""
        history = self._world.history
        dataset = self._dataset(request.dataset_id)
        worker_id = request.worker_id or self._rendezvous.caller(session).worker_id
        if worker_id not in history.ranks:
            members = ", ".join(history.member_ids[:20]) or "nobody"
            raise NotFoundError(f"worker_id {worker_id!r} is not a member; the members are {members}")
        epoch = history.epoch if request.epoch < 0 else request.epoch
        current = epoch == history.epoch
        shards = (dataset.current if current else dataset.home).shards_of(worker_id)
        added = dataset.added
        self._world.reply(
            session,
            request.seq,
            Shards,
            dataset_id=added.dataset_id,
            epoch=epoch,
            worker_id=worker_id,
            total_samples=added.total_samples,
            shard_size=added.shard_size,
            shuffle=added.shuffle,
            seed=added.seed,
            path=added.path,
            shards=shards.tolist(),
            cursors=dataset.ledger.cursors(shards).tolist() if current else [0] * len(shards),
            remaining=dataset.remaining if current else added.total_samples,
        )
        return len(shards)

    def advance_epoch(self, session: Session, request: AdvanceEpoch) -> None:
        """Note that the caller has finished its epoch; the epoch rises when all members have said so."""
        history = self._world.history
        worker = self._rendezvous.caller(session)
        if request.epoch > history.epoch:
            raise InvalidArgumentError(f"epoch {request.epoch} has not begun: the current epoch is {history.epoch}")
        if request.epoch < history.epoch:
            self._world.reply(session, request.seq, EpochAdvanced, epoch=history.epoch)
            return
        ended = self._ended.get((session.connection, request.seq))
        if ended is not None:
            self._world.fail(session, request.seq, ended)
            return
        before = self.finished.get(worker.worker_id)
        waits = before is not None and before.session.worker is worker
        if not waits and request.generation:
            self._rendezvous.member(session, request.generation, f"epoch {request.epoch}")
        if not self.finished:
            self.finished_since = self._world.now
        self.finished[worker.worker_id] = self._world.park(session, request.seq, request.timeout_s, before)
        self.settle()

    def settle(self) -> None:
        """Let the epoch rise if every member of the generation has finished it."""
        world, history = self._world, self._world.history
        members = history.member_ids
        # The process that said so, not another one that took its name since.
        self.finished = {
            name: parked for name, parked in self.finished.items() if parked.session.worker is world.workers.get(name)
        }
        if not history.formed or not self.finished or any(worker not in self.finished for worker in members):
            return
        world.record(EpochBegan(epoch=history.epoch + 1))
        self._on_epoch()
        finished, self.finished = self.finished, {}
        for parked in finished.values():
            world.reply(parked.session, parked.seq, EpochAdvanced, epoch=history.epoch)
        world.publish(EpochStarted, epoch=history.epoch)

    def go_back(self) -> None:
        """History was taken back: nobody has finished the epoch that it stands in now, and who waits goes back, too."""
        finished, self.finished = self.finished, {}
        for parked in finished.values():
            self._world.reply(parked.session, parked.seq, EpochAdvanced, epoch=self._world.history.epoch)

    def tick(self) -> None:
        """End the waits that ran out, and name who has not finished the epoch."""
        now = self._world.now
        for worker, parked in list(self.finished.items()):
            if parked.deadline > now:
                continue
            missing = tuple(name for name in self._world.history.member_ids if name not in self.finished)
            self._dismiss(
                worker,
                DeadlineExceededError(
                    f"epoch {self._world.history.epoch} is not finished by: "
                    f"{self._rendezvous.describe_missing(missing) or 'nobody yet formed'}",
                    missing=missing,
                ),
            )

    def give_up_all(self, error: StrataError) -> None:
        """End every wait with this error: not all members will finish the epoch."""
        for worker in list(self.finished):
            self._dismiss(worker, error)

    def _dismiss(self, worker_id: str, error: StrataError) -> None:
        """End one worker's wait with an error."""
        parked = self.finished.pop(worker_id)
        self._ended[parked.session.connection, parked.seq] = error
        if len(self._ended) > _ENDED_MAX:
            self._ended.popitem(last=False)
        self._world.fail(parked.session, parked.seq, error)

    def _dataset(self, dataset_id: str) -> DatasetHistory:
        datasets = self._world.history.datasets
        if dataset_id not in datasets:
            known = ", ".join(sorted(datasets)[:20]) or "none"
            raise NotFoundError(f"dataset_id {dataset_id!r} is not registered (registered: {known}): register it first")
        return datasets[dataset_id]


def _check_room(request: RegisterDataset, taken: int) -> None:
    """Refuse a dataset whose shards are too many beside those of the others."""
    total, left = request.total_samples, SHARDS_MAX - taken
    shards = num_shards(total, request.shard_size)
    if shards > left:
        way_out = (
            f"use a shard_size of at least {-(-total // left)}"
            if left > 0
            else "begin a new journal, and register the others with a larger shard_size"
        )
        raise ResourceExhaustedError(
            f"shard_size {request.shard_size} cuts {total} samples of {request.dataset_id!r} into {shards} shards; all "
            f"datasets together may have {SHARDS_MAX}, and {taken} are registered: {way_out}"
        )


def _check_same(added: DatasetAdded, request: RegisterDataset) -> None:
    for name in ("total_samples", "shard_size", "shuffle", "seed", "path"):
        before, after = getattr(added, name), getattr(request, name)
        if before != after:
            raise AlreadyExistsError(
                f"dataset_id {request.dataset_id!r} is registered with {name}={before!r}, not {after!r}: "
                "use the same description, or another dataset_id"
            )
