"""What Prometheus reads at /metrics: the cores' own totals and histograms, and gauges of now. It computes no rate.

A core's families are there only while it is heard: `strata_up` says whether. Worker ids are on gauges alone, so that
counters and histograms do not grow with every worker that ever joined. What nobody has measured is absent.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from strata_zmq.protocol.fields import DATA_WAIT_BOUNDS_S
from strata_zmq.protocol.sight_rows import (
    BARRIER_BOUNDS_S,
    CHECKPOINT_BOUNDS_S,
    FUNCTION_BOUNDS_S,
    REQUEST_BOUNDS_S,
    CheckpointSight,
    FunctionsSight,
    HistogramSight,
    JobSight,
    WorkerSight,
)

if TYPE_CHECKING:
    from .feed import Feed
    from .hub import Hub

__all__ = ["FRESH_S", "StateCollector"]

FRESH_S = 1.0
"""A page is made at most once in so long, however many ask."""
_HISTOGRAMS: tuple[tuple[str, str, str, Sequence[float], str], ...] = (
    (
        "request",
        "strata_request_duration_seconds",
        "kind",
        REQUEST_BOUNDS_S,
        "From reading a request until all answers of its turn were sent.",
    ),
    (
        "assignment",
        "strata_shard_assignment_seconds",
        "",
        REQUEST_BOUNDS_S,
        "Of turns of the coordinator that dealt shards anew.",
    ),
    (
        "barrier",
        "strata_barrier_wait_seconds",
        "",
        BARRIER_BOUNDS_S,
        "From the first arrival at a barrier to its release.",
    ),
    (
        "checkpoint",
        "strata_checkpoint_phase_seconds",
        "phase",
        CHECKPOINT_BOUNDS_S,
        "Of checkpoints: until all ranks had staged, until all bytes were durable, until HEAD reached it, all of it.",
    ),
    (
        "wait",
        "strata_function_wait_seconds",
        "",
        FUNCTION_BOUNDS_S,
        "From a task's acceptance to the start of its attempt.",
    ),
    ("run", "strata_function_run_seconds", "", FUNCTION_BOUNDS_S, "How long attempts of tasks ran."),
)
"""By name of a core's histogram: the family, its label, its bounds, and what it is of."""


