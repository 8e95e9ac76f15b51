"""Owns who takes part in a case of the function plane: an executor on a service, the stock pool, another system."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from strata_zmq.bench.model import Contender, Sample
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.bench.timing import MILLISECONDS
from strata_zmq.domain.task import NO_LIMITS, TaskLimits
from strata_zmq.functions.executor import StrataExecutor

from .function_bodies import nothing
from .functions import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from strata_zmq.bench.model import Measure

    from .functions import Kept, Mode

__all__ = ["CELERY", "DASK", "MODULES", "PARSL", "RAY", "STOCK", "peer_latencies", "peer_rate", "stock_pool", "through"]

STOCK = "ProcessPoolExecutor"
RAY, PARSL, DASK, CELERY = "Ray tasks", "Parsl HTEX", "Dask distributed", "Celery on Redis"
MODULES = {RAY: "peer_ray", PARSL: "peer_parsl", DASK: "peer_dask", CELERY: "peer_celery"}
"""The other systems, and the modules in `bench/peers` that drive them."""
_WAIT_S = 60.0


def through(
    scratch: Path,
    mode: Mode,
    measure: Callable[[Executor], Sample],
    children: int,
    *,
    store: Kept = "none",
    limits: TaskLimits = NO_LIMITS,
) -> Contender:
    """An executor on a dispatcher in `mode`, with processes of its own; `cpu_s` is the dispatcher's and worker's."""

    @contextmanager
    def opened() -> Iterator[Measure]:
        with (
            service(scratch, mode, children, store=store) as running,
            StrataExecutor(running.endpoint, limits=limits) as executor,
        ):
            executor.submit(nothing).result(_WAIT_S)

            def measured() -> Sample:
                cpu = running.cpu_seconds()
                sample = measure(executor)
                return Sample(sample.value, sample.wall_s, running.cpu_seconds() - cpu, sample.latencies, sample.extras)

            yield measured

    return Contender(f"StrataExecutor, {mode}", opened)


def stock_pool(children: int, measure: Callable[[Executor], Sample]) -> Contender:
    """The standard library's pool."""

    @contextmanager
    def opened() -> Iterator[Measure]:
        with ProcessPoolExecutor(children) as executor:
            executor.submit(nothing).result(_WAIT_S)
            yield lambda: measure(executor)

    return Contender(STOCK, opened)


def peer_rate(name: str, tasks: int, workers: int) -> Contender:
    """Another system's calls a second."""

    @contextmanager
    def opened() -> Iterator[Measure]:
        with peer_process(MODULES[name], workers=workers) as peer:

            def measured() -> Sample:
                wall_s = peer.call("throughput", tasks=tasks)["wall_s"]
                return Sample(tasks / wall_s, wall_s=wall_s)

            yield measured

    return Contender(name, opened)


def peer_latencies(name: str, calls: int, workers: int) -> Contender:
    """Another system's latencies, in milliseconds."""

    @contextmanager
    def opened() -> Iterator[Measure]:
        with peer_process(MODULES[name], workers=workers) as peer:

            def measured() -> Sample:
                start = perf_counter()
                found = [each * MILLISECONDS for each in peer.call("latencies", tasks=calls)["latencies"]]
                return Sample(median(found), wall_s=perf_counter() - start, latencies=found)

            yield measured

    return Contender(name, opened)
