"""Calls through a dispatcher on TCP: pushed, pulled, written down; and what long and dying ones do to the others."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from strata_zmq.bench.floors import Absolute, Floor, ToPeer
from strata_zmq.bench.loads.function_bodies import nothing
from strata_zmq.bench.loads.function_calls import INNOCENTS, after_a_kill, behind_one_long, latencies, rate, sleeps
from strata_zmq.bench.loads.function_contenders import (
    CELERY,
    DASK,
    MODULES,
    PARSL,
    RAY,
    peer_latencies,
    peer_rate,
    stock_pool,
    through,
)
from strata_zmq.bench.loads.functions import service
from strata_zmq.bench.model import Case, Contender, Sample, Settings
from strata_zmq.domain.task import TaskLimits
from strata_zmq.functions.executor import StrataExecutor

from ._functions_local import BEHIND_MAX, CHILDREN, crash_floor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from strata_zmq.bench.loads.functions import Kept, Mode
    from strata_zmq.bench.model import Measure

    Round = Callable[[Executor], Sample]

__all__ = ["remote_cases"]

DURABLE_RATE = 8000.0
SLEEPS, SLEEP_S, SLEEPERS, SLEEPS_MAX_S = 20, 0.5, 4, 2.6
SPEED_UP = 3.8
_WAIT_S = 60.0
_COMMIT = TaskLimits(durability="commit")
_NONE = "durability: none (the dispatcher's memory)"
_IN_SQLITE = "durability: commit, SQLite: accepted, may begin and ended are on the disk before anybody is told"
_IN_REDIS = "durability: commit, Redis with appendonly yes and appendfsync always"


def remote_cases(settings: Settings) -> Iterator[Case]:
    """Yield the rows of dispatchers."""
    yield from _throughput(settings)
    yield from _latency(settings)
    yield from _durable(settings)
    yield from _neighbours(settings)
    yield from _sleeping(settings)


def _throughput(settings: Settings) -> Iterator[Case]:
    tasks = settings.pick(300, 2000)
    slow = tuple(ToPeer(name, 30.0, f">= 30x {name}") for name in (DASK, CELERY))
    asked: dict[Mode, tuple[ToPeer, ...]] = {
        "push": (ToPeer(RAY, 8.0, f">= 8x {RAY}"), ToPeer(PARSL, 12.0, f">= 12x {PARSL}"), *slow),
        "pull": (ToPeer(PARSL, 4.0, f">= 4x {PARSL}"),),
    }
    modes: tuple[Mode, ...] = ("push", "pull")
    for mode in modes:
        yield Case(
            name=f"calls through a dispatcher, {mode}",
            size=_size(tasks),
            unit="calls/s",
            better="higher",
            subject=through(settings.scratch, mode, partial(rate, tasks=tasks), CHILDREN),
            peers=tuple(peer_rate(name, tasks, CHILDREN) for name in (MODULES if mode == "push" else (PARSL,))),
            floor=None if settings.quick else Floor(f"functions.{mode}", asked[mode]),
            rounds=settings.pick(2, 5),
            notes=(_NONE, "one client, on TCP; submitted at once, and every result read"),
        )


def _latency(settings: Settings) -> Iterator[Case]:
    calls = settings.pick(50, 300)
    modes: tuple[Mode, ...] = ("push", "pull")
    for mode in modes:
        asks = ToPeer(RAY, 0.3, f"p50 <= 0.3x {RAY}")
        yield Case(
            name=f"latency of a call through a dispatcher, {mode}",
            size=f"one call after the other, {CHILDREN} children",
            unit="ms",
            better="lower",
            subject=through(settings.scratch, mode, partial(latencies, calls=calls), CHILDREN),
            peers=tuple(peer_latencies(name, calls, CHILDREN) for name in (RAY, PARSL)) if mode == "push" else (),
            floor=Floor("functions.push.latency", (asks,)) if mode == "push" and not settings.quick else None,
            rounds=settings.pick(2, 5),
            notes=(_NONE,),
        )


def _durable(settings: Settings) -> Iterator[Case]:
    tasks = settings.pick(300, 4000)
    stores: tuple[tuple[Kept, str], ...] = (("sqlite", _IN_SQLITE), ("redis", _IN_REDIS))
    for store, note in stores:
        run, asks = partial(rate, tasks=tasks), Absolute(DURABLE_RATE, f">= {DURABLE_RATE:,.0f}/s")
        yield Case(
            name=f"calls that are written down, {store}",
            size=_size(tasks),
            unit="calls/s",
            better="higher",
            subject=through(settings.scratch, "push", run, CHILDREN, store=store, limits=_COMMIT),
            floor=Floor("functions.durable", (asks,)) if store == "sqlite" and not settings.quick else None,
            rounds=settings.pick(2, 9),
            notes=(note, "a call's whole life: submitted, accepted, assigned, run, ended, its result read"),
        )


def _neighbours(settings: Settings) -> Iterator[Case]:
    asks = Absolute(BEHIND_MAX, f"at most {BEHIND_MAX} wait behind it")
    yield Case(
        name="calls that wait behind a long one, push",
        size=f"399 short calls and one of 0.5 s, {CHILDREN} children",
        unit="calls",
        better="lower",
        subject=through(settings.scratch, "push", behind_one_long, CHILDREN),
        floor=None if settings.quick else Floor("functions.hol", (asks,)),
        rounds=settings.pick(2, 5),
        notes=(_NONE,),
    )
    yield Case(
        name="a child is killed inside its call, push",
        size=f"{INNOCENTS} other calls, {CHILDREN} children",
        unit="s",
        better="lower",
        subject=through(settings.scratch, "push", after_a_kill, CHILDREN),
        floor=None if settings.quick else crash_floor(),
        rounds=settings.pick(2, 9),
        notes=(_NONE, "from the death to the future's verdict at the client"),
    )


def _sleeping(settings: Settings) -> Iterator[Case]:
    seconds = 0.02 if settings.quick else SLEEP_S
    modes: tuple[Mode, ...] = ("local", "push", "pull")
    for mode in modes:
        floor = Floor("functions.scaling", (Absolute(SLEEPS_MAX_S, f"<= {SLEEPS_MAX_S} s"),), rounds_min=3)
        yield Case(
            name=f"sleeps through a dispatcher, {mode}",
            size=f"{SLEEPS} of {seconds:g} s, {SLEEPERS} children",
            unit="s",
            better="lower",
            subject=through(settings.scratch, mode, partial(sleeps, tasks=SLEEPS, seconds=seconds), SLEEPERS),
            peers=(stock_pool(SLEEPERS, partial(sleeps, tasks=SLEEPS, seconds=seconds)),) if mode == "local" else (),
            floor=None if settings.quick else floor,
            rounds=3,
            notes=(_NONE, f"asleep all the time: {SLEEPS / SLEEPERS * seconds:g} s"),
        )
    for mode in modes:
        floor = Floor("functions.scaling", (Absolute(SPEED_UP, f">= {SPEED_UP}x"),), rounds_min=3)
        yield Case(
            name=f"one child to four, {mode}",
            size=f"{SLEEPS} sleeps of {seconds / 5:g} s",
            unit="x",
            better="higher",
            subject=Contender(
                f"StrataExecutor, {mode}", partial(_speed_up, settings.scratch, mode, SLEEPS, seconds / 5)
            ),
            floor=None if settings.quick else floor,
            rounds=3,
            notes=(_NONE, "seconds with one child over seconds with four, both dispatchers up all the time"),
        )


def _size(tasks: int) -> str:
    return f"{tasks:,} calls that do nothing, {CHILDREN} children"


@contextmanager
def _speed_up(scratch: Path, mode: Mode, tasks: int, seconds: float) -> Iterator[Measure]:
    with (
        service(scratch, mode, 1) as alone,
        service(scratch, mode, SLEEPERS) as four,
        StrataExecutor(alone.endpoint) as one,
        StrataExecutor(four.endpoint) as many,
    ):
        for executor in (one, many):
            executor.submit(nothing).result(_WAIT_S)

        def measured() -> Sample:
            slow, fast = sleeps(one, tasks, seconds), sleeps(many, tasks, seconds)
            return Sample(slow.value / fast.value, wall_s=slow.wall_s + fast.wall_s)

        yield measured
