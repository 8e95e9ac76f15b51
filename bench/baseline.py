"""Owns the remembered run and the rule for a regression; knows no suite and prints nothing.

A row regressed when both hold: the interval of its figure does not overlap the remembered one, and it is more than 10 %
worse. The figure compared is the ratio to the row's limit, which was measured in the same rounds, so a slower machine
or a busier hour moves both sides and cancels. Rows without a limit are compared by their own median, and only when the
CPU model is the same.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from strata_zmq.errors import InvalidArgumentError, NotFoundError

from .formatting import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .figures import Better, Figure
    from .model import Report, Row

__all__ = ["TOLERANCE", "Baseline", "compare", "default_path", "load", "save"]

TOLERANCE = 0.10
"""Share by which a figure may be worse before it is a regression, however narrow its interval."""


class Remembered(msgspec.Struct, frozen=True):
    """One row of the remembered run: its figure, and its ratio to the limit, as (median, low, high)."""

    figure: tuple[float, float, float]
    ratio: tuple[float, float, float] | None
    cpu: str
    git_commit: str | None


class Baseline(msgspec.Struct, frozen=True):
    """The remembered rows by their keys."""

    version: int
    rows: dict[str, Remembered]


def default_path() -> Path:
    """Return the file in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "strata-zmq" / "bench-baseline.json"


def load(path: Path) -> Baseline:
    """Return the remembered run.

    Raises NotFoundError when there is none, InvalidArgumentError when the file is not one of ours.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Baseline)
    except FileNotFoundError:
        raise NotFoundError(f"no baseline at {path}: make one with --baseline save") from None
    except (msgspec.MsgspecError, ValueError) as reason:
        raise InvalidArgumentError(
            f"baseline {path} cannot be read ({reason}): replace it with --baseline save"
        ) from None
    if found.version != 1:
        raise InvalidArgumentError(
            f"baseline {path} has version {found.version}, not 1: replace it with --baseline save"
        )
    return found


def save(report: Report, path: Path) -> None:
    """Remember the report's rows at `path`; rows of an earlier baseline that this run did not measure stay."""
    try:
        earlier = load(path).rows
    except (NotFoundError, InvalidArgumentError):
        earlier = {}
    rows = {**earlier, **{row.key: _remember(row, report.environment) for row in report.rows}}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(msgspec.to_builtins(Baseline(version=1, rows=rows)), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def compare(report: Report, baseline: Baseline) -> Report:
    """Return the report with regressed rows marked, and with a note on each row that has nothing to compare with."""
    cpu = str(report.environment.get("cpu"))
    return replace(report, rows=tuple(_marked(row, baseline.rows.get(row.key), cpu) for row in report.rows))


def _remember(row: Row, environment: Mapping[str, object]) -> Remembered:
    commit = environment.get("git_commit")
    return Remembered(
        figure=_triple(row.subject.figure),
        ratio=_triple(row.ratio) if row.ratio else None,
        cpu=str(environment.get("cpu")),
        git_commit=None if commit is None else str(commit),
    )


def _marked(row: Row, before: Remembered | None, cpu: str) -> Row:
    if before is None:
        return replace(row, notes=(*row.notes, "the baseline does not have this row"))
    if row.ratio is not None and before.ratio is not None:
        now, then, what = _triple(row.ratio), before.ratio, "x limit"
    elif before.cpu == cpu:
        now, then, what = _triple(row.subject.figure), before.figure, row.unit
    else:
        return replace(row, notes=(*row.notes, f"not compared: no limit, and the baseline was taken on {before.cpu}"))
    return replace(row, regression=_regression(row.better, now, then, what, before.git_commit))


def _regression(
    better: Better,
    now: tuple[float, float, float],
    then: tuple[float, float, float],
    what: str,
    commit: str | None,
) -> str | None:
    apart = now[2] < then[1] if better == "higher" else now[1] > then[2]
    worse, base = (then[0], now[0]) if better == "higher" else (now[0], then[0])
    if not apart or worse <= base * (1 + TOLERANCE):
        return None
    factor = f"{worse / base:.2f}x worse" if base else "worse"
    return f"{factor}: {_span(now)} {what}, was {_span(then)} at {commit or 'an unknown commit'}"


def _triple(figure: Figure) -> tuple[float, float, float]:
    return figure.median, figure.low, figure.high


def _span(triple: tuple[float, float, float]) -> str:
    return f"{number(triple[0])} [{number(triple[1])}, {number(triple[2])}]"
