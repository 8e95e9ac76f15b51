"""A feed whose core is a simulation: its rows go through the same fold as a core's. It knows no row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from strata_zmq.coordinator.api.state.feed import Origin
from strata_zmq.coordinator.api.state.picture import Picture, Touched
from strata_zmq.protocol.sight import FLUSH_S, Changes, SightDelta

__all__ = ["Player", "SimulatedFeed"]


class Player(Protocol):
    """What plays a core."""

    def advance(self, now: float) -> Changes:
        """Go on up to `now`, a Unix time; returns what has changed."""


class SimulatedFeed:
    """One simulated core as a `Feed`. It is never silent; `catch_up` takes what the player has done by the clock."""

    simulated = True
    connected = True
    gaps = 0
    address = "simulated"

    def __init__(self, origin: Origin, player: Player, clock: Callable[[], float]) -> None:
        self.origin: Origin = origin
        self.picture = Picture()
        self._player, self._clock = player, clock
        now = clock()
        self.heard_at = now
        self.picture.begin(f"simulated-{origin}", 0, now, player.advance(now))

    def catch_up(self) -> Touched:
        """Have the player go on up to now; returns what has changed."""
        now = self.heard_at = self._clock()
        picture = self.picture
        changes = self._player.advance(now)
        return picture.follow(SightDelta(life=picture.life, number=picture.number + 1, at=now, changes=changes))

    async def run(self, tell: Callable[[Touched], None]) -> None:
        """Go on for ever, as often as a core tells."""
        while True:
            tell(self.catch_up())
            await asyncio.sleep(FLUSH_S)
