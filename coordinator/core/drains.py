"""Ranks that are gone while a writer can finish their saves: whose bytes are still to be hoped for, and until when.

What lies in a writer's reach is in history (`RankStaged`); how long it is waited for counts anew in each life.
"""

from __future__ import annotations

from strata_zmq.errors import InvalidArgumentError, NotFoundError
from strata_zmq.protocol.messages import CheckpointArrive, CheckpointStaged, Done

from . import records
from .entries import OpenCheckpoint
from .rendezvous import Rendezvous
from .world import Session, World

__all__ = ["Drains"]


class Drains:
    """Knows of each open checkpoint which ranks have died and are waited for all the same."""

    def __init__(self, world: World, rendezvous: Rendezvous) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._until: dict[str, dict[int, float]] = {}

    def staged(self, session: Session, request: CheckpointStaged) -> None:
        """Note that a writer could finish this rank's save without the rank."""
        world = self._world
        worker = self._rendezvous.caller(session)
        writer = world.writers.get(request.writer_id)
        opened = world.history.open_checkpoints.get(request.checkpoint_id)
        if opened is not None:
            if worker.worker_id not in opened.began.workers:
                raise NotFoundError(
                    f"worker {worker.worker_id!r} takes no part in checkpoint {request.checkpoint_id!r}"
                )
            if writer is None:
                raise NotFoundError(f"writer_id {request.writer_id!r} is not registered: it could finish nothing")
            rank = opened.began.workers.index(worker.worker_id)
            before = opened.staged.get(rank)
            now = records.RankStaged(
                checkpoint_id=request.checkpoint_id,
                rank=rank,
                incarnation=worker.incarnation,
                writer_id=writer.info.writer_id,
                writer_incarnation=writer.info.incarnation,
            )
            if now != before:
                world.record(now)
        # Of a checkpoint that has ended meanwhile there is nothing to note.
        world.reply(session, request.seq, Done)

    def rank_of(self, opened: OpenCheckpoint, session: Session, request: CheckpointArrive) -> int:
        """Return the rank that a writer speaks for; only the one that has its bytes may."""
        info = self._world.live_writer(session).info
        workers, rank = opened.began.workers, request.rank
        if not 0 <= rank < len(workers) or workers[rank] != request.worker_id:
            raise NotFoundError(
                f"worker {request.worker_id!r} is not rank {rank} of checkpoint {opened.began.checkpoint_id!r}"
            )
        staged = opened.staged.get(rank)
        if staged is None or (staged.writer_id, staged.writer_incarnation) != (info.writer_id, info.incarnation):
            raise InvalidArgumentError(
                f"rank {rank} ({request.worker_id}) of {opened.began.checkpoint_id!r} has not said that writer "
                f"{info.writer_id!r} has its bytes: only that one may finish its save"
            )
        return rank

    def lost_ranks(self, opened: OpenCheckpoint) -> list[str]:
        """Look at all ranks and return, as clauses, whose bytes nobody will bring any more."""
        world, began = self._world, opened.began
        until = self._until.setdefault(began.checkpoint_id, {})
        gone = []
        for rank, worker_id in enumerate(began.workers):
            if rank in opened.arrivals or rank in until:
                continue
            staged, alive = opened.staged.get(rank), world.workers.get(worker_id)
            if alive is None and staged is None:
                gone.append(worker_id)
            elif staged is not None and (alive is None or alive.incarnation != staged.incarnation):
                until[rank] = world.now + world.config.drain_s
        clauses = [f"{', '.join(gone)} left before its bytes were durable"] if gone else []
        return clauses + self._given_up(opened, until)

    def overdue(self, opened: OpenCheckpoint) -> list[str]:
        """Return, as clauses, which dead ranks' saves no writer has finished in time; nothing while in doubt."""
        until = self._until.get(opened.began.checkpoint_id)
        # The first look of this life: a rank may have died in an earlier one.
        return self.lost_ranks(opened) if until is None else self._given_up(opened, until)

    def forget(self, checkpoint_id: str) -> None:
        """Let go of a checkpoint that has ended."""
        self._until.pop(checkpoint_id, None)

    def _given_up(self, opened: OpenCheckpoint, until: dict[int, float]) -> list[str]:
        world = self._world
        clauses = []
        for rank in sorted(until.keys() - opened.arrivals.keys()):
            staged, worker_id = opened.staged[rank], opened.began.workers[rank]
            writer = world.writers.get(staged.writer_id)
            if writer is not None and writer.info.incarnation != staged.writer_incarnation:
                clauses.append(f"{worker_id} left, and writer {staged.writer_id}, which had its bytes, is gone, too")
            elif until[rank] <= world.now and not world.frozen:
                clauses.append(
                    f"{worker_id} left, and writer {staged.writer_id} has not finished its save within "
                    f"{world.config.drain_s:g} s"
                )
        return clauses
