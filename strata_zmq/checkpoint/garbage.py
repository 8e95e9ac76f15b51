"""What HEAD does not reach: found, told from saves under way, and deleted so that nobody can refer to it again.

It knows folders and HEAD; never who saves, or by which rule a checkpoint was retired.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from strata_zmq.domain.manifest import save_order, save_term
from strata_zmq.domain.retention import reachable
from strata_zmq.errors import CheckpointCorruptError, NotFoundError
from strata_zmq.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import Head, HeadEntry

__all__ = ["Intent", "collect", "delete_folder", "is_past", "unreachable"]

Intent = dict[str, str | int] | None
"""What a writer declared about itself, if it did."""


def is_past(head: Head, checkpoint_id: str) -> bool:
    """Say whether the fence keeps a save under a coordinator from ever being committed, as its id tells."""
    term, order = save_term(checkpoint_id), save_order(checkpoint_id)
    return term is not None and order is not None and term <= head.term and order < (head.generation, head.step)


async def unreachable(store: CheckpointStore) -> dict[str, Intent]:
    """Return the ids that are stored and not reached, in ascending order, each with its intent."""
    begin = len(store.folders)
    # Keys first, HEAD second: what is committed in between is then seen in HEAD.
    keys = await store.storage.list(store.folders)
    reached = reachable((await store.head()).retained)
    found = sorted({key[begin:].partition("/")[0] for key in keys} - reached)
    return {checkpoint_id: await _intent(store, checkpoint_id) for checkpoint_id in found}


async def collect(
    store: CheckpointStore, in_flight: Collection[str], gone: Callable[[Intent], bool] | None
) -> list[str]:
    """Delete what HEAD does not reach and nobody is writing; returns the ids that are gone."""
    failpoint("gc.before")
    found = [
        checkpoint_id
        for checkpoint_id, intent in (await unreachable(store)).items()
        if checkpoint_id not in in_flight and (gone is None or gone(intent))
    ]
    # A save may be committed at this moment, by somebody who is not known here: buried, it cannot be.
    buried = await store.bury(found)
    for checkpoint_id in buried:
        await delete_folder(store, checkpoint_id)
    for entry in (await store.head()).retained:
        await _delete_strays(store, entry)
    await store.sweep()
    failpoint("gc.after")
    return buried


async def delete_folder(store: CheckpointStore, checkpoint_id: str) -> None:
    """Delete everything of a checkpoint, its intent last; again is harmless."""
    folder = store.folder(checkpoint_id)
    intent = f"{folder}intent"
    # Indexes and manifest first: what is half deleted must not look complete to a commit.
    keys = [key for key in await store.storage.list(folder) if key != intent]
    records = [key for key in keys if key[len(folder) :].rpartition("/")[2].startswith(("index-", "manifest-"))]
    await store.storage.delete_many(records)
    failpoint("gc.folder.half")
    await store.storage.delete_many([key for key in keys if key not in set(records)])
    await store.storage.sweep(folder, older_than_s=0.0)
    # Last, so that an interrupted deletion can still be told from a save in flight.
    await store.storage.delete(intent)


async def _delete_strays(store: CheckpointStore, entry: HeadEntry) -> None:
    """Delete packs in a checkpoint's folder that none of its indexes names, where a writer finished it for the dead.

    What other writers had stored by then is in nobody's index. Whoever refers to this checkpoint took it from there.
    """
    with suppress(CheckpointCorruptError):
        manifest = await store.read_manifest(entry)
        if any(rank.drained for rank in manifest.ranks):
            keys = await store.storage.list(store.folder(entry.checkpoint_id))
            named = {
                chunk.key
                for rank in range(manifest.world_size)
                for chunk in (await store.read_rank_index(manifest, rank)).chunks
            }
            packs = [key for key in keys if key.rpartition("/")[2].startswith(("pack-", "chunk-"))]
            await store.storage.delete_many([key for key in packs if key not in named])


async def _intent(store: CheckpointStore, checkpoint_id: str) -> Intent:
    try:
        found = json.loads(await store.storage.get(f"{store.folder(checkpoint_id)}intent"))
    except (NotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
