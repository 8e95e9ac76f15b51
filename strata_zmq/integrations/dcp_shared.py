"""What writer and reader of torch's checkpoints share: the opened store, and the tree that each rank's index holds.

A rank's tree is {"state": {name: [part, ...]}}; that of torch's coordinator has torch's description beside it. It knows
neither plans nor bytes.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.background import BackgroundLoop
from strata_zmq.checkpoint.tiers import TieredStore, open_store
from strata_zmq.checkpoint.tree import flatten, rebuild
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import RankIndex

__all__ = ["MARK", "Opened", "parts_in", "skeleton_of", "tree_of"]

MARK = "torch_dcp"
"""Under this name the manifest's metadata says which rank's index holds torch's description, and that index has it."""

_COPY_TIMEOUT_S = 300.0
_STAND_IN = np.empty(0, np.uint8)


class Opened:
    """A checkpoint store and the thread that works for it; opened when first needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._store: CheckpointStore | None = None
        self.loop = BackgroundLoop("strata-dcp")
        weakref.finalize(self, self.loop.stop).atexit = False

    @property
    def store(self) -> CheckpointStore:
        """The store."""
        if self._store is None:
            self._store = open_store(self._path)
        return self._store

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` on the thread and wait for its result."""
        return self.loop.run(work)

    def close(self) -> None:
        """End the thread and let connections go; the next use starts them anew."""
        store, self._store = self._store, None
        if store is not None:
            self.loop.run(_let_go(store))
        self.loop.stop()


async def _let_go(store: CheckpointStore) -> None:
    if isinstance(store, TieredStore):
        await store.finish(_COPY_TIMEOUT_S)
    await store.storage.close()


def skeleton_of(parts: dict[str, int], metadata: dict[str, Any] | None = None) -> Any:
    """Return the skeleton of {"state": {name: [part, ...]}}, and torch's description beside it."""
    state = {fqn: [_STAND_IN] * count for fqn, count in parts.items()}
    skeleton, leaves = flatten({"state": state} if metadata is None else {"state": state, MARK: metadata})
    if len(leaves) != sum(parts.values()):
        raise InvalidArgumentError(
            f"the planner's data holds an array or long bytes ({leaves[-1].path}), which cannot be kept in the plan: "
            "keep it in the state"
        )
    return skeleton


def tree_of(index: RankIndex, name: str) -> Any:
    """Return a rank's tree with the numbers of its arrays in their places."""
    tree = rebuild(index.skeleton, range(len(index.tensors)), name)
    if not isinstance(tree, dict) or not isinstance(tree.get("state"), dict):
        raise CheckpointCorruptError(f"rank {index.rank} of {name} holds no state of torch.distributed.checkpoint")
    return tree


def parts_in(index: RankIndex) -> dict[str, int]:
    """Return how many parts a rank holds under each name."""
    return {fqn: len(parts) for fqn, parts in tree_of(index, "the draft")["state"].items()}
