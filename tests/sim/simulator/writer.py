"""A simulated storage writer: it registers with what HEAD holds and commits what the coordinator decides.

The checkpoint store is the real one; only the bytes lie in memory.
"""

from __future__ import annotations

import json
import random
from collections import deque

from strata_zmq.checkpoint.store import CheckpointStore, Commit
from strata_zmq.errors import StrataError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.checkpoint_commit import manifest_of, retention_of, summary_of, tidy

from .network import Network
from .process import Process
from .storage import MemoryStorage, drive, finished
from .timeline import Timeline
from .training import Will
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
        self._storage = storage
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
            checkpoints=[summary_of(entry) for entry in head.retained],
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
        manifest = manifest_of(order)

        def done(commit: Commit | None, error: StrataError | None) -> None:
            self._busy = False
            if commit is not None:
                self._transcript.tell(self._timeline.now, self.name, f"HEAD reaches {order.checkpoint_id}")
                self.process.conversation.submit(
                    wire.CheckpointCommitted(
                        checkpoint=summary_of(commit.entry),
                        retained=[entry.checkpoint_id for entry in commit.head.retained],
                        head_version=commit.head.version,
                    )
                )
                drive(tidy(self._store, commit), self._timeline, self._alive, lambda nothing, failure: None)
            elif error is not None:
                self.process.conversation.submit(
                    wire.CheckpointFailed(checkpoint_id=order.checkpoint_id, code=error.code, message=str(error)[:4096])
                )
            self._next()

        drive(self._store.commit(manifest, retention_of(order), pinned=order.pinned), self._timeline, self._alive, done)

    def drain(self, will: Will) -> None:
        """Store what a worker that has died left here, and arrive for it."""
        key = f"ckpt/{will.checkpoint_id}/rank-{will.rank:05d}/index-drained-{self._life}"
        data = json.dumps([will.model.chain.hex(), will.model.commits]).encode()
        arrival = wire.CheckpointArrive(
            checkpoint_id=will.checkpoint_id,
            index_key=key,
            digest="0" * 64,
            size_bytes=8,
            worker_id=will.worker_id,
            rank=will.rank,
        )
        self._transcript.tell(self._timeline.now, self.name, f"drains {will.checkpoint_id} for {will.worker_id}")

        def done(nothing: None, error: StrataError | None) -> None:
            if error is None:
                self.process.conversation.submit(arrival)

        drive(self._storage.put(key, data), self._timeline, self._alive, done)

    def _alive(self) -> bool:
        return not self.process.dead
