"""The wills of saves that are staged and wait for the one before them: left with a writer ahead of the bytes.

It knows which will lies where, neither states nor how a save is made. Used on the thread that streams.

A will that is left ahead has a stream of its own, which ends as soon as the will is taken. When its save's turn comes,
another is left on the save's stream, and takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strata_zmq.checkpoint.arena import Arena

    from .upload import WriterLinks
    from .writer_link import Will, WriterLink

__all__ = ["WaitingWills"]


@dataclass(slots=True)
class _Left:
    link: WriterLink
    stream: str
    told: bool = False


class WaitingWills:
    """Keeps a will of each waiting save with one writer that lives; `tell` is told of each that a writer has taken."""

    def __init__(self, links: WriterLinks, tell: Callable[[str, str], None]) -> None:
        self._links = links
        self._tell = tell
        self._left: dict[str, _Left] = {}

    def look(self, waiting: Sequence[tuple[Will, Arena]], now: float) -> None:
        """Leave the wills that nobody has, and tell of those that were taken since; called again and again."""
        for will, arena in waiting:
            left = self._left.get(will.checkpoint_id)
            if left is None or left.link.lost:
                self._leave(will, arena, now)
            elif not left.told and left.link.has_taken(left.stream):
                left.told = True
                self._tell(will.checkpoint_id, left.link.info.writer_id)

    def drop(self, checkpoint_id: str) -> None:
        """Say that a save's will is of no use any more: another one has taken its place, or the save has ended."""
        left = self._left.pop(checkpoint_id, None)
        if left is not None:
            left.link.drop_will_ahead(left.stream)

    def drop_all_but(self, checkpoint_ids: Sequence[str]) -> None:
        """Drop the wills of saves that made way for newer ones."""
        for checkpoint_id in [name for name in self._left if name not in checkpoint_ids]:
            self.drop(checkpoint_id)

    def _leave(self, will: Will, arena: Arena, now: float) -> None:
        for link in self._links.usable():
            link.share(arena, now)
            if not link.slow and (stream := link.leave_will_ahead(will, arena)):
                self._left[will.checkpoint_id] = _Left(link, stream)
                return
