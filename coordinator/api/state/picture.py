"""One core's state as the API process holds it: a snapshot, then deltas in order. It knows no socket and no clock.

The fold is total: the same messages give the same picture, and a picture that has followed equals one that has begun
anew. What a message has changed is returned, so that whoever shows it looks at nothing else.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from strata_zmq.errors import StrataError
from strata_zmq.protocol.sight import KEYS, LOGS, Changes, SightDelta, key_of

__all__ = ["Gap", "Picture", "Touched"]

Touched = dict[str, set[str]]
"""By table, the keys of rows that are new, different or gone; of `job`, `functions` and logs only that they have."""


class Gap(StrataError):  # noqa: N818 - it is no mistake
    """A delta was missed, or is of another life: ask for a snapshot."""


class Picture:
    """Everything that one core shows. Before `begin` it is of no life, and follows nothing."""

    def __init__(self) -> None:
        self.life = ""
        self.number = 0
        self.at = 0.0
        """The core's Unix time as of the last message; 0.0 before the first."""
        self.missed = 0
        """Rows of logs that this life's deltas had no room for."""
        self.job: Any = None
        self.functions: Any = None
        self.tables: dict[str, dict[str, Any]] = {table: {} for table in KEYS}
        self.logs: dict[str, deque[Any]] = {table: deque(maxlen=most) for table, most in LOGS.items()}

    def begin(self, life: str, number: int, at: float, state: Changes) -> Touched:
        """Take a snapshot in place of all that was known."""
        before = {table: set(rows) for table, rows in self.tables.items()}
        self.__init__()  # type: ignore[misc]
        self.life, self.number, self.at = life, number, at
        touched = self._apply(state)
        for table, keys in before.items():
            if keys:
                touched.setdefault(table, set()).update(keys)
        return touched

    def follow(self, delta: SightDelta) -> Touched:
        """Take the next delta; one that the snapshot includes changes nothing. Raises Gap, and nothing has changed."""
        if delta.life != self.life:
            raise Gap(f"a delta of life {delta.life!r}, and the snapshot is of {self.life!r}: ask for a snapshot")
        if delta.number <= self.number:
            return {}
        if delta.number != self.number + 1:
            raise Gap(f"delta {delta.number} follows {self.number}: ask for a snapshot")
        self.number, self.at = delta.number, delta.at
        self.missed += delta.missed
        return self._apply(delta.changes)

    def _apply(self, changes: Changes) -> Touched:
        touched: Touched = {}
        for name in ("job", "functions"):
            row = getattr(changes, name)
            if row is not None:
                setattr(self, name, row)
                touched[name] = set()
        for table, keys in changes.gone.items():
            known = self.tables.get(table)
            if known is None:
                continue  # of a newer core
            for key in keys:
                if known.pop(key, None) is not None:
                    touched.setdefault(table, set()).add(key)
        for table, rows in self.tables.items():
            for row in getattr(changes, table):
                key = key_of(table, row)
                rows[key] = row
                touched.setdefault(table, set()).add(key)
        for table, log in self.logs.items():
            rows = getattr(changes, table)
            if rows:
                log.extend(rows)
                touched[table] = set()
        return touched
