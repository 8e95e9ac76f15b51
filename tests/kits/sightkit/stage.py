"""A hub over cores made by hand, with a clock that a test moves, turn by turn."""

from __future__ import annotations

import json
from typing import Any

from strata_zmq.coordinator.api.state.hub import Hub

from .feeds import HandFeed
from .quiet import NoJobs, NoVault, Pages

__all__ = ["Stage"]


class Stage:
    """`coordinator` and `dispatcher` are told what to say; `turn` lets time pass, a quarter of a second a turn."""

    def __init__(self, *, now: float = 1000.0, dispatcher: bool = False) -> None:
        self.now = now
        self.coordinator = HandFeed(now=now)
        self.dispatcher = HandFeed("dispatcher", now=now)
        self.logs, self.jobs, self.vault = Pages(), NoJobs(), NoVault()
        feeds = [self.coordinator, self.dispatcher] if dispatcher else [self.coordinator]
        self.hub = Hub(feeds, logs=self.logs, jobs=self.jobs, vault=self.vault, clock=lambda: self.now)
        for feed in feeds:
            feed.tell_to(self.hub.tell)

    def turn(self, seconds: float = 0.25) -> None:
        """Let so much time pass, and take a turn at each quarter of a second."""
        for _ in range(max(1, round(seconds * 4))):
            self.now += 0.25
            self.coordinator.now = self.dispatcher.now = self.now
            self.hub.tick()

    def dashboard(self) -> dict[str, Any]:
        """Return what is answered now."""
        shown: dict[str, Any] = json.loads(self.hub.dashboard())
        return shown

    def worker(self, worker_id: str) -> dict[str, Any]:
        """Return one worker as it is answered now."""
        found = [row for row in self.dashboard()["workers"] if row["id"] == worker_id]
        assert found, f"no worker {worker_id} among {[row['id'] for row in self.dashboard()['workers']]}"
        row: dict[str, Any] = found[0]
        return row
