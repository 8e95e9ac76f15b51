"""Waits that no member can end: every rank is parked, and each waits for ranks that are parked elsewhere.

Only the coordinator sees it. It decides from who waits where; whether a single rank hangs is decided in `hangs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from strata_zmq.errors import InvalidArgumentError, StrataError

from .barriers import Barriers
from .datasets import Datasets
from .rendezvous import Rendezvous
from .world import Parked, World

__all__ = ["Deadlocks"]

_CHECKS = 20
"""How many times within `hang_s` it is looked for."""
_WAITS_SHOWN = 8
_RANKS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class _Wait:
    """One open wait for others: where, and by worker the request that is parked there."""

    where: str
    parked: dict[str, Parked]


class Deadlocks:
    """The state of all waits as it was seen last, and since when it has been the same."""

    def __init__(self, world: World, rendezvous: Rendezvous, *, barriers: Barriers, datasets: Datasets) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self._barriers = barriers
        self._datasets = datasets
        self._checked_at = float("-inf")
        self._seen: list[tuple[str, str, int]] = []
        self._since = 0.0

    def tick(self) -> None:
        """End all waits if nobody can go on.

        A blocking worker that waits does nothing else, so that the moment at which the last member parks itself would
        prove it. But a worker may use several threads or tasks, and the others of them may still bring what is missing:
        so no wait may have come or gone, and nobody's progress may have risen, for `hang_s`, which is the time after
        which the operator takes a loop that stands still for one that hangs.
        """
        world, hang_s = self._world, self._world.config.hang_s
        if not hang_s or world.now - self._checked_at < hang_s / _CHECKS:
            return
        self._checked_at = world.now
        waits = list(self._waits())
        seen = [(wait.where, name, parked.seq) for wait in waits for name, parked in wait.parked.items()]
        if seen != self._seen:
            self._seen, self._since = seen, world.now
        if self._is_hopeless(waits):
            self._end(waits)

    def forgive(self, gap_s: float) -> None:
        """The coordinator itself did not run for so long: nobody can have been seen to move in it."""
        self._since += gap_s

    def _waits(self) -> Iterator[_Wait]:
        for key, barrier in self._barriers.open.items():
            where = (
                f"at commit point {key.step}" if barrier.terms.commit else f"at barrier {key.name!r} step {key.step}"
            )
            yield _Wait(where, {name: arrival.parked for name, arrival in barrier.arrivals.items()})
        if self._datasets.finished:
            yield _Wait(f"for the end of epoch {self._world.history.epoch}", self._datasets.finished)

    def _is_hopeless(self, waits: list[_Wait]) -> bool:
        """Whether every member is parked, nothing has changed for long, and nothing is on its way that would help."""
        world, history, rendezvous = self._world, self._world.history, self._rendezvous
        parked = {name for wait in waits for name in wait.parked}
        if not waits or not history.formed or not rendezvous.settled or not parked.issuperset(history.ranks):
            return False
        # Who waits for a change of the membership knows of one; who is silent may be about to cause one.
        if any(name in rendezvous.waiting for name in history.ranks):
            return False
        members = [world.workers[name] for name in history.ranks]
        if any(worker.expires_at - world.now < world.config.lease_s / 2 for worker in members):
            return False
        # Whoever has the shorter time limit may mean to go on when it is over, to where the others wait.
        limits = [one.timeout_s for wait in waits for one in wait.parked.values()]
        if 2 * min(limits) < max(limits):
            return False
        still_since = max(self._since, *(worker.moved_at for worker in members))
        return world.now - still_since >= world.config.hang_s

    def _end(self, waits: list[_Wait]) -> None:
        world = self._world
        told = "; ".join(self._describe(wait) for wait in waits[:_WAITS_SHOWN])
        if len(waits) > _WAITS_SHOWN:
            told += f"; and {len(waits) - _WAITS_SHOWN} more waits"
        error: StrataError = InvalidArgumentError(
            f"deadlock: all {len(world.history.ranks)} ranks wait, and none for one that can still come: {told}; have "
            "every rank of the training code take the same barriers, commit points and ends of epochs in the same order"
        )
        world.counters["deadlocks"] += 1
        world.note(str(error), "deadlock")
        self._barriers.give_up_all(error)
        self._datasets.give_up_all(error)

    def _describe(self, wait: _Wait) -> str:
        ranks = self._world.history.ranks
        names = sorted(wait.parked, key=lambda name: ranks.get(name, len(ranks)))
        shown = ", ".join(f"rank {ranks[name]} ({name})" if name in ranks else name for name in names[:_RANKS_SHOWN])
        more = ", ..." if len(names) > _RANKS_SHOWN else ""
        return f"{len(names)} {'rank waits' if len(names) == 1 else 'ranks wait'} {wait.where}: {shown}{more}"
