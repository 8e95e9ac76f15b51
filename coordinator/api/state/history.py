"""The last hour of each figure, one point a second, in memory of constant size. It never knows what a figure means."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .models import History
from .operations import HISTORY_MAX_S

__all__ = ["SERIES", "HistoryStore"]

SERIES = (
    "samples_per_s",
    "checkpoint_megabytes_per_s",
    "requests_per_s",
    "barriers_per_s",
    "barrier_p50_ms",
    "barrier_p99_ms",
    "skew_p50_ms",
    "skew_p99_ms",
    "goodput_percent",
    "active_workers",
    "failed_workers",
    "queued_tasks",
    "tasks_per_s",
    "task_failures_per_s",
)
_BACK_S = 60
"""Times that go back by more are of a clock that was set."""


class HistoryStore:
    """A ring of HISTORY_MAX_S points for each series of SERIES; a second without a figure has none."""

    def __init__(self) -> None:
        self._points = np.full((len(SERIES), HISTORY_MAX_S), math.nan)
        self._last = -1
        """The second of the last point, Unix time."""

    def append(self, at: float, values: Mapping[str, float | None]) -> None:
        """Take the figures of the second that `at` is in; seconds that were left out have none.

        What is older than the last point by an hour is forgotten, and a time before the last point changes nothing;
        a clock that was set back by more than _BACK_S begins anew.
        """
        second = int(at)
        if second < self._last - _BACK_S:
            self._points[:] = math.nan
            self._last = second - 1
        if second < self._last:
            return
        if self._last < 0:
            self._last = second - 1
        for missed in range(max(self._last + 1, second - HISTORY_MAX_S + 1), second + 1):
            self._points[:, missed % HISTORY_MAX_S] = math.nan
        self._last = second
        for place, name in enumerate(SERIES):
            value = values.get(name)
            if value is not None and math.isfinite(value):
                self._points[place, second % HISTORY_MAX_S] = value

    def read(self, seconds: int, end: float) -> History:
        """Return the `seconds` points up to and with the second before `end`, in Unix seconds."""
        stop = int(end)
        start = stop - seconds
        wanted = np.arange(start, stop)
        known = (wanted > self._last - HISTORY_MAX_S) & (wanted <= self._last)
        columns = self._points[:, wanted % HISTORY_MAX_S]
        columns[:, ~known] = math.nan
        series = {name: [None if math.isnan(one) else one for one in row] for name, row in _rows(columns)}
        return History(start=start * 1000, step_s=1.0, series=series)


def _rows(columns: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[tuple[str, list[float]]]:
    return [(name, columns[place].tolist()) for place, name in enumerate(SERIES)]
