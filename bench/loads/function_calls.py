"""Owns what a client of an executor does in one round, and what it measures; knows no executor by name."""

from __future__ import annotations

import tempfile
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from time import monotonic, perf_counter, process_time

from strata_zmq.bench.model import Sample
from strata_zmq.bench.timing import MILLISECONDS
from strata_zmq.errors import ProtocolError

from .function_bodies import die, nothing, sleep_for, when_done
from .process import cpu_seconds

__all__ = ["after_a_kill", "behind_one_long", "cpu_of_many", "latencies", "rate", "sleeps"]

MICROSECONDS = 1e6
_WAIT_S = 120.0
INNOCENTS = 12
SHORT, LONG_S = 399, 0.5


def rate(executor: Executor, tasks: int) -> Sample:
    """Submit `tasks` calls that do nothing, and read all their results; the value is calls a second."""
    start = perf_counter()
    futures = [executor.submit(nothing) for _ in range(tasks)]
    for future in futures:
        future.result(_WAIT_S)
    wall_s = perf_counter() - start
    return Sample(tasks / wall_s, wall_s=wall_s)


def cpu_of_many(executor: Executor, tasks: int) -> Sample:
    """The CPU time of a call that does nothing, in microseconds: this process's and its children's, all threads."""
    children = list(executor._processes)  # type: ignore[attr-defined] # noqa: SLF001 - the stock pool has no other way
    before, start = _cpu(children), perf_counter()
    futures = [executor.submit(nothing) for _ in range(tasks)]
    for future in futures:
        future.result(_WAIT_S)
    wall_s, cpu_s = perf_counter() - start, _cpu(children) - before
    return Sample(cpu_s / tasks * MICROSECONDS, wall_s=wall_s, cpu_s=cpu_s)


def latencies(executor: Executor, calls: int) -> Sample:
    """Call one after the other; each latency is from the submission to the result, in milliseconds."""
    found, began = [], perf_counter()
    for _ in range(calls):
        start = perf_counter()
        executor.submit(nothing).result(_WAIT_S)
        found.append((perf_counter() - start) * MILLISECONDS)
    return Sample(median(found), wall_s=perf_counter() - began, latencies=found)


def sleeps(executor: Executor, tasks: int, seconds: float) -> Sample:
    """Submit `tasks` sleeps at once; the value is the seconds until all are over."""
    start = perf_counter()
    futures = [executor.submit(sleep_for, seconds) for _ in range(tasks)]
    for future in futures:
        future.result(_WAIT_S)
    wall_s = perf_counter() - start
    return Sample(wall_s, wall_s=wall_s)


def behind_one_long(executor: Executor, short: int = SHORT, long_s: float = LONG_S) -> Sample:
    """Submit many short calls with a long one among the first; the value is how many of them ended after it.

    All are submitted at once. A short call that ends behind the long one has waited for it: the other child was free
    long before.
    """
    head = short // 8
    start = perf_counter()
    before = [executor.submit(when_done, 0.0) for _ in range(head)]
    long = executor.submit(when_done, long_s)
    behind = [executor.submit(when_done, 0.0) for _ in range(short - head)]
    ended = long.result(_WAIT_S)
    waited = sum(future.result(_WAIT_S) >= ended for future in (*before, *behind))
    return Sample(float(waited), wall_s=perf_counter() - start)


def after_a_kill(executor: Executor, innocents: int = INNOCENTS) -> Sample:
    """Kill a child inside its call, among others; the value is the seconds from its death to the future's verdict.

    Extras: `innocents`, how many of the other calls gave their results, and `usable`, whether another call is taken.
    """
    start = perf_counter()
    with tempfile.TemporaryDirectory(prefix="strata-crash-") as folder:
        file = Path(folder) / "died"
        verdict: SimpleQueue[float] = SimpleQueue()
        others: list[Future[float]] = [executor.submit(when_done, 0.02) for _ in range(innocents // 2)]
        victim = executor.submit(die, str(file))
        victim.add_done_callback(lambda _: verdict.put(monotonic()))
        others += _submitted(executor, innocents - len(others))
        wait(others, timeout=_WAIT_S)
        if not isinstance(victim.exception(_WAIT_S), BrokenExecutor):
            raise ProtocolError(f"a killed call came to {victim.exception()!r}, not to a BrokenExecutor")
        died = float(file.read_text())
    completed = sum(future.done() and future.exception() is None for future in others)
    usable = _usable(executor)
    if usable:
        # A function in which one child after the other dies is put in quarantine: let it end well once.
        executor.submit(die, "").result(_WAIT_S)
    return Sample(
        verdict.get(timeout=_WAIT_S) - died,
        wall_s=perf_counter() - start,
        extras={"innocents": float(completed), "usable": float(usable)},
    )


def _submitted(executor: Executor, count: int) -> list[Future[float]]:
    """What a broken pool no longer takes is missing."""
    taken = []
    for _ in range(count):
        try:
            taken.append(executor.submit(when_done, 0.02))
        except BrokenExecutor:
            break
    return taken


def _usable(executor: Executor) -> bool:
    try:
        executor.submit(nothing).result(_WAIT_S)
    except BrokenExecutor:
        return False
    return True


def _cpu(children: list[int]) -> float:
    return process_time() + sum(map(cpu_seconds, children))
