"""Where a worker goes on: the newest checkpoint, the epoch, and its shards, in one answer."""

from __future__ import annotations

from strata_zmq.errors import ResourceExhaustedError
from strata_zmq.protocol.messages import Resume, ResumeFrom

from .rendezvous import Rendezvous
from .world import Session, World

__all__ = ["SHARDS_MAX", "resume"]

_DATASET_COST = 30
"""Of one dataset beside its shards, in units of `answers.py`."""

SHARDS_MAX = 1_000_000
"""Shards in one answer, over all datasets: it fits a frame."""


def resume(world: World, rendezvous: Rendezvous, session: Session, request: ResumeFrom) -> int:
    """Answer RESUME_FROM of a registered worker; returns what that has cost."""
    history = world.history
    worker_id = rendezvous.caller(session).worker_id
    rank = history.ranks.get(worker_id, -1)
    owned = {name: one.current.shards_of(worker_id) for name, one in history.datasets.items()} if rank >= 0 else {}
    total = sum(len(shards) for shards in owned.values())
    if total > SHARDS_MAX:
        raise ResourceExhaustedError(
            f"worker {worker_id!r} owns {total} shards, one answer holds {SHARDS_MAX}: send GET_SHARDS for each dataset"
        )
    newest = next(reversed(history.checkpoints.values()), None)
    world.reply(
        session,
        request.seq,
        Resume,
        checkpoint=newest,
        step=newest.step if newest else 0,
        epoch=history.epoch,
        commit_index=history.commit_index,
        rank=rank,
        world_size=len(history.members),
        assignments={name: shards.tolist() for name, shards in owned.items()},
    )
    return total + _DATASET_COST * len(history.datasets)
