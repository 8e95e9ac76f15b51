"""What each worker spent each second of the last hour on, one byte a worker and second. It knows no wire and no clock.

Workers report how much of the time since their last report went to what, not in which order; it is painted in the order
data, training, barrier, checkpoint, and the rest is idle. A second has the phase that it mostly was in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from .models import Release, Timeline, TimelineRow
from .operations import HISTORY_MAX_S
from .rows import Phase

__all__ = ["PAINTED", "PHASES", "WORKERS_MAX", "TimelineStore"]

PHASES: tuple[Phase, ...] = get_args(Phase)
PAINTED: tuple[Phase, ...] = ("data", "training", "barrier", "checkpoint")
"""In this order; what is left of a report's time is idle."""
WORKERS_MAX = 10_000
"""Rows of an hour: one more takes the place of the one that has been away longest, and has none while all are there."""
_CELLS_MAX = 400_000
"""Of one answer: a longer time of more workers comes in coarser steps."""
_NUMBER = {phase: number for number, phase in enumerate(PHASES)}
_ABSENT, _UNKNOWN, _IDLE = _NUMBER["absent"], _NUMBER["unknown"], _NUMBER["idle"]
_AWAY = ("absent", "lost")
_AHEAD_MAX_S = HISTORY_MAX_S
"""How far a core's clock may be ahead of this process's; what it says of later seconds is not painted."""
_BACK_S = 60
"""Times that go back by more are of a clock that was set, not of one that differs a little."""
_ROWS_FIRST = 64


class _Row:
    """One worker's place, what its seconds are until it says something, and the second that it is in the middle of."""

    __slots__ = ("away_at", "open_s", "open_second", "place", "until")

    def __init__(self, place: int, until: float) -> None:
        self.place = place
        self.until = until
        self.away_at: float | None = None
        self.open_second = -1
        self.open_s = [0.0] * len(PHASES)


