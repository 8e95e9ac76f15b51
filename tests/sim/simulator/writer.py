"""A simulated storage writer: it registers with what HEAD holds and commits what the coordinator decides.

The checkpoint store is the real one; only the bytes lie in memory.
"""

from __future__ import annotations

import json
import random
from collections import deque
from typing import Any

from strata_zmq.checkpoint.store import CheckpointStore, Commit
from strata_zmq.domain.manifest import HeadEntry, Manifest, RankEntry, save_order
from strata_zmq.errors import StrataError
from strata_zmq.protocol import messages as wire

from .network import Network
from .process import Process
from .storage import MemoryStorage, drive, finished
from .timeline import Timeline
from .transcript import Transcript

__all__ = ["Writer"]


class Writer:
    """One life of a storage writer."""

    def __init__(
        self,
        name: str,
        life: int,
        storage: MemoryStorage,
        timeline: Timeline,
        network: Network,
        rng: random.Random,
        transcript: Transcript,
    ) -> None:
        self.name = name
        self._life = life
        self._timeline = timeline
        self._transcript = transcript
        self._store = CheckpointStore(storage)
        self._orders: deque[wire.CommitCheckpoint] = deque()
        self._busy = False
        self._registration: wire.RegisterWriter | None = None
        self.process = Process(
            name,
            wire.Hello(role="writer"),
            timeline,
            network,
            rng,
            transcript,
            introduce=self._introduce,
            heartbeat=wire.Heartbeat,
            on_message=self._on_message,
        )

    def _introduce(self) -> wire.RegisterWriter:
        head = finished(self._store.head())
        return wire.RegisterWriter(
            writer=wire.WriterInfo(self.name, f"{self.name}.{self._life}", "ipc:///data", "ipc:///control"),
            pid=self._life,
            head_term=head.term,
            checkpoints=[_summary(entry) for entry in head.retained],
            head_version=head.version,
        )

    def _on_message(self, message: wire.Reply) -> None:
        if isinstance(message, wire.CommitCheckpoint):
            self._orders.append(message)
            self._next()

    def _next(self) -> None:
        if self._busy or not self._orders:
            return
        self._busy = True
        order = self._orders.popleft()

        def done(commit: Commit | None, error: StrataError | None) -> None:
            self._busy = False
            if commit is not None:
                self._transcript.tell(self._timeline.now, self.name, f"HEAD reaches {order.checkpoint_id}")
                self.process.conversation.submit(
                    wire.CheckpointCommitted(
                        checkpoint=_summary(commit.entry),
                        retained=[entry.checkpoint_id for entry in commit.head.retained],
                        head_version=commit.head.version,
                    )
                )
                drive(self._tidy(commit), self._timeline, self._alive, lambda nothing, failure: None)
            elif error is not None:
                self.process.conversation.submit(
                    wire.CheckpointFailed(checkpoint_id=order.checkpoint_id, code=error.code, message=str(error)[:4096])
                )
            self._next()

        drive(self._store.commit(_manifest(order), order.keep_count), self._timeline, self._alive, done)

    async def _tidy(self, commit: Commit) -> None:
        for checkpoint_id in commit.dropped:
            await self._store.discard(checkpoint_id)
        fence = (commit.head.generation, commit.head.step)
        for checkpoint_id in await self._store.unreachable():
            order = save_order(checkpoint_id)
            if order is not None and order < fence:
                await self._store.discard(checkpoint_id)

    def _alive(self) -> bool:
        return not self.process.dead


def _manifest(order: wire.CommitCheckpoint) -> Manifest:
    saved = save_order(order.checkpoint_id)
    ledger: dict[str, Any] = json.loads(order.ledger)
    return Manifest(
        checkpoint_id=order.checkpoint_id,
        step=order.step,
        epoch=order.epoch,
        term=order.term,
        generation=saved[0] if saved is not None else order.generation,
        created_at=order.created_at,
        ranks=tuple(
            RankEntry(entry.rank, entry.worker_id, entry.index_key, entry.digest, entry.size_bytes)
            for entry in order.ranks
        ),
        kind="FULL",
        metadata=order.metadata,
        ledger=ledger,
    )


def _summary(entry: HeadEntry) -> wire.CheckpointSummary:
    return wire.CheckpointSummary(
        checkpoint_id=entry.checkpoint_id,
        step=entry.step,
        epoch=entry.epoch,
        size_bytes=entry.size_bytes,
        created_at=entry.created_at,
        world_size=entry.world_size,
    )
