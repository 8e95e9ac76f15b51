"""The batch stream's view of a worker: what the loop tells the training code, and in which order.

It keeps what was announced; what the training code does with it is the worker's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from .saving import Saving
from .tracked import Tracked

if TYPE_CHECKING:
    from strata_zmq.protocol.messages import Membership

    from .session import WorkerSession

__all__ = ["Hooks"]

log = logging.getLogger("strata.worker")


class Hooked(Protocol):
    """What training code may override, and the session behind it."""

    @property
    def session(self) -> WorkerSession:
        """What the worker has adopted."""

    def on_membership(self, membership: Membership) -> None:
        """Bring this rank in line with the others."""

    def on_checkpoint_requested(self) -> None:
        """Save, as every rank does behind the same commit point."""


class Hooks:
    """Tells one worker what its loop comes upon."""

    def __init__(
        self, worker: Hooked, state: Tracked, saves: Saving, leave: Callable[[], None], *, hands_over: bool
    ) -> None:
        self._worker = worker
        self._state = state
        self._saves = saves
        self._leave = leave
        self._hands_over = hands_over
        """Whether the training code brings ranks in line at all."""
        self._announced = 0
        self.restored = False
        self.saving = False
        """Whether the commit point under way is a save's own: it needs no other one."""

    def on_membership(self, membership: Membership) -> None:
        """Announce a generation, once; afterwards this rank's state is that of the history which it has adopted.

        Where it was not, the training code has restored a checkpoint, or has taken rank 0's state over. Otherwise this
        raises HistoryChangedError: rank 0 has nobody to take it from.
        """
        session = self._worker.session
        if membership.generation != self._announced or session.astray is not None:
            self._worker.on_membership(membership)
            if membership.rank == 0 and membership.commit_index and not (self._announced or self.restored):
                log.warning(
                    "history stands at commit point %d and no member remembers its model: this one begins anew with "
                    "the rest of the data; call restore_checkpoint() in on_membership to go back to the last one saved",
                    membership.commit_index,
                )
            self._announced = membership.generation
        if session.astray is not None and (membership.rank == 0 or not self._hands_over):
            raise session.astray
        if self._hands_over:
            session.agreed()

    def remember(self) -> None:
        """Keep the tracked state as the one to return to."""
        if self._state:
            self._state.remember()

    def rollback(self) -> None:
        """Return to the state that was kept."""
        self._saves.interrupted()
        self._state.rollback()

    def stepped(self) -> None:
        """Take note of a commit point."""
        self._saves.stepped()

    def checkpoint(self) -> None:
        """Have the worker save; one that was told that it will be taken away leaves behind that."""
        session = self._worker.session
        self._saves.agreed(session.step)
        if self.saving:
            return
        self._worker.on_checkpoint_requested()
        if self._saves.preempted:
            session.votes.draining = True

    def drain(self) -> None:
        """Have the worker leave the job."""
        self._leave()
