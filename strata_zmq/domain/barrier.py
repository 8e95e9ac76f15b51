"""One barrier's rule: all arrive before any is released, duplicates do not count, and a wait names who is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from strata_zmq.errors import InvalidArgumentError

__all__ = ["SLOWEST_MAX", "Barrier", "BarrierKey", "Terms", "quantile"]

SLOWEST_MAX = 4
"""Most latecomers that a release names."""

T = TypeVar("T")


class BarrierKey(NamedTuple):
    """What makes two arrivals meet."""

    generation: int
    name: str
    step: int


class Terms(NamedTuple):
    """What all arrivals at one barrier have to say alike. `values` are the (name, operation) of what they carry."""

    expected: int
    """How many arrivals it takes; 0 for all members, however many there will be."""
    commit: bool = False
    reform: bool = False
    """Whether it outlives a change of the membership."""
    values: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        values = ", ".join(f"{name}:{op}" for name, op in self.values)
        policy = "reform" if self.reform else "break"
        return f"expected={self.expected}, commit={self.commit}, on_change={policy}, values=[{values}]"


@dataclass(slots=True)
class Barrier(Generic[T]):
    """Arrivals at one key, in order; each carries a value of type T. Times in seconds of the caller's clock."""

    key: BarrierKey
    terms: Terms
    expected: int
    """How many arrivals it takes of the present membership."""
    opened_at: float
    arrivals: dict[str, T] = field(default_factory=dict)
    arrived_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.expected < 1:
            raise InvalidArgumentError(
                f"barrier {self.key.name!r}: expected is {self.expected}; it takes 1 or more, or 0 for the whole "
                "generation"
            )

    @property
    def complete(self) -> bool:
        """Whether all have arrived."""
        return len(self.arrivals) >= self.expected

    def arrive(self, worker_id: str, value: T, now: float) -> None:
        """Note an arrival. A second one of the same worker keeps its time and its place in the order."""
        self.arrivals[worker_id] = value
        self.arrived_at.setdefault(worker_id, now)

    def withdraw(self, worker_id: str) -> None:
        """Forget an arrival, because its wait ran out or the worker is gone."""
        del self.arrivals[worker_id], self.arrived_at[worker_id]

    def missing(self, members: Iterable[str]) -> tuple[str, ...]:
        """Return the members that have not arrived."""
        return tuple(worker for worker in members if worker not in self.arrivals)

    def lags_s(self) -> list[float]:
        """Return how long after the first arrival each one came, rising."""
        times = list(self.arrived_at.values())
        return [time - times[0] for time in times]

    def slowest(self) -> list[str]:
        """Return at most SLOWEST_MAX of those that the first one waited for, the last one first."""
        return list(self.arrivals)[:0:-1][:SLOWEST_MAX]


def quantile(rising: Sequence[float], percent: int) -> float:
    """Return the smallest of the values, which must rise, that at least `percent` of 100 do not exceed."""
    return rising[max(-(-len(rising) * percent // 100) - 1, 0)]
