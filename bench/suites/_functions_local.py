"""Calls in this machine's own children: StrataExecutor beside the standard library's pool, in the same process."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.bench.floors import Absolute, Extra, Floor, ToPeer
from strata_zmq.bench.loads.function_bodies import nbytes, nothing
from strata_zmq.bench.loads.function_calls import (
    INNOCENTS,
    after_a_kill,
    behind_one_long,
    cpu_of_many,
    latencies,
    rate,
)
from strata_zmq.bench.loads.function_contenders import STOCK, stock_pool
from strata_zmq.bench.model import Case, Contender, Sample, Settings
from strata_zmq.bench.timing import MILLISECONDS
from strata_zmq.functions.executor import StrataExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strata_zmq.bench.figures import Better
    from strata_zmq.bench.model import Measure

__all__ = ["BEHIND_MAX", "CHILDREN", "crash_floor", "local_cases"]

CHILDREN = 2
SUBJECT = "StrataExecutor"
LARGE_MIB = 64
BEHIND_MAX = 5
VERDICT_S = 0.2
_WAIT_S = 60.0
_MEMORY = "durability: memory"


def local_cases(settings: Settings) -> Iterator[Case]:
    """Yield the rows of the local executor."""
    tasks, calls = settings.pick(500, 4000), settings.pick(50, 400)
    size = f"{tasks:,} calls that do nothing, {CHILDREN} children"
    yield _case(
        settings,
        name="calls in a local pool",
        size=size,
        unit="calls/s",
        better="higher",
        measure=lambda executor: rate(executor, tasks),
        floor=Floor("functions.local", (ToPeer(STOCK, 3.0, f">= 3x {STOCK}", paired=True),)),
    )
    yield _case(
        settings,
        name="latency of a call in a local pool",
        size=f"one call after the other, {CHILDREN} children",
        unit="ms",
        better="lower",
        measure=lambda executor: latencies(executor, calls),
        floor=Floor("functions.local.latency", (ToPeer(STOCK, 1.1, f"p50 <= 1.1x {STOCK}", paired=True),)),
    )
    yield _case(
        settings,
        name="CPU time of a call in a local pool",
        size=size,
        unit="us",
        better="lower",
        measure=lambda executor: cpu_of_many(executor, tasks),
        floor=Floor("functions.local.cpu", (ToPeer(STOCK, 0.4, f"<= 0.4x {STOCK}", paired=True),)),
        notes=("all threads of the caller's process and of the children",),
    )
    mib = settings.pick(8, LARGE_MIB)
    asks = ToPeer(STOCK, 0.1, f"<= 0.1x {STOCK}", paired=True)
    yield _case(
        settings,
        name="a call with a large array",
        size=f"{mib} MiB argument",
        unit="ms",
        better="lower",
        measure=_large(mib, settings.pick(2, 5)),
        floor=Floor("functions.large", (asks,)) if mib == LARGE_MIB else None,
        notes=("from the submission to the result; the child looks at the array's last element",),
    )
    yield _case(
        settings,
        name="calls that wait behind a long one, locally",
        size="399 short calls and one of 0.5 s, 2 children",
        unit="calls",
        better="lower",
        measure=behind_one_long,
        rounds=5,
        floor=Floor("functions.hol", (Absolute(BEHIND_MAX, f"at most {BEHIND_MAX} wait behind it"),)),
    )
    yield Case(
        name="a child is killed inside its call, locally",
        size=f"{INNOCENTS} other calls, {CHILDREN} children",
        unit="s",
        better="lower",
        subject=Contender(SUBJECT, lambda: _opened(_strata, after_a_kill)),
        peers=(Contender(STOCK, _made_anew),),
        rounds=settings.pick(5, 9),
        floor=None if settings.quick else crash_floor(),
        notes=(_MEMORY, f"from the death to the future's verdict; {STOCK} is made anew for each round"),
    )


def crash_floor() -> Floor:
    """What a killed call may cost."""
    return Floor(
        "functions.crash",
        (
            Absolute(VERDICT_S, f"verdict <= {VERDICT_S} s after the death"),
            Extra("innocents", INNOCENTS, "higher", "every other call completes"),
            Extra("usable", 1.0, "higher", "the pool stays usable"),
        ),
    )


def _case(
    settings: Settings,
    *,
    name: str,
    size: str,
    unit: str,
    better: Better,
    measure: Callable[[Executor], Sample],
    floor: Floor | None,
    rounds: int = 0,
    notes: tuple[str, ...] = (),
) -> Case:
    return Case(
        name=name,
        size=size,
        unit=unit,
        better=better,
        subject=Contender(SUBJECT, lambda: _opened(_strata, measure)),
        peers=(stock_pool(CHILDREN, measure),),
        floor=floor if not settings.quick else None,
        rounds=rounds or settings.pick(5, 9),
        notes=(_MEMORY, *notes),
    )


def _strata() -> Executor:
    return StrataExecutor(CHILDREN)


@contextmanager
def _opened(make: Callable[[], Executor], measure: Callable[[Executor], Sample]) -> Iterator[Measure]:
    with make() as executor:
        executor.submit(nothing).result(_WAIT_S)
        yield partial(measure, executor)


@contextmanager
def _made_anew() -> Iterator[Measure]:
    def measure() -> Sample:
        with ProcessPoolExecutor(CHILDREN) as executor:
            executor.submit(nothing).result(_WAIT_S)
            return after_a_kill(executor)

    yield measure


def _large(mib: int, repeats: int) -> Callable[[Executor], Sample]:
    array = np.ones(mib * 2**20 // 8)

    def measure(executor: Executor) -> Sample:
        found, began = [], perf_counter()
        for _ in range(repeats):
            start = perf_counter()
            if executor.submit(nbytes, array).result(_WAIT_S) != array.nbytes:
                raise BrokenExecutor("another array came to the child")
            found.append((perf_counter() - start) * MILLISECONDS)
        return Sample(median(found), wall_s=perf_counter() - began, latencies=found)

    return measure
