"""Barriers that have ended, as a log, and how long they took. It hears of each ending and decides nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from strata_zmq.domain.barrier import SLOWEST_MAX, Barrier, BarrierKey
from strata_zmq.protocol.messages import Lag
from strata_zmq.protocol.sight import RELEASES_MAX
from strata_zmq.protocol.sight_rows import BARRIER_BOUNDS_S, ReleaseSight
from strata_zmq.protocol.sight_tables import Histogram, Log

from .world import World

__all__ = ["Releases", "barrier_id"]


class _Ended(NamedTuple):
    """One ending. The row is made when it is told: most are forgotten before."""

    number: int
    key: BarrierKey
    commit: bool
    released: bool
    arrived: int
    total: int
    opened_at: float
    ended_at: float
    lag: Lag | None
    slowest: list[tuple[str, float]]


class Releases:
    """The latest ended barriers of this life."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.log: Log[_Ended] = Log(RELEASES_MAX)
        self.histogram = Histogram("barrier", "", BARRIER_BOUNDS_S)

    def ended(self, barrier: Barrier[Any], lag: Lag | None) -> None:
        """Note a barrier's end; without a `lag` it was not released."""
        world = self._world
        at = barrier.arrived_at
        latest = list(at)[: -SLOWEST_MAX - 1 : -1]
        first = next(iter(at.values()), barrier.opened_at)
        if lag is not None:
            self.histogram.add(world.now - barrier.opened_at)
            # Arrivals that come in one step have come together: of those nobody is the last.
            if len(at) > 1 and at[latest[0]] > at[latest[1]]:
                worker = world.workers.get(latest[0])
                if worker is not None:
                    worker.last_at_barriers += 1
                    world.touched[worker.worker_id] = worker
        self.log.add(
            _Ended(
                self.log.last + 1,
                barrier.key,
                barrier.terms.commit,
                lag is not None,
                len(at),
                barrier.expected,
                barrier.opened_at,
                world.now,
                lag,
                [(name, at[name] - first) for name in latest if at[name] > first],
            )
        )

    def row(self, one: _Ended) -> ReleaseSight:
        """Return an ending as it is shown."""
        offset_s = self._world.config.wall_offset_s
        return ReleaseSight(
            number=one.number,
            barrier_id=barrier_id(one.key),
            name=one.key.name,
            step=one.key.step,
            generation=one.key.generation,
            commit=one.commit,
            released=one.released,
            arrived=one.arrived,
            total=one.total,
            opened_at=one.opened_at + offset_s,
            ended_at=one.ended_at + offset_s,
            wait_s=one.ended_at - one.opened_at,
            lag=one.lag,
            slowest=one.slowest,
        )


def barrier_id(key: BarrierKey) -> str:
    """Return the name of a barrier among all of a job."""
    return f"{key.generation}/{key.name}/{key.step}"
