"""Who owns which shard: how long an assignment and a change of membership take, and how many shards move.

The limit is what any assignment has to do at least: hash every shard once and sort the hashes once (NumPy). For moves
it is the lower bound, computed here from the counts alone rather than taken from the subject.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from itertools import count
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.bench.floors import Absolute, Extra, Floor, ToLimit
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.bench.timing import MILLISECONDS, timed_calls
from strata_zmq.domain.sharding import Assignment, assign, reassign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from strata_zmq.bench.model import Measure

__all__ = ["SUITE"]

SHARDS, WORKERS, SEED = 10_000, 1_000, 42
EVENTS = 500
CALLS = 12
"""Calls a round: with nine rounds enough operations for a p99."""


def _cases(settings: Settings) -> Iterator[Case]:
    rounds = settings.pick(5, 9)
    size = f"{SHARDS:,} shards x {WORKERS:,} workers"
    yield Case(
        name="assign from nothing",
        size=size,
        unit="ms",
        better="lower",
        subject=_here("strata", lambda: _Fresh(SHARDS, WORKERS), CALLS),
        limit=_here("hash and sort (NumPy)", lambda: _HashAndSort(SHARDS), CALLS),
        peers=(
            _uhashring("assign"),
            _here("rendezvous hashing (NumPy)", lambda: _Rendezvous(SHARDS, WORKERS), 1),
        ),
        floor=Floor("sharding.assign", (Absolute(10.0, "< 10 ms"),)),
        rounds=rounds,
    )
    yield Case(
        name="one worker leaves or joins",
        size=size,
        unit="ms",
        better="lower",
        subject=_here("strata", lambda: _Update(SHARDS, WORKERS), CALLS),
        limit=_here("hash and sort (NumPy)", lambda: _HashAndSort(SHARDS), CALLS),
        peers=(_uhashring("update"),),
        floor=Floor("sharding.update", (Absolute(5.0, "< 5 ms"),)),
        rounds=rounds,
    )
    yield Case(
        name="assign from nothing",
        size=f"{SHARDS * 10:,} shards x {WORKERS:,} workers",
        unit="ms",
        better="lower",
        subject=_here("strata", lambda: _Fresh(SHARDS * 10, WORKERS), 2),
        limit=_here("hash and sort (NumPy)", lambda: _HashAndSort(SHARDS * 10), 2),
        floor=Floor("sharding.large", (Absolute(100.0, "< 100 ms"),)),
        rounds=rounds,
    )
    yield Case(
        name=f"shards moved over {EVENTS} random joins and leaves",
        size=size,
        unit="shards",
        better="lower",
        subject=Contender("strata", lambda: _replayed("moved")),
        limit=Contender("lower bound", lambda: _replayed("bound")),
        floor=Floor(
            "sharding.moves",
            (
                ToLimit(1.0, "moves equal to the lower bound"),
                Extra("spread", 1.0, "lower", "largest - smallest <= 1 shard"),
            ),
            rounds_min=1,  # a count from a seed, not a duration: one round is as good as many
        ),
        rounds=settings.pick(2, 5),
        warmup=0,
    )


SUITE = Suite("sharding", "How fast is an assignment, how much does a join or a leave move?", _cases)


def _here(name: str, prepare: Callable[[], Callable[[], object]], calls: int) -> Contender:
    """Return a contender that runs in this process; what `prepare` returns is called `calls` times a round."""

    @contextmanager
    def opened() -> Iterator[Measure]:
        call = prepare()
        yield lambda: timed_calls(call, calls)

    return Contender(name, opened)


def _uhashring(method: str) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with peer_process("peer_uhashring", shards=SHARDS, workers=WORKERS) as peer:

            def measure() -> Sample:
                found = peer.call(method)
                return Sample(found["wall_s"] * MILLISECONDS, wall_s=found["wall_s"], cpu_s=found["cpu_s"])

            yield measure

    return Contender("uhashring", opened)


def _names(workers: int) -> list[str]:
    return [f"worker-{worker:05d}" for worker in range(workers)]


class _Fresh:
    def __init__(self, shards: int, workers: int) -> None:
        self._shards, self._workers = shards, _names(workers)

    def __call__(self) -> Assignment:
        return assign(self._shards, self._workers, seed=SEED)


class _Update:
    """The last worker leaves and comes back, by turns; each call goes on from the assignment before."""

    def __init__(self, shards: int, workers: int) -> None:
        self._all = _names(workers)
        self._now = assign(shards, self._all, seed=SEED)

    def __call__(self) -> None:
        whole = len(self._now.workers) == len(self._all)
        self._now, _ = reassign(self._now, self._all[:-1] if whole else self._all, seed=SEED)


class _HashAndSort:
    def __init__(self, shards: int) -> None:
        self._shards = np.arange(shards, dtype=np.uint64)

    def __call__(self) -> NDArray[np.int64]:
        return np.argsort(_hash(self._shards))


class _Rendezvous:
    """Highest random weight (Thaler and Ravishankar, 1998): each shard goes to the worker with the largest hash."""

    def __init__(self, shards: int, workers: int) -> None:
        self._shards = _hash(np.arange(shards, dtype=np.uint64))
        self._workers = _hash(np.arange(workers, dtype=np.uint64) + np.uint64(1 << 32))

    def __call__(self) -> NDArray[np.int32]:
        best = np.zeros(self._shards.size, dtype=np.uint64)
        owner = np.zeros(self._shards.size, dtype=np.int32)
        for place, worker in enumerate(self._workers):
            weight = (self._shards ^ worker) * np.uint64(0x9E3779B97F4A7C15)
            weight ^= weight >> np.uint64(29)
            higher = weight > best
            best[higher] = weight[higher]
            owner[higher] = place
        return owner


def _hash(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finalizer of splitmix64 (Steele, Lea and Flood, 2014) of each value."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@contextmanager
def _replayed(what: str) -> Iterator[Measure]:
    seeds = count()

    def measure() -> Sample:
        moved, bound, spread, wall_s, cpu_s = _replay(next(seeds))
        return Sample(
            float(moved if what == "moved" else bound), wall_s=wall_s, cpu_s=cpu_s, extras={"spread": float(spread)}
        )

    yield measure


@cache
def _replay(seed: int) -> tuple[int, int, int, float, float]:
    """Return shards moved, the lower bound, the largest spread, wall and CPU seconds of one seed's events.

    Cached, so that subject and limit see one and the same history whoever comes first in a round.
    """
    chance = np.random.default_rng(seed)
    members = set(_names(WORKERS))
    fresh = (f"late-{index:05d}" for index in count())
    now = assign(SHARDS, sorted(members), seed=SEED)
    moved = bound = spread = 0
    wall_s = cpu_s = 0.0
    for _ in range(EVENTS):
        many = int(chance.integers(1, 6))
        if chance.random() < 0.5:
            members |= {next(fresh) for _ in range(many)}
        else:
            members -= set(chance.choice(sorted(members), size=many, replace=False).tolist())
        cpu, wall = process_time(), perf_counter()
        following, _ = reassign(now, sorted(members), seed=SEED)
        wall_s, cpu_s = wall_s + perf_counter() - wall, cpu_s + process_time() - cpu
        moved += _moved(now, following)
        bound += _lower_bound(now, members)
        counts = np.bincount(following.owners, minlength=len(members))
        spread = max(spread, int(counts.max() - counts.min()))
        now = following
    return moved, bound, spread, wall_s, cpu_s


def _moved(before: Assignment, after: Assignment) -> int:
    """Return how many shards have another owner, by name."""
    return int(np.count_nonzero(np.array(before.workers)[before.owners] != np.array(after.workers)[after.owners]))


def _lower_bound(before: Assignment, members: set[str]) -> int:
    """Return the fewest moves that lead from `before` to exactly balanced counts over `members`.

    A worker that stays keeps at most the floor of the mean; the shards left over by the division are kept, one each,
    by workers that hold more than the floor. Everything else moves.
    """
    floor, extra = divmod(SHARDS, len(members))
    counts = np.bincount(before.owners, minlength=len(before.workers))
    stay = np.array([int(held) for worker, held in zip(before.workers, counts, strict=True) if worker in members])
    kept = int(np.minimum(stay, floor).sum()) + min(extra, int(np.count_nonzero(stay > floor)))
    return SHARDS - kept
