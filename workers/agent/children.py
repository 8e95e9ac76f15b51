"""An agent's local connections: their numbers, when they were heard, and who is on the way to a barrier.

It knows names of connections and times; never a message.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

__all__ = ["CHILDREN_MAX", "Child", "Children"]

CHILDREN_MAX = 4096


@dataclass(slots=True)
class Child:
    """One connection. `number` is never given again while the relay lives."""

    connection: bytes
    number: int
    heard_at: float
    waits: bool = False
    """Whether it has arrived at a barrier and was not answered since."""


class Children:
    """The table of connections, of at most `limit` entries."""

    def __init__(self, limit: int = CHILDREN_MAX) -> None:
        self._limit = limit
        self._numbers = itertools.count(1)
        self._by_connection: dict[bytes, Child] = {}
        self._by_number: dict[int, Child] = {}
        self._expected: set[int] = set()
        """Numbers of those that were at the last barrier and are not at the next one yet."""

    def __len__(self) -> int:
        return len(self._by_number)

    def hear(self, connection: bytes, now: float) -> Child | None:
        """Return the child on this connection, a new one if need be; None when the table is full."""
        child = self._by_connection.get(connection)
        if child is None:
            if len(self) >= self._limit:
                return None
            child = Child(connection, next(self._numbers), now)
            self._by_connection[connection] = self._by_number[child.number] = child
        child.heard_at = now
        return child

    def named(self, number: int) -> Child | None:
        """Return the child of this number, if it is still there."""
        return self._by_number.get(number)

    def forget(self, connection: bytes) -> None:
        """Take a connection that is gone out of the table; one that is not in it is no error."""
        child = self._by_connection.pop(connection, None)
        if child is not None:
            del self._by_number[child.number]
            self._expected.discard(child.number)

    def forget_silent(self, before: float) -> None:
        """Take out who was not heard since `before`."""
        for child in [child for child in self._by_number.values() if child.heard_at < before]:
            self.forget(child.connection)

    # ---- barriers

    def arrive(self, child: Child) -> None:
        """Note that a child has come to a barrier."""
        child.waits = True
        self._expected.discard(child.number)

    def answer(self, child: Child) -> None:
        """Note that a child was answered: it may come to the next barrier."""
        if child.waits:
            child.waits = False
            self._expected.add(child.number)

    @property
    def complete(self) -> bool:
        """Whether nobody is left who was at the last barrier and has not come to this one."""
        return not self._expected

    def stop_expecting(self) -> None:
        """Wait no longer for those who have not come: the next time they count again is after their next answer."""
        self._expected.clear()
