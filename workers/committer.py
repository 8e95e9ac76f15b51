"""A storage writer's line to the coordinator: what HEAD holds, and commits performed because the coordinator decided.

It owns no bytes and no sockets of the data plane.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from strata_zmq.checkpoint.background import BackgroundLoop
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.errors import StrataError
from strata_zmq.protocol import messages as wire

from .checkpoint_commit import manifest_of, retention_of, summary_of, tidy
from .client import CoordinatorClient

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Committer"]

log = logging.getLogger("strata.writer")

_HEARTBEAT = wire.Heartbeat(state="IDLE")
_HEAD_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 10.0


class Committer:
    """One writer's connection to the coordinator. Storage work runs on `background`."""

    def __init__(
        self, url: str, writer: wire.WriterInfo, store: CheckpointStore, background: BackgroundLoop, job: str = ""
    ) -> None:
        self._writer = writer
        self._store = store
        self._background = background
        self._lock = threading.Lock()
        self._under_way = 0
        self._order = asyncio.Lock()
        self._head = background.run(store.head())
        self.client = CoordinatorClient(
            url,
            role="writer",
            job=job,
            introduce=self._registration,
            heartbeat=lambda: _HEARTBEAT,
            on_message=self._on_message,
        )

    @property
    def idle(self) -> bool:
        """Whether no commit is under way."""
        with self._lock:
            return self._under_way == 0

    def close(self) -> None:
        """End the connection."""
        self.client.close()

    def _registration(self) -> wire.RegisterWriter:
        # Other writers advance HEAD, too: what is reported has to be the present one.
        try:
            self._head = self._background.submit(self._store.head()).result(_HEAD_TIMEOUT_S)
        except (StrataError, TimeoutError) as error:
            log.warning("HEAD cannot be read, the last known one is reported: %s", error)
        return wire.RegisterWriter(
            writer=self._writer,
            pid=os.getpid(),
            hostname=socket.gethostname(),
            store=self._store.storage.url,
            head_term=self._head.term,
            checkpoints=[summary_of(entry) for entry in self._head.retained],
            head_version=self._head.version,
        )

    def _on_message(self, message: wire.Reply) -> None:
        if isinstance(message, wire.CommitCheckpoint):
            with self._lock:
                self._under_way += 1
            self._background.submit(self._commit(message)).add_done_callback(self._finished)

    def _finished(self, done: Future[None]) -> None:
        with self._lock:
            self._under_way -= 1
        if not done.cancelled() and done.exception() is not None:
            log.error("a commit failed unexpectedly", exc_info=done.exception())

    async def _commit(self, message: wire.CommitCheckpoint) -> None:
        async with self._order:
            try:
                manifest = manifest_of(message)
                commit = await self._store.commit(manifest, retention_of(message), pinned=message.pinned)
            except StrataError as error:
                log.warning("checkpoint %s was not committed: %s", message.checkpoint_id, error)
                self.client.submit(
                    wire.CheckpointFailed(
                        checkpoint_id=message.checkpoint_id, code=error.code, message=str(error)[:4096]
                    )
                )
                return
            self._head = commit.head
            log.info("committed %s: step %d, %d bytes", message.checkpoint_id, message.step, manifest.size_bytes)
            told = self.client.submit(
                wire.CheckpointCommitted(
                    checkpoint=summary_of(commit.entry),
                    retained=[entry.checkpoint_id for entry in commit.head.retained],
                    head_version=commit.head.version,
                )
            )
            try:
                await tidy(self._store, commit)
            except StrataError as error:
                log.warning("old checkpoint files could not be deleted: %s", error)
            # A writer that is about to end stays until the coordinator has heard; if it does not, HEAD tells it later.
            with suppress(StrataError, TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(told), _ANSWER_TIMEOUT_S)
