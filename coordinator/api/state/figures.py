"""The figures of now: rates over ten seconds, quantiles over a minute. It knows no clock; samples say when.

A figure that nothing was measured for is None. Quantiles of barriers are of the ends that were told; where some were
left out, of the histogram, which has them all in coarser steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from strata_zmq.protocol.fields import DATA_WAIT_BOUNDS_S
from strata_zmq.protocol.sight_rows import BARRIER_BOUNDS_S, REQUEST_BOUNDS_S, FunctionsSight, ReleaseSight

from .models import Metrics
from .picture import Picture
from .rates import Window, bucket_quantile, quantile
from .rows import BarrierStatistics, ShardShare, Worker

__all__ = ["RATE_S", "WINDOW_S", "Figures"]

RATE_S = 10.0
WINDOW_S = 60.0
_RELEASES_MAX = 10_000
"""Ends of barriers that quantiles are made of; more in a minute come from the histogram."""


class Figures:
    """What the samples of the last minute say."""

    def __init__(self) -> None:
        self._job = Window(WINDOW_S)
        self._functions = Window(WINDOW_S)
        self._releases: deque[ReleaseSight] = deque(maxlen=_RELEASES_MAX)
        self._core_now = 0.0
        self._whole = True

    def released(self, row: ReleaseSight) -> None:
        """Take the end of one barrier."""
        if self._releases and row.number < self._releases[-1].number:
            self._releases.clear()  # another life of the core
        self._releases.append(row)

    def sample(self, at: float, picture: Picture | None, data_waits: Sequence[int]) -> None:
        """Take the coordinator's counters of this second; None while it is not heard."""
        if picture is None or picture.job is None:
            self._job.clear()
            self._releases.clear()
            return
        job = picture.job
        self._core_now = picture.at
        numbers = {
            "samples": job.committed_samples,
            "requests": job.requests,
            "releases": job.releases,
            "checkpoint_bytes": job.checkpoint_bytes,
        }
        lists: dict[str, Sequence[int]] = {"data_waits": list(data_waits)}
        sums: dict[str, list[int]] = {}
        for row in picture.tables["histograms"].values():
            kept = sums.setdefault(row.name, [0] * len(row.buckets))
            for place, count in enumerate(row.buckets[: len(kept)]):
                kept[place] += count
        self._job.sample(at, numbers, lists | sums, life=picture.life)
        since = picture.at - WINDOW_S
        while self._releases and self._releases[0].ended_at < since:
            self._releases.popleft()
        first, last = (self._releases[0], self._releases[-1]) if self._releases else (None, None)
        told = last.number - first.number + 1 if first is not None and last is not None else 0
        self._whole = told == len(self._releases) and len(self._releases) < _RELEASES_MAX

    def sample_functions(self, at: float, picture: Picture | None) -> None:
        """Take the dispatcher's counters of this second; None while it is not heard."""
        row: FunctionsSight | None = picture.functions if picture is not None else None
        if picture is None or row is None:
            self._functions.clear()
            return
        numbers = {
            "accepted": row.accepted_total,
            "completed": row.completed_total,
            "failed": row.failed_total,
            "ended": row.ended_total,
        }
        self._functions.sample(at, numbers, life=picture.life)

    def function_rates(self) -> tuple[float | None, float | None, float | None]:
        """Return accepted, completed and failed calls a second."""
        rate = self._functions.rate
        return rate("accepted", RATE_S), rate("completed", RATE_S), rate("failed", RATE_S)

    def function_ends(self) -> tuple[float | None, float | None]:
        """Return how many calls ended in the last minute, and how many of them failed."""
        ended, failed = self._functions.change("ended"), self._functions.change("failed")
        return (ended[0] if ended else None), (failed[0] if failed else None)

    def metrics(self, workers: Sequence[Worker], picture: Picture | None) -> Metrics:
        """Return the published figures and their neighbours."""
        status = [one.status for one in workers]
        saved = picture is not None and picture.job is not None and picture.job.checkpoint_bytes > 0
        written = self._job.rate("checkpoint_bytes", RATE_S) if saved else None
        return Metrics(
            checkpoint_throughput=None if written is None else written / 1e6,
            coordinator_rps=self._job.rate("requests", RATE_S),
            active_workers=status.count("active"),
            total_workers=len(status),
            barrier_latency_p99=_ms(self.barrier_wait(0.99)) if picture is not None else None,
            shard_assignment_time=self._bucket_ms("assignment", 0.5),
            samples_per_s=self._job.rate("samples", RATE_S),
            barriers_per_s=self._job.rate("releases", RATE_S),
            idle_workers=status.count("idle"),
            failed_workers=status.count("failed"),
            unknown_workers=status.count("unknown"),
            request_latency_p99_ms=self._bucket_ms("request", 0.99),
            data_wait_p99_ms=_ms(bucket_quantile(DATA_WAIT_BOUNDS_S, self._job.buckets("data_waits"), 0.99)),
            tasks_per_s=self._functions.rate("completed", RATE_S),
        )

    def barrier_wait(self, share: float) -> float | None:
        """Return a quantile, in seconds, of the time from the first arrival to the release, of the last minute."""
        if not self._whole:
            return bucket_quantile(BARRIER_BOUNDS_S, self._job.buckets("barrier"), share)
        return quantile([row.wait_s for row in self._releases if row.released], share)

    def barrier_statistics(self, most_often_last: list[ShardShare]) -> BarrierStatistics:
        """Return the figures of barriers. How late workers came is known of the ends that were told."""
        skews = [row.lag.max_ms for row in self._releases if row.released and row.lag is not None]
        counted = self._job.change("releases")
        count = len(self._releases) if self._whole or counted is None else int(counted[0])
        return BarrierStatistics(
            window_s=WINDOW_S,
            count=count,
            wait_p50_ms=_ms(self.barrier_wait(0.5)),
            wait_p99_ms=_ms(self.barrier_wait(0.99)),
            skew_p50_ms=quantile(skews, 0.5),
            skew_p99_ms=quantile(skews, 0.99),
            most_often_last=most_often_last,
        )

    def points(
        self, metrics: Metrics, statistics: BarrierStatistics, goodput: Any, queued: int | None
    ) -> dict[str, Any]:
        """Return this second's points of the series of `history.SERIES`."""
        _, completed, failed = self.function_rates()
        return {
            "samples_per_s": metrics.samples_per_s,
            "checkpoint_megabytes_per_s": metrics.checkpoint_throughput,
            "requests_per_s": metrics.coordinator_rps,
            "barriers_per_s": metrics.barriers_per_s,
            "barrier_p50_ms": statistics.wait_p50_ms,
            "barrier_p99_ms": statistics.wait_p99_ms,
            "skew_p50_ms": statistics.skew_p50_ms,
            "skew_p99_ms": statistics.skew_p99_ms,
            "goodput_percent": goodput.percent,
            "active_workers": metrics.active_workers,
            "failed_workers": metrics.failed_workers,
            "queued_tasks": queued,
            "tasks_per_s": completed,
            "task_failures_per_s": failed,
        }

    def _bucket_ms(self, name: str, share: float) -> float | None:
        return _ms(bucket_quantile(REQUEST_BOUNDS_S, self._job.buckets(name), share))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
