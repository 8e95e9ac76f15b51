"""What a follower of the broadcasts sees: the state that they continue, and the digest that proves it got there."""

from __future__ import annotations

from strata_zmq.domain.membership import membership_digest
from strata_zmq.protocol.messages import View

from .world import World

__all__ = ["digest", "view"]


def view(world: World, recipients: list[tuple[bytes, int, int]]) -> None:
    """Answer all GET_VIEW of a step, each as (connection, session, seq), with the state after its last broadcast."""
    history = world.history
    world.reply_all(
        recipients,
        View,
        broadcast_seq=world.broadcast_seq,
        epoch=history.epoch,
        commit_index=history.commit_index,
        formed=history.formed,
        members=list(history.member_ids),
        checkpoints=list(history.checkpoints.values())[::-1],
        digest=digest(world),
    )


def digest(world: World) -> int:
    """Return the digest of the present state."""
    history = world.history
    return membership_digest(history.generation, history.epoch, history.formed, history.member_ids)
