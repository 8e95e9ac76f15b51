"""`strata functions bench`: one question to a function service of its own on this machine, its peers beside it.

It owns the questions and their sizes; how a round is measured and reported is the benchmarks' own way.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, cast, get_args

from strata_zmq.errors import InvalidArgumentError, StrataError

from .environment import stamp
from .loads.function_calls import latencies, rate, sleeps
from .loads.function_contenders import MODULES, peer_latencies, peer_rate, stock_pool, through
from .loads.functions import Mode
from .model import Case, Settings, Suite
from .progress import progress
from .report_terminal import print_report
from .runner import run as run_suites

__all__ = ["KINDS", "Kind", "run"]

Kind = Literal["latency", "throughput", "scaling"]
KINDS = get_args(Kind)
_TASKS_MAX = 1_000_000
_WORKERS_MAX = 256
_SLEEP_S = 0.1
_SLEEPS_EACH = 5
_ROUNDS = 3


def run(kind: str, mode: str, *, tasks: int = 2000, workers: int = 2) -> int:
    """Measure, print the rows, and return the exit code: 1 where something could not be measured, 2 for a mistake.

    `latency` calls one after the other, `throughput` submits `tasks` calls at once, and `scaling` gives 1, 2, 4, ...
    up to `workers` children equally much sleep each. `mode` is the dispatcher's: local, pull or push. Peers that are
    installed (scripts/install_peers) take part in latency and throughput.
    """
    try:
        _check(kind, mode, tasks, workers)
        with tempfile.TemporaryDirectory(prefix="strata-functions-bench-") as scratch, progress() as shown:
            settings = Settings(quick=False, scratch=Path(scratch), rounds=_ROUNDS)
            cases = partial(_CASES[cast("Kind", kind)], cast("Mode", mode), tasks, workers)
            suite = Suite("functions", f"{kind}, mode {mode}", cases)
            report, interrupted = run_suites([suite], settings, stamp(quick=False), shown)
    except StrataError as mistake:
        print(f"strata functions bench: {mistake}", file=sys.stderr)
        return 2
    print_report(report)
    if interrupted:
        return 130
    return 1 if report.failures or not report.rows else 0


def _check(kind: str, mode: str, tasks: int, workers: int) -> None:
    for field, value, known in (("--type", kind, KINDS), ("--mode", mode, get_args(Mode))):
        if value not in known:
            raise InvalidArgumentError(f"{field} is {value!r}; it is one of {', '.join(known)}")
    for field, number, most in (("--tasks", tasks, _TASKS_MAX), ("--workers", workers, _WORKERS_MAX)):
        if not 1 <= number <= most:
            raise InvalidArgumentError(f"{field} is {number}; it is between 1 and {most:,}")


def _latency(mode: Mode, tasks: int, workers: int, settings: Settings) -> Iterator[Case]:
    calls = min(tasks, 500)
    yield Case(
        name=f"latency of a call, {mode}",
        size=f"{calls:,} calls, one after the other, {workers} children",
        unit="ms",
        better="lower",
        subject=through(settings.scratch, mode, partial(latencies, calls=calls), workers),
        peers=(
            stock_pool(workers, partial(latencies, calls=calls)),
            *(peer_latencies(name, calls, workers) for name in MODULES),
        ),
    )


def _throughput(mode: Mode, tasks: int, workers: int, settings: Settings) -> Iterator[Case]:
    yield Case(
        name=f"calls that do nothing, {mode}",
        size=f"{tasks:,} calls, submitted at once, {workers} children",
        unit="calls/s",
        better="higher",
        subject=through(settings.scratch, mode, partial(rate, tasks=tasks), workers),
        peers=(
            stock_pool(workers, partial(rate, tasks=tasks)),
            *(peer_rate(name, tasks, workers) for name in MODULES),
        ),
    )


def _scaling(mode: Mode, tasks: int, workers: int, settings: Settings) -> Iterator[Case]:
    """As much work for each child, however many there are: perfect scaling takes the same time in every row."""
    children = 1
    while children <= workers:
        yield Case(
            name=f"weak scaling, {mode}",
            size=f"{_SLEEPS_EACH * children} sleeps of {_SLEEP_S:g} s, {children} children",
            unit="s",
            better="lower",
            subject=through(
                settings.scratch, mode, partial(sleeps, tasks=_SLEEPS_EACH * children, seconds=_SLEEP_S), children
            ),
            notes=(f"asleep all the time: {_SLEEPS_EACH * _SLEEP_S:g} s",),
        )
        children = workers if children < workers < 2 * children else 2 * children


_CASES: dict[Kind, Callable[[Mode, int, int, Settings], Iterator[Case]]] = {
    "latency": _latency,
    "throughput": _throughput,
    "scaling": _scaling,
}
