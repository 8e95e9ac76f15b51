"""The StorageWriter: gives every rank its place in a checkpoint, stores what torch planned for it, and commits once.

It knows torch's plans and Strata's commit; how parts become chunks is not its business, nor what a plan means.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.distributed.checkpoint.metadata import StorageMeta
from torch.distributed.checkpoint.planner import WriteItemType
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from strata_zmq.checkpoint.arrays import as_leaf, bytes_leaf
from strata_zmq.checkpoint.chunks import CHUNK_BYTES, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN
from strata_zmq.checkpoint.owner import note_of_this_process
from strata_zmq.domain.manifest import Manifest, RankEntry, RankIndex, check_checkpoint_id
from strata_zmq.domain.names import check_not_negative, check_positive
from strata_zmq.domain.retention import KEEP_COUNT_MAX, Retention
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, StrataError
from strata_zmq.integrations.dcp_metadata import Place, Places, described
from strata_zmq.integrations.dcp_parts import Part, write_parts
from strata_zmq.integrations.dcp_shared import MARK, Opened, parts_in, skeleton_of

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem

    from strata_zmq.checkpoint.arrays import Leaf
    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import HeadEntry

__all__ = ["StrataWriter"]

_STEP_MAX = 2**62
_STEP_NAME = re.compile(r"step-(\d{1,18})(?!\d)")
_log = logging.getLogger(__name__)


class _RankResult(NamedTuple):
    """What one rank tells the coordinator with its first result; plain values, because torch sends it."""

    checkpoint_id: str
    worker_id: str
    index_key: str
    digest: str
    size_bytes: int


class StrataWriter(StorageWriter):
    """Saves what torch.distributed.checkpoint plans into a folder or `s3://bucket/prefix`, the same on every rank.

    Give one to `save` or `async_save` (by thread or by process) on every rank; it may serve one save after another. A
    save's `checkpoint_id` (here, or as torch's own argument) names the checkpoint; without one the coordinator makes a
    name. The step that is recorded is `step`, which may be set between saves, else that of a name that begins with
    `step-N`, else one more than the newest checkpoint's. The newest `keep_count` checkpoints are kept.

    Needs collectives (`use_collectives=False` is refused). A planner that caches plans (`enable_plan_caching`) does not
    hand on the coordinator's name: give every save a `checkpoint_id` then.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        checkpoint_id: str | None = None,
        step: int | None = None,
        keep_count: int = 5,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        super().__init__()
        check_positive("keep_count", keep_count, KEEP_COUNT_MAX)
        if not check_positive("chunk_bytes", chunk_bytes, CHUNK_BYTES_MAX) >= CHUNK_BYTES_MIN:
            raise InvalidArgumentError(f"chunk_bytes is {chunk_bytes}, the least is {CHUNK_BYTES_MIN}")
        self.path = os.fspath(path)
        self.checkpoint_id = None if checkpoint_id is None else check_checkpoint_id(checkpoint_id)
        self.step = None if step is None else check_not_negative("step", step, _STEP_MAX)
        self.keep_count = keep_count
        self.chunk_bytes = chunk_bytes
        self.last_checkpoint_id: str | None = None
        """The newest checkpoint that this writer committed; on the coordinator's rank only."""
        self._begun: str | None = None
        self._draft: RankIndex | None = None
        self._place = Opened(self.path)

    def __getstate__(self) -> dict[str, Any]:
        """Return plain arguments: torch hands the writer to another process that way."""
        names = ("path", "checkpoint_id", "step", "keep_count", "chunk_bytes")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        self.__init__(**arguments)  # type: ignore[misc]

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Take the name of the next checkpoint, if there is one."""
        if checkpoint_id is not None:
            self.checkpoint_id = check_checkpoint_id(os.fspath(checkpoint_id))

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Begin a save."""
        if not kwargs.get("use_collectives", True):
            raise InvalidArgumentError(
                "use_collectives is False: a checkpoint is committed once for all ranks; leave it out"
            )
        self._draft = None

    def storage_meta(self) -> StorageMeta:
        """Return the name of the checkpoint, where it has one already."""
        return StorageMeta(checkpoint_id=self.checkpoint_id)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Nothing to add."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Name the checkpoint and give every rank the name and its number."""
        self._begun = checkpoint_id = self._place.run(self._begin())
        return [replace(plan, storage_data=(checkpoint_id, rank)) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Store what the plan gives this rank; all of it is durable when this returns."""
        checkpoint_id, rank = plan.storage_data
        checkpoint_id = self.checkpoint_id or checkpoint_id
        self._check_begun(checkpoint_id)
        items = sorted(plan.items, key=lambda item: item.index.fqn)
        numbers: dict[str, int] = defaultdict(int)
        numbered = []
        for item in items:
            numbered.append(numbers[item.index.fqn])
            numbers[item.index.fqn] += 1
        self._place.run(self._place.store.storage.prepare())
        parts = [_part(item, planner) for item in items]
        tensors, chunks = write_parts(self._place.store, self._place.loop, checkpoint_id, rank, parts, self.chunk_bytes)
        index = RankIndex(rank, skeleton_of(numbers), tensors, chunks)
        if self._begun is None:
            told: _RankResult | None = self._place.run(self._store_index(checkpoint_id, index))
        else:
            # The coordinator's index waits for torch's description, which is known when all have written.
            self._draft, told = index, None
        results = [
            WriteResult(item.index, tensor.nbytes, (number, tuple(told) if told and not position else None))
            for position, (item, number, tensor) in enumerate(zip(items, numbered, tensors, strict=True))
        ]
        written: Future[list[WriteResult]] = Future()
        written.set_result(results)
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Commit the checkpoint; on the coordinator, when all ranks have written."""
        if self._begun is None or self._draft is None:
            raise InvalidArgumentError("finish was called before prepare_global_plan and write_data of the same save")
        self._place.run(self._commit(self._begun, self._draft, metadata, results))
        self.last_checkpoint_id, self._begun, self._draft = self._begun, None, None

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Say whether this can be the name of a checkpoint."""
        try:
            check_checkpoint_id(os.fspath(checkpoint_id))
        except InvalidArgumentError:
            return False
        return True

    def close(self) -> None:
        """End the thread and let connections go; the next save starts them anew."""
        self._place.close()

    def _check_begun(self, checkpoint_id: str) -> None:
        if self._begun is not None and checkpoint_id != self._begun:
            raise InvalidArgumentError(
                f"the plan is that of {checkpoint_id} and {self._begun} was begun: with enable_plan_caching give every "
                "save a checkpoint_id of its own"
            )

    async def _begin(self) -> str:
        store = self._place.store
        await store.storage.prepare()
        failed, self._begun = self._begun, None
        # What the save before this one left. A name that is tried again keeps it: a retired one could not be committed.
        if failed is not None and failed != self.checkpoint_id:
            await _discarded(store, failed)
        head = await store.head()
        if self.checkpoint_id is not None:
            checkpoint_id = self.checkpoint_id
            if head.find(checkpoint_id) is not None:
                raise AlreadyExistsError(f"checkpoint {checkpoint_id} is committed: choose another checkpoint_id")
        else:
            checkpoint_id = f"step-{self._step('', head.latest):010d}-{secrets.token_hex(8)}"
        await store.declare(checkpoint_id, note_of_this_process())
        return checkpoint_id

    def _step(self, checkpoint_id: str, latest: HeadEntry | None) -> int:
        if self.step is not None:
            return self.step
        named = _STEP_NAME.match(checkpoint_id)
        if named:
            return int(named[1])
        return latest.step + 1 if latest is not None else 0

    async def _store_index(self, checkpoint_id: str, index: RankIndex) -> _RankResult:
        key, digest = await self._place.store.write_rank_index(checkpoint_id, index)
        return _RankResult(checkpoint_id, f"pid-{os.getpid()}", key, digest, index.nbytes)

    async def _commit(
        self, checkpoint_id: str, draft: RankIndex, metadata: Metadata, results: list[list[WriteResult]]
    ) -> None:
        store, places = self._place.store, Places()
        told: dict[int, _RankResult] = {}
        for rank, of_rank in enumerate(results):
            for result in of_rank:
                number, first = result.storage_data
                places.add(result.index, Place(rank, number))
                if first is not None:
                    told[rank] = _RankResult(*first)
        draft = replace(draft, skeleton=skeleton_of(parts_in(draft), described(metadata, places)))
        told[draft.rank] = await self._store_index(checkpoint_id, draft)
        for rank in range(len(results)):
            if rank not in told:
                told[rank] = await self._store_index(checkpoint_id, RankIndex(rank, skeleton_of({}), (), ()))
            elif told[rank].checkpoint_id != checkpoint_id:
                self._check_begun(told[rank].checkpoint_id)
        head = await store.head()
        manifest = Manifest(
            checkpoint_id=checkpoint_id,
            step=self._step(checkpoint_id, head.latest),
            epoch=0,
            term=head.term,
            generation=head.generation,
            created_at=time.time(),
            ranks=tuple(
                RankEntry(rank, one.worker_id, one.index_key, one.digest, one.size_bytes, written_bytes=one.size_bytes)
                for rank, one in sorted(told.items())
            ),
            metadata={MARK: str(draft.rank)},
        )
        commit = await store.commit(manifest, Retention(keep_count=self.keep_count), fenced=False)
        for dropped in commit.dropped:
            await _discarded(store, dropped)


def _part(item: WriteItem, planner: SavePlanner) -> Part:
    path = item.index.fqn
    if item.type == WriteItemType.BYTE_IO:
        content = planner.resolve_data(item).getvalue()
        return Part(path, len(content), lambda: bytes_leaf(path, content))
    told = item.tensor_data
    itemsize = torch.empty((), dtype=told.properties.dtype).element_size()

    def leaf() -> Leaf:
        found = as_leaf(path, planner.resolve_data(item))
        if found is None:
            raise InvalidArgumentError(f"{path} was announced as a tensor and is none: use another planner")
        return found

    shape, whole = tuple(told.chunk.sizes), tuple(told.size)
    place = (None, None) if shape == whole else (whole, tuple(told.chunk.offsets))
    return Part(path, math.prod(shape) * itemsize, leaf, *place)


async def _discarded(store: CheckpointStore, checkpoint_id: str) -> None:
    """Delete what HEAD does not reach any more; a failure costs space, not data."""
    try:
        await store.discard(checkpoint_id)
    except StrataError as error:
        _log.warning("old checkpoint files could not be deleted: %s", error)