class StateCollector(Collector):
    """Makes the families of what a hub knows."""

    def __init__(self, hub: Hub, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._clock = clock
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._making = threading.Lock()
        self._page = b""
        self._made_at = float("-inf")

    def render(self) -> bytes:
        """Return the page in Prometheus' text format, not older than FRESH_S; from any thread."""
        with self._making:
            now = self._clock()
            if now - self._made_at >= FRESH_S:
                self._page, self._made_at = generate_latest(self._registry), now
            return self._page

    def describe(self) -> Iterable[Metric]:
        """Return nothing: which families there are depends on who is heard."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the families of this moment."""
        hub = self._hub
        yield _gauge(
            "strata_up", "Whether the core is heard.", "origin", {feed.origin: feed.connected for feed in hub.feeds}
        )
        if (feed := hub.coordinator) is not None and feed.connected and feed.picture.job is not None:
            yield from self._coordinator(feed)
        if (feed := hub.dispatcher) is not None and feed.connected and feed.picture.functions is not None:
            yield from _functions(feed.picture.functions, _rows(feed, "function_workers"))
            yield from _histograms(_rows(feed, "histograms"))
        yield from self._own()

    def _coordinator(self, feed: Feed) -> Iterator[Metric]:
        job: JobSight = feed.picture.job
        figures, goodput = self._hub.board.metrics.model, self._hub.board.goodput.model
        states = {
            "active": figures.active_workers,
            "idle": figures.idle_workers,
            "failed": figures.failed_workers,
            "unknown": figures.unknown_workers,
        }
        yield _gauge(
            "strata_workers", "Workers by state; those that were lost and are not back, failed.", "status", states
        )
        yield from _job(job)
        yield from _checkpoints(job, _rows(feed, "checkpoints"))
        yield _gauge(
            "strata_hangs", "Workers that others wait for and that do not move.", "", len(_rows(feed, "hangs"))
        )
        if goodput.percent is not None:
            text = "Share of the last minute of all workers' time that was spent training."
            yield _gauge("strata_goodput_ratio", text, "", goodput.percent / 100)
        yield from _workers(_rows(feed, "workers"), feed.picture.at)
        yield from _histograms(_rows(feed, "histograms"))
        waits = self._hub.board.times.data_waits
        if any(waits):
            waited = HistogramMetricFamily("strata_data_wait_seconds", "Waits of all workers for a batch.")
            # Workers count their waits, and do not add them up: without a sum there is no count beside the buckets.
            waited.add_metric([], _buckets(DATA_WAIT_BOUNDS_S, waits), sum_value=None)
            yield waited

    def _own(self) -> Iterator[Metric]:
        hub = self._hub
        kinds = dict(sorted(hub.board.event_counts.items()))
        yield _counter("strata_events", "Events that this process has seen, by kind.", "kind", kinds)
        yield _gauge("strata_api_clients", "Listeners of the live feed.", "", len(hub.clients))
        dropped = "Listeners that were dropped because they did not read."
        yield _counter("strata_api_dropped_clients", dropped, "", hub.clients.dropped_total)
        gaps = "Times that something of a core was missed, and its whole state was asked for again."
        yield _counter("strata_api_gaps", gaps, "", sum(feed.gaps for feed in hub.feeds))


def _job(job: JobSight) -> Iterator[Metric]:
    counters = job.counters
    yield _gauge("strata_world_size", "Members of the present generation.", "", job.world_size)
    yield _gauge("strata_generation", "Number of the present generation.", "", job.generation)
    yield _gauge("strata_epoch", "Number of the present epoch.", "", job.epoch)
    yield _counter("strata_commit_points", "Commit points of the job's history.", "", job.commit_index)
    yield _counter("strata_requests", "Requests to the coordinator.", "", job.requests)
    yield _counter("strata_committed_samples", "Samples that committed history has seen.", "", job.committed_samples)
    ended = {"released": job.releases, "broken": counters.get("barriers_broken", 0)}
    yield _counter("strata_barriers", "Barriers that have ended.", "outcome", ended)
    refused: Counter[str] = Counter()
    for name, count in counters.items():
        kind, _, code = name.partition(".")
        if kind in {"errors", "rejected"} and code:
            refused[code] += count
    yield _counter("strata_refusals", "Requests that were refused, by the code of the error.", "code", dict(refused))


def _checkpoints(job: JobSight, rows: Sequence[CheckpointSight]) -> Iterator[Metric]:
    written = "Bytes that ranks have made durable for checkpoints."
    yield _counter("strata_checkpoint_bytes", written, "", job.checkpoint_bytes)
    counters = job.counters
    ended = {
        "durable": counters.get("checkpoints_committed", 0),
        "aborted": counters.get("checkpoints_aborted", 0),
    }
    yield _counter("strata_checkpoints", "Checkpoints that have ended.", "status", ended)
    durable = [row.durable_at or row.created_at for row in rows if row.status == "durable"]
    if durable:
        text = "When the newest durable checkpoint became so, or, where nobody here saw that, was begun."
        yield _gauge("strata_last_checkpoint_timestamp_seconds", text, "", max(durable))


def _workers(rows: Sequence[WorkerSight], at: float) -> Iterator[Metric]:
    def each(name: str, text: str, of: Callable[[WorkerSight], float | None]) -> Metric:
        return _gauge(f"strata_worker_{name}", text, "worker_id", {row.worker_id: of(row) for row in rows})

    yield each("step", "The step that a worker is at.", lambda row: row.step)
    yield each("heartbeat_age_seconds", "Since a worker was heard last.", lambda row: max(0.0, at - row.heard_at))
    yield each("shards", "Shards that a worker owns.", lambda row: row.shards)
    used = [(row.worker_id, row.resources) for row in rows if row.resources is not None]
    cpu = {name: one.cpu_percent / 100 for name, one in used}
    yield _gauge("strata_worker_cpu_ratio", "Processor time over time; 2 is two cores.", "worker_id", cpu)
    memory = {name: one.memory_bytes for name, one in used}
    yield _gauge("strata_worker_memory_bytes", "Resident memory of a worker.", "worker_id", memory)
    busy = GaugeMetricFamily("strata_worker_gpu_utilization_ratio", "How busy a GPU is.", labels=["worker_id", "gpu"])
    held = GaugeMetricFamily("strata_worker_gpu_memory_bytes", "Memory of a GPU in use.", labels=["worker_id", "gpu"])
    for name, one in used:
        for gpu, percent in enumerate(one.gpu_percent):
            busy.add_metric([name, str(gpu)], percent / 100)
        for gpu, size in enumerate(one.gpu_memory_bytes):
            held.add_metric([name, str(gpu)], size)
    yield busy
    yield held


def _functions(plane: FunctionsSight, workers: Sequence[Any]) -> Iterator[Metric]:
    states = {"queued": plane.queued, "running": plane.running, "ended": plane.ended}
    yield _gauge("strata_tasks", "Tasks that the dispatcher knows, by state.", "state", states)
    ended = {
        "completed": plane.completed_total,
        "failed": plane.failed_total,
        "cancelled": plane.cancelled_total,
    }
    yield _counter("strata_tasks", "Tasks that have ended.", "outcome", ended)
    yield _gauge("strata_function_workers", "Workers of the function plane.", "", len(workers))


def _histograms(rows: Sequence[HistogramSight]) -> Iterator[Metric]:
    for name, family, label, bounds, text in _HISTOGRAMS:
        told = [row for row in rows if row.name == name and row.count and len(row.buckets) == len(bounds) + 1]
        if told:
            metric = HistogramMetricFamily(family, text, labels=[label] if label else [])
            for row in told:
                metric.add_metric([row.label] if label else [], _buckets(bounds, row.buckets), sum_value=row.sum_s)
            yield metric


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound."""
    total, buckets = 0, []
    for bound, count in zip((*map(floatToGoString, bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def _rows(feed: Feed, table: str) -> list[Any]:
    return list(feed.picture.tables[table].values())


def _gauge(name: str, text: str, label: str, values: Any) -> Metric:
    return _family(GaugeMetricFamily, name, text, label, values)


def _counter(name: str, text: str, label: str, values: Any) -> Metric:
    """Return a counter; its samples are called NAME_total."""
    return _family(CounterMetricFamily, name, text, label, values)


def _family(kind: Any, name: str, text: str, label: str, values: Any) -> Metric:
    metric: Metric = kind(name, text, labels=[label] if label else [])
    for value, count in values.items() if label else [("", values)]:
        metric.add_metric([value] if label else [], count)  # type: ignore[attr-defined]
    return metric
