"""One barrier's rule: all arrive before any is released, duplicates do not count, and a wait names who is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from strata_zmq.errors import InvalidArgumentError

__all__ = ["Barrier", "BarrierKey"]

T = TypeVar("T")


class BarrierKey(NamedTuple):
    """What makes two arrivals meet."""

    generation: int
    name: str
    step: int


@dataclass(slots=True)
class Barrier(Generic[T]):
    """Arrivals at one key, in order; each carries a value of type T. `opened_at` in seconds of the caller's clock."""

    key: BarrierKey
    expected: int
    commit: bool
    opened_at: float
    arrivals: dict[str, T] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.expected < 1:
            raise InvalidArgumentError(
                f"barrier {self.key.name!r}: expected is {self.expected}; it takes 1 or more, or 0 for the whole "
                "generation"
            )

    def arrive(self, worker_id: str, value: T) -> bool:
        """Note an arrival and tell whether the barrier is complete. A second arrival keeps its place in the order."""
        self.arrivals[worker_id] = value
        return len(self.arrivals) >= self.expected

    def withdraw(self, worker_id: str) -> None:
        """Forget an arrival, because its wait ran out."""
        self.arrivals.pop(worker_id, None)

    def missing(self, members: Iterable[str]) -> tuple[str, ...]:
        """Return the members that have not arrived."""
        return tuple(worker for worker in members if worker not in self.arrivals)
