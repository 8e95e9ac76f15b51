"""CheckpointManager: what training code uses to save, list and load checkpoints, with or without a cluster.

It owns the published face and its argument checks. How a save goes on in the background is the saver's; what a
checkpoint is, the store's.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from strata_zmq.checkpoint.choosing import choose
from strata_zmq.checkpoint.chunks import CHUNK_BYTES, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN
from strata_zmq.checkpoint.codec import Codec
from strata_zmq.checkpoint.reading import MEMORY_BUDGET_BYTES
from strata_zmq.checkpoint.restore import Choice, RestoreReport, Wanted, restore_choice, warn_of_fallback
from strata_zmq.checkpoint.rng import capture
from strata_zmq.checkpoint.rng import restore as restore_rng
from strata_zmq.checkpoint.saver import ARENAS, BackgroundSaver, Saving, WhenBusy, check_when_busy
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.checkpoint.tiers import TieredStore, open_store
from strata_zmq.checkpoint.tree import plain_skeleton
from strata_zmq.checkpoint.verify import VerifyReport, verify
from strata_zmq.domain.manifest import check_metrics
from strata_zmq.domain.names import check_metadata, check_not_negative, check_positive
from strata_zmq.domain.retention import KEEP_COUNT_MAX, Retention
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError
from strata_zmq.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    import numpy as np

    from strata_zmq.checkpoint.codec import Compression
    from strata_zmq.checkpoint.handle import SaveHandle
    from strata_zmq.domain.manifest import HeadEntry, Kind

__all__ = ["CheckpointInfo", "CheckpointManager"]

_STEP_MAX = 2**62
_TIMEOUT_S = 300.0
_KEEP_COUNT = 5
_BYTES_MAX = 2**62


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One committed checkpoint. `size_bytes` counts all ranks' chunks; `created_at` is in Unix seconds."""

    checkpoint_id: str
    step: int
    epoch: int
    path: str
    size_bytes: int
    created_at: float
    world_size: int = 1


