"""What a page does with the live feed: one state, a snapshot, then changes in order."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Viewer"]

_LINES = {"logs": 200, "events": 1000}
_BY_ID = ("workers", "datasets", "checkpoints", "barriers", "tasks")


class Viewer:
    """Holds the state and refuses a message that does not continue it."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.messages = 0

    def take(self, data: bytes | str) -> None:
        """Take the next message."""
        said = json.loads(data)
        self.messages += 1
        if said["type"] == "snapshot":
            self.state = said["state"]
            assert (said["life"], said["number"]) == (self.state["life"], self.state["number"])
            return
        assert said["life"] == self.state["life"]
        assert said["number"] == self.state["number"] + 1, "a message is missing"
        self.state |= {"number": said["number"], "at": said["at"]}
        changes = said["changes"]
        gone = changes.pop("gone", {})
        for name in set(changes) | set(gone):
            if name in _BY_ID:
                rows = {row["id"]: row for row in self.state[name]}
                for key in gone.get(name, ()):
                    del rows[key]
                rows |= {row["id"]: row for row in changes.get(name, ())}
                self.state[name] = list(rows.values())
            elif name in _LINES:
                self.state[name] = [*self.state[name], *changes[name]][-_LINES[name] :]
            else:
                self.state[name] = changes[name]

    def sorted_state(self) -> dict[str, Any]:
        """Return the state, lists of rows in the order of their ids."""
        return sorted_rows(self.state)


def sorted_rows(state: dict[str, Any]) -> dict[str, Any]:
    """Return a dashboard with its lists of rows in the order of their ids."""
    return state | {name: sorted(state[name], key=lambda row: str(row["id"])) for name in _BY_ID}
