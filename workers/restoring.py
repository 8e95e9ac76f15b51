"""Loading a committed checkpoint into what a worker tracks, and taking the data position back with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.storage import default_place

if TYPE_CHECKING:
    from .session import WorkerSession
    from .tracked import Tracked

__all__ = ["restore_tracked"]

_BEGINNING = json.dumps({"epoch": 0, "commit_index": 0, "datasets": {}}).encode()


def restore_tracked(
    state: Tracked,
    connect: Callable[[], WorkerSession],
    path: str | os.PathLike[str] | None,
    step: str | int | None,
    *,
    rng: bool = False,
) -> str | None:
    """Load the checkpoint of this step or id (None: the latest that is whole); return its id, None if there is none."""
    from strata_zmq.checkpoint.manager import CheckpointManager

    if not state:
        raise InvalidArgumentError("restore_checkpoint: nothing is tracked; call track(model=..., optimizer=...) first")
    place = path or default_place()
    if not place:
        raise InvalidArgumentError("restore_checkpoint: no path is given and STRATA_CHECKPOINT_PATH is not set")
    session = connect()
    with CheckpointManager(place) as manager:
        known = manager.all_checkpoints()
        if not known and step is None:
            # A state that nothing was loaded into belongs to the beginning of history.
            session.restore("beginning", _BEGINNING)
            return None
        world_size = next((one.world_size for one in known if step in {one.checkpoint_id, one.step}), 0)
        rank = session.membership.rank % (world_size or known[-1].world_size) if known else 0
        state.load(manager.load(step, rank=rank, rng=rng))
        report = manager.last_restore
    if report is None:
        return None
    manifest = report.manifest
    if manifest.ledger is not None:
        session.restore(manifest.checkpoint_id, json.dumps(manifest.ledger).encode())
    else:
        # Saved without a coordinator: it belongs to no history, and training goes on from it all the same.
        session.remembered = None
    return manifest.checkpoint_id
