"""What feeds the API process: one core that is followed, or something that plays one. It knows no core and no page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from .picture import Picture, Touched

__all__ = ["SILENCE_S", "Absent", "Feed", "Origin"]

SILENCE_S = 3.0
"""A core that has said nothing for so long is gone; one that is watched says something each second."""
Origin = Literal["coordinator", "dispatcher"]


class Feed(Protocol):
    """One core's picture, kept up to date by `run`. All of it belongs to one event loop."""

    @property
    def origin(self) -> Origin:
        """Which kind of core it is."""

    @property
    def address(self) -> str:
        """Where the core listens."""

    @property
    def simulated(self) -> bool:
        """Whether nothing of it was measured."""

    @property
    def picture(self) -> Picture:
        """What the core shows; the same object for ever."""

    @property
    def connected(self) -> bool:
        """Whether the core was heard within SILENCE_S."""

    @property
    def heard_at(self) -> float:
        """When the core was heard last, in Unix seconds; 0.0: never."""

    @property
    def gaps(self) -> int:
        """How often something was missed, and a snapshot was asked for again."""

    async def run(self, tell: Callable[[Touched], None]) -> None:
        """Follow the core for ever, and tell what each of its messages has changed. It ends by cancellation only."""


class Absent:
    """A core that nobody has named: it is never heard, and shows nothing."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.address = ""
        self.simulated = False
        self.picture = Picture()
        self.connected = False
        self.heard_at = 0.0
        self.gaps = 0

    async def run(self, tell: Callable[[Touched], None]) -> None:
        """Wait for ever."""
        del tell
        await asyncio.Event().wait()
