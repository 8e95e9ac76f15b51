"""Whether a checkpoint is whole: every record and chunk read and compared with its digest, and all damage told.

It changes nothing but HEAD's note of which checkpoint was last found whole.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strata_zmq.checkpoint.reading import MEMORY_BUDGET_BYTES, Budget, ChunkWork, read_chunks
from strata_zmq.checkpoint.tree import rebuild
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, StrataError

if TYPE_CHECKING:
    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import ChunkRecord, HeadEntry

__all__ = ["VerifyReport", "note_whole", "verify"]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read of a checkpoint: `objects` (records and packs), `chunks` and their `bytes`, all that were good.

    `damaged` lists (key, reason) of everything that is missing or damaged; `complete` says whether all was looked at.
    """

    checkpoint_id: str
    objects: int
    chunks: int
    bytes: int
    damaged: tuple[tuple[str, str], ...]
    complete: bool

    @property
    def ok(self) -> bool:
        """Whether everything that was looked at is good."""
        return not self.damaged


async def verify(
    store: CheckpointStore,
    entry: HeadEntry,
    *,
    sample: float = 1.0,
    memory_budget_bytes: int = MEMORY_BUDGET_BYTES,
) -> VerifyReport:
    """Read a checkpoint, all records and a share `sample` of the chunks, chosen by chance; damage is no error here.

    One that is good as a whole is noted in HEAD: retention keeps it until a newer one was found good, too. Of two tiers
    it is about the near one.
    """
    if type(sample) not in {float, int} or not 0 <= sample <= 1:
        raise InvalidArgumentError(f"sample is {ascii(sample)[:48]}: give a share from 0 to 1")
    budget = Budget(memory_budget_bytes)
    store = store.here
    damaged: dict[str, str] = {}
    chunks: dict[tuple[str, int], ChunkRecord] = {}
    objects = 0
    try:
        manifest = await store.read_manifest(entry)
        objects += 1
    except CheckpointCorruptError as error:
        return VerifyReport(entry.checkpoint_id, 0, 0, 0, ((entry.manifest_key, str(error)),), complete=False)
    for rank in manifest.ranks:
        try:
            index = await store.read_rank_index(manifest, rank.rank)
            rebuild(index.skeleton, [None] * len(index.tensors), f"rank {rank.rank} of {entry.checkpoint_id}")
        except CheckpointCorruptError as error:
            damaged[rank.index_key] = str(error)
            continue
        objects += 1
        # Several ranks, and several places of one, may have their bytes from the same chunk.
        chunks.update({(chunk.key, chunk.offset): chunk for chunk in index.chunks})
    read = [ChunkWork(chunk) for chunk in chunks.values() if sample >= 1 or random.random() < sample]  # noqa: S311

    def note(chunk: ChunkRecord, error: CheckpointCorruptError) -> None:
        damaged.setdefault(chunk.key, str(error))

    good = await read_chunks(store, read, budget=budget, damaged=note)
    objects += len({work.chunk.key for work in read} - set(damaged))
    complete = len(read) == len(chunks) and not damaged
    if complete:
        await note_whole(store, entry.checkpoint_id)
    found = tuple(sorted(damaged.items()))
    return VerifyReport(entry.checkpoint_id, objects, len(read), good, found, complete=len(read) == len(chunks))


async def note_whole(store: CheckpointStore, checkpoint_id: str) -> None:
    """Have HEAD note that a checkpoint was read whole, unless it says so of a newer one.

    Where that cannot be written, by a reader without the right to, for example, nothing is lost but the note.
    """
    with contextlib.suppress(StrataError):
        head = await store.head()
        order = [one.checkpoint_id for one in head.retained]
        noted = order.index(head.verified) if head.verified in order else -1
        if checkpoint_id in order and order.index(checkpoint_id) > noted:
            await store.note_verified(checkpoint_id)
