"""Somebody who looks at a job of `tests/coordinator/conftest.py`: a snapshot, then deltas, folded as the API does."""

from __future__ import annotations

from typing import Any

from strata_zmq.coordinator.api.state.picture import Picture
from strata_zmq.protocol import messages as wire

__all__ = ["Onlooker"]


class Onlooker:
    """A client that has asked for a snapshot and follows what is shown after it."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self.picture = Picture()
        sight = job.client().ask(wire.GetSight()).got(wire.Sight)
        self.picture.begin(sight.life, sight.number, sight.at, sight.state)

    def follow(self) -> Picture:
        """Let time pass until all that has changed is told, and take it."""
        self._job.wait(1.25)
        for delta in self._job.shown:
            self.picture.follow(delta)
        return self.picture

    def rows(self, table: str) -> dict[str, Any]:
        """What a table shows now."""
        return self.follow().tables[table]

    def events(self, *kinds: str) -> list[str]:
        """What happened of these kinds, in order."""
        return [event.text for event in self.follow().logs["events"] if event.kind in kinds]