class TimelineStore:
    """A ring of HISTORY_MAX_S seconds for up to WORKERS_MAX workers; times are Unix seconds."""

    def __init__(self) -> None:
        self._cells = np.full((_ROWS_FIRST, HISTORY_MAX_S), _ABSENT, dtype=np.uint8)
        self._base = np.full(_ROWS_FIRST, _ABSENT, dtype=np.uint8)
        self._rows: dict[str, _Row] = {}
        self._free = list(range(_ROWS_FIRST - 1, -1, -1))
        self._last = self._now = -1

    def advance(self, now: float) -> None:
        """Go on to the second of `now`: what nobody has said anything of is unknown, or lost, or absent.

        Where the clock was set back by more than any core's may be ahead, all that was painted is of no time.
        """
        self._now = second = int(now)
        if second < self._last - _AHEAD_MAX_S - _BACK_S:
            self._cells[:] = _ABSENT
            self._last = second - 1
        self._go_on(second)

    def _go_on(self, second: int) -> None:
        if self._last < 0:
            self._last = second - 1
        for one in range(max(self._last + 1, second - HISTORY_MAX_S + 1), second + 1):
            self._cells[:, one % HISTORY_MAX_S] = self._base
        self._last = max(self._last, second)

    def begin(self, worker_id: str, at: float, registered_at: float | None = None) -> None:
        """Have a worker whose reports begin at `at`; one that was lost or has left comes back. What it did since
        `registered_at` and before that is not known.
        """
        row = self._rows.get(worker_id)
        if row is None:
            place = self._place()
            if place is None:
                return
            row = self._rows[worker_id] = _Row(place, at if registered_at is None else registered_at)
            self._cells[place] = _ABSENT
        elif row.away_at is not None:
            row.until = max(row.until, at if registered_at is None else registered_at)
        self._base[row.place] = _UNKNOWN
        self._fill(row, row.until, self._last + 1.0, "unknown")
        row.until, row.away_at = max(row.until, at), None

    def paint(self, worker_id: str, until: float, spent: Mapping[str, float]) -> None:
        """Say what the time from a worker's last report until `until` went to, seconds by phase of PAINTED.

        Seconds that do not fit into that time are scaled down to it: clocks differ a little. Times before the last
        report change nothing, nor does a worker that was never begun.
        """
        row = self._reaching(worker_id, until)
        if row is None:
            return
        length = until - row.until
        told = [max(0.0, spent.get(phase, 0.0)) for phase in PAINTED]
        scale = min(1.0, length / sum(told)) if sum(told) > 0 else 1.0
        at = row.until
        for phase, seconds in zip(PAINTED, told, strict=True):
            if seconds > 0:
                self._paint(row, at, at + seconds * scale, _NUMBER[phase])
                at += seconds * scale
        self._paint(row, at, until, _IDLE)
        row.until = until

    def mark(self, worker_id: str, until: float, phase: Phase) -> None:
        """Say that the time until `until` went to one phase: of a worker that reports no shares."""
        row = self._reaching(worker_id, until)
        if row is not None:
            self._paint(row, row.until, until, _NUMBER[phase])
            row.until = until

    def end(self, worker_id: str, at: float, phase: Phase) -> None:
        """Have a worker lost, or absent, since its last report. `at` is when that was decided."""
        row = self._rows.get(worker_id)
        if row is None or phase not in _AWAY:
            return
        row.away_at = at
        self._base[row.place] = _NUMBER[phase]
        self._fill(row, row.until, max(at, self._last + 1.0), phase)
        row.until = max(row.until, at)

    def names(self, since: float) -> list[str]:
        """Return the workers that were there at some time behind `since`."""
        return [name for name, row in self._rows.items() if row.away_at is None or row.away_at >= since]

    def read(
        self, seconds: int, end: float, workers: Sequence[str], total: int, releases: Iterable[Release] = ()
    ) -> Timeline:
        """Return the time from `seconds` before `end` up to it of these workers, in their order."""
        stop = int(end)
        start = stop - seconds
        step = max(1, -(-seconds * len(workers) // _CELLS_MAX))
        steps = -(-seconds // step)
        start = stop - steps * step
        wanted = np.arange(start, stop)
        known = (wanted > self._last - HISTORY_MAX_S) & (wanted <= self._last)
        rows = []
        for name in workers:
            row = self._rows.get(name)
            if row is None:
                cells = np.full(len(wanted), _UNKNOWN, dtype=np.uint8)
            else:
                cells = self._cells[row.place, wanted % HISTORY_MAX_S]
                cells[~known] = _ABSENT
            rows.append(TimelineRow(worker_id=name, runs=_runs(_coarser(cells, step))))
        return Timeline(
            start=start * 1000,
            step_s=float(step),
            steps=steps,
            phases=list(PHASES),
            rows=rows,
            releases=[one for one in releases if start * 1000 <= one.at < stop * 1000],
            total_workers=total,
        )

    def _reaching(self, worker_id: str, until: float) -> _Row | None:
        """Return a worker's row if it is of times before `until`; a clock that was set back has it go on from there."""
        row = self._rows.get(worker_id)
        if row is None:
            return None
        if until < row.until - _BACK_S:
            row.until = until
        return row if until > row.until else None

    def _paint(self, row: _Row, begin: float, end: float, phase: int) -> None:
        """Add a stretch of one phase: whole seconds are written, parts are added up until their second is over."""
        begin = max(begin, float(self._last - HISTORY_MAX_S + 1))
        if self._now >= 0:
            end = min(end, float(self._now + _AHEAD_MAX_S))
        second = int(begin)
        while begin < end:
            part = min(end, second + 1.0) - begin
            if second != row.open_second:
                row.open_second = second
                row.open_s = [0.0] * len(PHASES)
            row.open_s[phase] += part
            if self._last - HISTORY_MAX_S < second:
                cell = phase if part >= 0.5 else max(range(len(PHASES)), key=row.open_s.__getitem__)
                if second > self._last:
                    self._go_on(second)
                self._cells[row.place, second % HISTORY_MAX_S] = cell
            second += 1
            begin = float(second)

    def _fill(self, row: _Row, begin: float, end: float, phase: Phase) -> None:
        """Write whole seconds, from the one behind `begin` on."""
        first = max(int(begin) + (begin > int(begin)), self._last - HISTORY_MAX_S + 1)
        last = min(int(end), self._last + 1)
        if first < last:
            self._cells[row.place, np.arange(first, last) % HISTORY_MAX_S] = _NUMBER[phase]

    def _place(self) -> int | None:
        """Return a free row, made or taken from the worker that has been away longest; None where all are there."""
        if not self._free and len(self._cells) < WORKERS_MAX:
            have = len(self._cells)
            more = min(have, WORKERS_MAX - have)
            self._cells = np.concatenate([self._cells, np.full((more, HISTORY_MAX_S), _ABSENT, dtype=np.uint8)])
            self._base = np.concatenate([self._base, np.full(more, _ABSENT, dtype=np.uint8)])
            self._free = list(range(have + more - 1, have - 1, -1))
        if not self._free:
            away = [(row.away_at, name) for name, row in self._rows.items() if row.away_at is not None]
            if not away:
                return None
            self._free.append(self._rows.pop(min(away)[1]).place)
        return self._free.pop()


def _coarser(cells: np.ndarray[Any, np.dtype[np.uint8]], step: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return, of each `step` cells, the phase that most of them have."""
    if step == 1:
        return cells
    groups = cells.reshape(-1, step)
    counts = np.stack([(groups == number).sum(axis=1) for number in range(len(PHASES))])
    most: np.ndarray[Any, np.dtype[np.uint8]] = counts.argmax(axis=0).astype(np.uint8)
    return most


def _runs(cells: np.ndarray[Any, np.dtype[np.uint8]]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(cells)) + 1
    bounds = np.concatenate([[0], edges, [len(cells)]])
    return list(zip(cells[bounds[:-1]].tolist(), np.diff(bounds).tolist(), strict=True))
