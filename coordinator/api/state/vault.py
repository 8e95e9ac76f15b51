"""What only the store knows of checkpoints: where they lie, which tier has them, which were read again and are whole.

It reads HEAD now and then, and a whole checkpoint when somebody asks. It writes nothing but HEAD's note of which one
was last found whole. All of it happens on a thread of its own: reading gigabytes must not delay an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, TypeVar

from strata_zmq.checkpoint.background import BackgroundLoop
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.checkpoint.verify import VerifyReport, verify
from strata_zmq.domain.manifest import Head
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, StrataError
from strata_zmq.storage import check_place, open_storage
from strata_zmq.storage.options import places_of

from .ports import VaultRow

__all__ = ["Vault"]

_LOOK_S = 5.0
_LOOK_MAX_S = 60.0
_DAMAGE_TOLD = 5
_log = logging.getLogger("strata.vault")
T = TypeVar("T")


class Vault:
    """The checkpoints at a place: a folder, s3://bucket/prefix, or NEAR,FAR. Nothing is opened before `running`."""

    def __init__(self, place: str, *, clock: Callable[[], float] = time.time, look_s: float = _LOOK_S) -> None:
        check_place(place)
        self._places = places_of(place)
        if not 1 <= len(self._places) <= 2:
            raise InvalidArgumentError(f"--store is {place[:96]!r}: give one place, or two as NEAR,s3://BUCKET/FAR")
        self.version = 0
        self._clock, self._look_s = clock, look_s
        self._thread = BackgroundLoop("strata-vault")
        self._stores: list[CheckpointStore] = []
        """The near one first."""
        self._rows: dict[str, VaultRow] = {}
        self._found: dict[str, tuple[bool, float]] = {}
        """By checkpoint, whether it was found whole here, and when."""
        self._verifying = ""

    def rows(self) -> Mapping[str, VaultRow]:
        """Return what is known, by checkpoint id."""
        return self._rows

    async def verify(self, checkpoint_id: str) -> None:
        """Read a checkpoint again, one at a time; one that is damaged is no error here, and shows."""
        if self._verifying:
            raise AlreadyExistsError(
                f"{self._verifying} is being read: one checkpoint at a time, try again when that has ended"
            )
        self._verifying = checkpoint_id
        try:
            report = await self._on_thread(self._verify(checkpoint_id))
            whole = report.ok and report.complete
            self._found[checkpoint_id] = (whole, self._clock())
            for key, reason in report.damaged[:_DAMAGE_TOLD]:
                _log.error("%s is damaged: %s: %s", checkpoint_id, key, reason)
            if whole:
                _log.info("%s is whole: %d bytes in %d objects", checkpoint_id, report.bytes, report.objects)
            await self._look()
        finally:
            self._verifying = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at the store now and then while the block runs."""
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            with suppress(StrataError, OSError):
                await self._on_thread(self._close())
            await asyncio.to_thread(self._thread.stop)

    # ---- in the API's loop -------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        wait_s, level = self._look_s, logging.WARNING
        while True:
            try:
                await self._look()
                wait_s, level = self._look_s, logging.WARNING
            except (StrataError, OSError) as error:
                _log.log(level, "the checkpoints cannot be looked at: %s; trying again", error)
                wait_s, level = min(_LOOK_MAX_S, 2 * wait_s), logging.DEBUG  # once is enough
            await asyncio.sleep(wait_s)

    async def _look(self) -> None:
        heads, paths = await self._on_thread(self._read_heads())
        rows = self._rows_of(heads, paths)
        if rows != self._rows:
            self._rows = rows
            self.version += 1
        self._found = {name: found for name, found in self._found.items() if name in rows}

    def _rows_of(self, heads: list[Head], paths: Mapping[str, str]) -> dict[str, VaultRow]:
        near, far = heads[0], heads[1] if len(heads) > 1 else None
        copied = {entry.checkpoint_id for entry in far.retained} if far is not None else set()
        rows = {}
        for head in heads[::-1]:  # what the near one says stands
            for entry in head.retained:
                name = entry.checkpoint_id
                whole, at = self._found.get(name, (None, None))
                if whole is None and name in (near.verified, far.verified if far is not None else ""):
                    whole = True  # somebody else has found it so, and has not said when
                tier: Literal["near", "far"] | None = None
                if far is not None:
                    tier = "far" if name in copied else "near"
                rows[name] = VaultRow(
                    path=paths[name],
                    kind=entry.kind,
                    tier=tier,
                    verified=whole,
                    verified_at=at,
                    pinned=name in head.pins,
                )
        return rows

    async def _on_thread(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(work))

    # ---- on the store's thread ---------------------------------------------------------------------------------------

    async def _open(self) -> list[CheckpointStore]:
        """Return each place by itself: together, they would take over from each other what this one only looks at."""
        if not self._stores:
            self._stores = [CheckpointStore(open_storage(place)) for place in self._places]
        return self._stores

    async def _read_heads(self) -> tuple[list[Head], dict[str, str]]:
        stores = await self._open()
        heads = [await store.head() for store in stores]
        paths = {
            entry.checkpoint_id: store.path(entry.checkpoint_id)
            for store, head in reversed(list(zip(stores, heads, strict=True)))
            for entry in head.retained
        }
        return heads, paths

    async def _verify(self, checkpoint_id: str) -> VerifyReport:
        for store in await self._open():
            for entry in await store.entries():
                if entry.checkpoint_id == checkpoint_id:
                    return await verify(store, entry)
        raise NotFoundError(f"{checkpoint_id} is not in the store's HEAD: only what is durable there can be read again")

    async def _close(self) -> None:
        for store in self._stores:
            await store.storage.close()
        self._stores = []
