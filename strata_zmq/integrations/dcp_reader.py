"""The StorageReader: finds a checkpoint, tells torch what it holds, and reads what torch plans for this rank.

It knows torch's plans; which chunks a part lies in and how they are read is not its business.
"""

from __future__ import annotations

import io
import math
import os
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.distributed.checkpoint.planner import LoadItemType
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from strata_zmq.checkpoint.arrays import restored
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, NotFoundError
from strata_zmq.integrations.dcp_metadata import Places, rebuilt
from strata_zmq.integrations.dcp_parts import Wanted, read_ranges
from strata_zmq.integrations.dcp_shared import MARK, Opened, tree_of
from strata_zmq.integrations.dcp_writer import StrataWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import HeadEntry, Manifest, RankIndex

__all__ = ["StrataReader"]


class StrataReader(StorageReader):
    """Loads what `StrataWriter` saved, onto as many ranks as there are now; give one to `load` on every rank.

    `checkpoint` is a name, a step, or "latest"; torch's own `checkpoint_id` replaces it. What is damaged is an error
    and never replaced by an older checkpoint: name one to go back to it. Ranks that found different checkpoints,
    because one was committed in between, are refused: name it, or load again.
    """

    def __init__(self, path: str | os.PathLike[str], checkpoint: str | int = "latest") -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.checkpoint = checkpoint
        self._place = Opened(self.path)
        self._manifest: Manifest | None = None
        self._places = Places()

    @property
    def manifest(self) -> Manifest | None:
        """The manifest (name, step, metadata) of what was loaded last."""
        return self._manifest

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Take the name of the checkpoint to load, if there is one."""
        self._manifest = None
        if checkpoint_id is not None:
            self.checkpoint = os.fspath(checkpoint_id)

    def read_metadata(self) -> Metadata:
        """Return torch's description of the checkpoint; NotFoundError or CheckpointCorruptError where there is none."""
        self._manifest, tree = self._place.run(self._describe())
        metadata, self._places = rebuilt(tree, self._manifest.checkpoint_id)
        return metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Begin a load."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Tell the coordinator which checkpoint this rank has found."""
        return replace(plan, storage_data=self._found().checkpoint_id)

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Make sure that all ranks load the same checkpoint."""
        found = sorted({plan.storage_data for plan in plans})
        if len(found) > 1:
            raise InvalidArgumentError(
                f"the ranks found different checkpoints in {self.path} ({', '.join(found)}): name one, or load again"
            )
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what the plan asks for, every chunk that is needed once, and hand it to the planner."""
        wanted: dict[int, list[ReadItem]] = defaultdict(list)
        for item in plan.items:
            wanted[self._places.of(item.storage_index).rank].append(item)
        for rank, items in sorted(wanted.items()):
            self._read_rank(rank, items, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Say whether this can be the name of a checkpoint."""
        return StrataWriter.validate_checkpoint_id(checkpoint_id)

    def close(self) -> None:
        """End the thread and let connections go; the next load starts them anew."""
        self._place.close()

    def _read_rank(self, rank: int, items: Sequence[ReadItem], planner: LoadPlanner) -> None:
        manifest, store = self._found(), self._place.store
        index = self._place.run(store.read_rank_index(manifest, rank))
        tree = tree_of(index, manifest.checkpoint_id)
        wanted = []
        for item in items:
            try:
                number = tree["state"][item.storage_index.fqn][self._places.of(item.storage_index).part]
                wanted.append(_wanted(item, number, index, planner))
            except (KeyError, IndexError, TypeError) as error:
                raise CheckpointCorruptError(
                    f"rank {rank} of {manifest.checkpoint_id} does not hold {item.storage_index.fqn}: {error!r}"
                ) from None
        read_ranges(lambda chunk: self._place.loop.submit(store.read_chunk(chunk)), index, wanted)

    def _found(self) -> Manifest:
        if self._manifest is None:
            raise InvalidArgumentError("read_metadata was not called before")
        return self._manifest

    async def _describe(self) -> tuple[Manifest, Any]:
        store = self._place.store
        entry = _chosen(await store.entries(), self.checkpoint, store)
        manifest = await store.read_manifest(entry)
        rank = manifest.metadata.get(MARK, "")
        if not rank.isdecimal() or int(rank) >= manifest.world_size:
            raise InvalidArgumentError(
                f"{entry.checkpoint_id} was not saved through torch.distributed.checkpoint: load it with "
                "CheckpointManager, or name another checkpoint"
            )
        index = await store.read_rank_index(manifest, int(rank))
        return manifest, tree_of(index, entry.checkpoint_id).get(MARK)


def _wanted(item: ReadItem, number: int, index: RankIndex, planner: LoadPlanner) -> Wanted:
    record = index.tensors[number]
    if item.type == LoadItemType.BYTE_IO:
        return Wanted(number, 0, record.nbytes, lambda content: planner.load_bytes(item, io.BytesIO(content.tobytes())))
    shape, begin, end = record.shape, 0, record.nbytes
    if shape:
        # Whole rows of the first axis lie side by side; what is asked for along the others is cut out of them.
        row_bytes = math.prod(shape[1:]) * np.dtype(record.dtype).itemsize
        begin = item.storage_offsets[0] * row_bytes
        end = begin + item.lengths[0] * row_bytes
        shape = (item.lengths[0], *shape[1:])

    def place(content: NDArray[np.uint8]) -> None:
        array = content.view(record.dtype).reshape(shape)
        tensor = restored(array, record.tag, record.path, as_numpy=False)
        for axis in range(1, len(shape)):
            tensor = tensor.narrow(axis, item.storage_offsets[axis], item.lengths[axis])
        target = planner.resolve_tensor(item).detach()
        if target.size() != tensor.size():
            raise InvalidArgumentError(
                f"{item.dest_index.fqn} is asked for with the shape {tuple(target.size())} and stored with "
                f"{tuple(tensor.size())}: build the model as it was when it was saved"
            )
        target.copy_(tensor)
        planner.commit_tensor(item, target)

    return Wanted(number, begin, end, place)


def _chosen(entries: Sequence[HeadEntry], wanted: str | int, store: CheckpointStore) -> HeadEntry:
    def fits(entry: HeadEntry) -> bool:
        return wanted in {"latest", entry.checkpoint_id, entry.step}

    found = next((entry for entry in reversed(entries) if fits(entry)), None)
    if found is None:
        names = ", ".join(entry.checkpoint_id for entry in entries[-5:]) or "none"
        raise NotFoundError(
            f"checkpoint {ascii(wanted)[:140]} is not among the committed ones in {store.storage.url}; "
            f"the newest are: {names}"
        )
    return found
