"""Owns the shape of `--json`: the environment, then one object per row; knows nothing of how it is shown.

    {environment: {...},
     rows: [{suite, case, size, unit, better, median, low, high, coverage, p99, rounds, wall_s, cpu_s, extras,
             limit: {name, median, low, high, p99, wall_s, cpu_s, extras} | null, ratio: {median, low, high} | null,
             peers: [{name, median, ...}], absent: {name: reason}, floor_id, floor, met, notes, noisy, regression}],
     failures: [{suite, case, reason}], skipped: [case, ...]}

`p99` is null where the row is no latency or had too few operations; `met` is null where the floor was not measured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .figures import Figure, PeerFigure
    from .model import Report, Row

__all__ = ["as_json", "write_json"]


def as_json(report: Report) -> dict[str, object]:
    """Return `report` as values that JSON can carry."""
    return {
        "environment": dict(report.environment),
        "rows": [_row(row) for row in report.rows],
        "failures": [
            {"suite": failure.suite, "case": failure.case, "reason": failure.reason} for failure in report.failures
        ],
        "skipped": list(report.skipped),
    }


def write_json(report: Report, path: Path) -> None:
    """Write `report` to `path`, whole or not at all."""
    text = json.dumps(as_json(report), indent=2, allow_nan=False)
    draft = path.with_name(path.name + ".part")
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(path)


def _row(row: Row) -> dict[str, object]:
    return {
        "suite": row.suite,
        "case": row.case,
        "size": row.size,
        "unit": row.unit,
        "better": row.better,
        **{name: value for name, value in _contender(row.subject).items() if name != "name"},
        "coverage": row.subject.figure.coverage,
        "rounds": list(row.subject.figure.values),
        "limit": _contender(row.limit) if row.limit else None,
        "ratio": _interval(row.ratio) if row.ratio else None,
        "peers": [_contender(peer) for peer in row.peers],
        "absent": dict(row.absent),
        "floor_id": row.floor_id,
        "floor": row.floor,
        "met": row.met,
        "notes": list(row.notes),
        "noisy": list(row.noisy),
        "regression": row.regression,
    }


def _contender(found: PeerFigure) -> dict[str, object]:
    return {
        "name": found.name,
        **_interval(found.figure),
        "p99": found.figure.p99,
        "wall_s": found.wall_s,
        "cpu_s": found.cpu_s,
        "extras": dict(found.extras),
    }


def _interval(figure: Figure) -> dict[str, object]:
    return {"median": figure.median, "low": figure.low, "high": figure.high}
