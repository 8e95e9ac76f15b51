"""A feed that a test says everything to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from strata_zmq.coordinator.api.state.picture import Picture, Touched
from strata_zmq.protocol.sight import Changes, SightDelta


class HandFeed:
    """One core. `say` is its next delta, `begin` a snapshot; `now` is the core's clock."""

    def __init__(self, origin: Literal["coordinator", "dispatcher"] = "coordinator", *, now: float = 1000.0) -> None:
        self.origin: Literal["coordinator", "dispatcher"] = origin
        self.address = "tcp://127.0.0.1:50051" if origin == "coordinator" else "tcp://127.0.0.1:5555"
        self.simulated = False
        self.picture = Picture()
        self.connected = False
        self.heard_at = 0.0
        self.gaps = 0
        self.now = now
        self._tell: Callable[[Touched], None] | None = None

    def begin(self, life: str = "a", **state: Any) -> None:
        """Send a snapshot."""
        self._heard(self.picture.begin(life, 0, self.now, Changes(**state)))

    def say(self, **changes: Any) -> None:
        """Send the next delta."""
        number = self.picture.number + 1
        delta = SightDelta(life=self.picture.life, number=number, at=self.now, changes=Changes(**changes))
        self._heard(self.picture.follow(delta))

    def tell_to(self, tell: Callable[[Touched], None]) -> None:
        """Have what changes told without `run`."""
        self._tell = tell

    async def run(self, tell: Callable[[Touched], None]) -> None:
        self._tell = tell
        await asyncio.Event().wait()

    def _heard(self, touched: Touched) -> None:
        self.connected, self.heard_at = True, self.now
        if self._tell is not None:
            self._tell(touched)