class CheckpointManager:
    """Saves training state into a folder without stopping the training, and gets it back bit by bit.

    A state is any tree of dicts, lists and tuples that holds NumPy arrays, torch tensors, numbers, text, bytes, None,
    or objects with a `state_dict()` (these come back as the dict that it returned). `save` copies the state and
    returns; a background thread writes, and one small write at the end makes the checkpoint exist. The newest
    `keep_count` are kept. Checkpoints that a cluster wrote into the folder are listed and loaded alike, rank by rank.

    `path` is a folder (made when first needed), `s3://bucket/prefix`, both as `FOLDER,s3://bucket/prefix` (saved into
    the folder, and copied from there in the background: a handle's `tiers` tell of each), or an open Storage. What is
    kept is `retention`, or simply the last `keep_count`. Chunks that the save before has stored already are referred
    to, not written again, unless `references` is off. `compression` is "zstd", or "auto" for where the storage is
    slower than the compressor; float32 weights shrink by less than a tenth.

    Up to `arenas` states are staged at once, in memory that is made with the first saves, or before them where
    `reserve_bytes` says how large a state will be. A save that finds them all in use waits (`when_busy="block"`), is
    skipped ("skip"), or takes the place of the newest one that is not being written yet ("supersede").

    What fails for a moment is tried again, three times. Errors of a background save are raised by the next `save`, by
    `wait_pending` or by `close`; without `strict` no call raises them: they are logged, and in the save's handle.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Storage,
        keep_count: int = _KEEP_COUNT,
        compression: Compression | None = None,
        *,
        retention: Retention | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        when_busy: WhenBusy = "block",
        arenas: int = ARENAS,
        reserve_bytes: int = 0,
        references: bool = True,
        strict: bool = True,
    ) -> None:
        check_positive("keep_count", keep_count, KEEP_COUNT_MAX)
        if retention is not None and keep_count not in {_KEEP_COUNT, retention.keep_count}:
            raise InvalidArgumentError(
                f"keep_count is {keep_count}, that of retention is {retention.keep_count}: give one of them"
            )
        if not check_positive("chunk_bytes", chunk_bytes, CHUNK_BYTES_MAX) >= CHUNK_BYTES_MIN:
            raise InvalidArgumentError(f"chunk_bytes is {chunk_bytes}, the least is {CHUNK_BYTES_MIN}")
        check_not_negative("reserve_bytes", reserve_bytes, _BYTES_MAX)
        self._when_busy = check_when_busy(when_busy)
        codec = Codec.for_name(compression)
        owns = isinstance(path, (str, os.PathLike))
        if not owns and not isinstance(path, Storage):
            raise InvalidArgumentError(f"path is a {type(path).__name__}: give the path of a folder")
        self._store = open_store(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else CheckpointStore(path)
        how = Saving(chunk_bytes, codec, arenas, strict, references, _tiers(self._store), owns)
        self._saver = BackgroundSaver(self._store, retention or Retention(keep_count), how)
        if reserve_bytes:
            self._saver.reserve(reserve_bytes)
        self._last: RestoreReport | None = None
        # A manager that is simply dropped still finishes its saves.
        self._finalizer = weakref.finalize(self, self._saver.close_reporting)
        self._finalizer.atexit = False

    @property
    def last_restore(self) -> RestoreReport | None:
        """What the last `load` found: the manifest (step, epoch, metadata, ledger) and what was skipped."""
        return self._last

    def save(
        self,
        data: object,
        step: int,
        epoch: int,
        metadata: Mapping[str, str] | None = None,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> str:
        """Copy `data`, start to write it, and return the new checkpoint's id.

        On return the caller may change `data`. The call waits (at most `timeout_s`) only while earlier saves are still
        being written and all staging memory is in use. `metadata` holds at most 64 texts of at most 1024 characters.
        """
        return self.save_handle(data, step, epoch, metadata, timeout_s=timeout_s).checkpoint_id

    def save_handle(
        self,
        data: object,
        step: int,
        epoch: int,
        metadata: Mapping[str, str] | None = None,
        *,
        metrics: Mapping[str, float] | None = None,
        kind: Kind = "FULL",
        rng: bool = False,
        generators: Sequence[np.random.Generator] = (),
        when_busy: WhenBusy | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> SaveHandle:
        """`save`, and more: returns a handle that tells how far the save has come.

        `metrics` are at most 64 finite numbers, by which a best checkpoint is chosen. With `rng` the states of the
        process's random number generators are saved, too, and those of `generators`. `kind` says what part of the
        training state it is; a full one that refers to chunks of others is recorded as INCREMENTAL.
        """
        check_not_negative("step", step, _STEP_MAX)
        check_not_negative("epoch", epoch, _STEP_MAX)
        return self._saver.save(
            data,
            step=step,
            epoch=epoch,
            metadata=check_metadata("metadata", metadata) if metadata is not None else {},
            metrics=check_metrics(metrics) if metrics is not None else {},
            kind=kind,
            rng=plain_skeleton(capture(generators)) if rng else None,
            when_busy=self._when_busy if when_busy is None else check_when_busy(when_busy),
            timeout_s=timeout_s,
        )

    def reserve(self, nbytes: int) -> Future[None]:
        """Make staging memory for states of `nbytes` bytes ready in the background, before the first save needs it."""
        return self._saver.reserve(check_not_negative("nbytes", nbytes, _BYTES_MAX))

    def load(
        self,
        step: str | int | None = "latest",
        *,
        rank: int = 0,
        world: int | None = None,
        into: Any = None,
        names: Sequence[str] | None = None,
        metric: str = "",
        mode: Literal["min", "max"] = "min",
        as_numpy: bool = False,
        rng: bool = False,
        generators: Sequence[np.random.Generator] = (),
        memory_budget_bytes: int = MEMORY_BUDGET_BYTES,
    ) -> Any:
        """Return the state of a checkpoint: a step's, an id's, "latest" (or None), or "best" by `metric` and `mode`.

        Every byte is checked. A checkpoint given by step or id that is damaged is a CheckpointCorruptError; where the
        latest or best is damaged, the next good one is loaded, a CheckpointFallbackWarning says so, and
        `last_restore.skipped` lists what was passed over. Saves of this manager that are still being written are waited
        for first.

        `rank` picks one rank of a checkpoint that several saved. Where `world`, the number of ranks that load, is
        another than that which saved, each gets its share of every array that was saved as Sharded, and what all had
        in common. `into` is a tree of arrays like the state, None where nothing is given: they are filled in place,
        and are what is returned at their places. `names` are patterns such as `["model.*"]`: only what they match is
        read and returned. With `as_numpy` torch tensors come back as NumPy arrays. Beside the state at most
        `memory_budget_bytes` of memory are used. With `rng` the process's random number generators, and `generators`,
        go on from where they were when the state was saved.
        """
        check_not_negative("rank", rank, _STEP_MAX)
        self._saver.wait(_TIMEOUT_S)
        choice = Choice("latest" if step is None else step, metric, mode)
        wanted = Wanted(rank, world, as_numpy, into, names, rng, memory_budget_bytes)
        try:
            found = self._saver.run(restore_choice(self._store, choice, wanted))
        except CheckpointCorruptError:
            self._saver.forget_parent()
            raise
        if found.report.skipped:
            # What is damaged is not referred to again.
            self._saver.forget_parent()
        if rng:
            restore_rng(found.rng, generators)
        warn_of_fallback(found.report, choice)
        self._last = found.report
        return found.data

    def verify(self, step: str | int = "latest", *, sample: float = 1.0) -> VerifyReport:
        """Read a checkpoint, given by step, by id or as "latest", and report all that is missing or damaged.

        All records are read and a share `sample` of the chunks. What is whole is kept until a newer one was found so.
        """

        async def look() -> VerifyReport:
            entry = (await choose(self._store, Choice(step)))[0]
            return await verify(self._store, entry, sample=sample)

        found = self._saver.run(look())
        if not found.ok:
            # What is damaged is not referred to again.
            self._saver.forget_parent()
        return found

    def latest(self) -> CheckpointInfo | None:
        """Return the checkpoint that was committed last, or None."""
        return next(reversed(self.all_checkpoints()), None)

    def get_by_step(self, step: int) -> CheckpointInfo | None:
        """Return the newest checkpoint of `step`, or None."""
        return next((info for info in reversed(self.all_checkpoints()) if info.step == step), None)

    def all_checkpoints(self) -> list[CheckpointInfo]:
        """Return the committed checkpoints, oldest first; saves still being written are not among them."""
        return [self._info(entry) for entry in self._saver.run(self._store.entries())]

    def pin(self, checkpoint_id: str) -> None:
        """Keep a checkpoint whatever the retention says; NotFoundError if it is not committed."""
        self._saver.run(self._store.set_pins(add=[checkpoint_id]))

    def unpin(self, checkpoint_id: str) -> None:
        """Leave a checkpoint to the retention again: the next save may retire it."""
        self._saver.run(self._store.set_pins(remove=[checkpoint_id]))

    def wait_pending(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Wait until every save is committed and retired ones are deleted.

        Raises the first error of a background save, or DeadlineExceededError that names what is not done.
        """
        self._saver.wait(timeout_s)

    async def save_async(
        self,
        data: object,
        step: int,
        epoch: int,
        metadata: Mapping[str, str] | None = None,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> str:
        """`save` without holding up the event loop; `data` must stay unchanged until it returns."""
        return await asyncio.to_thread(self.save, data, step, epoch, metadata, timeout_s=timeout_s)

    async def load_async(self, step: str | int | None = "latest", **options: Any) -> Any:
        """`load`, with its options, without holding up the event loop."""
        return await asyncio.to_thread(self.load, step, **options)

    async def wait_pending_async(self, timeout_s: float = _TIMEOUT_S) -> None:
        """`wait_pending` without holding up the event loop."""
        await asyncio.to_thread(self.wait_pending, timeout_s)

    def close(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Finish what is under way and free memory and thread; raises as `wait_pending` does. Again is harmless."""
        self._saver.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # The error of the block is the one to be seen; that of a save is logged.
            self._saver.close_reporting()

    def _info(self, entry: HeadEntry) -> CheckpointInfo:
        return CheckpointInfo(
            checkpoint_id=entry.checkpoint_id,
            step=entry.step,
            epoch=entry.epoch,
            path=self._store.path(entry.checkpoint_id).rstrip("/"),
            size_bytes=entry.size_bytes,
            created_at=entry.created_at,
            world_size=entry.world_size,
        )


def _tiers(store: CheckpointStore) -> tuple[str, ...]:
    if isinstance(store, TieredStore):
        return "local", "remote"
    return ("remote" if store.storage.url.startswith("s3://") else "local",)
