"""Owns a whole run: suite after suite, case after case; one that fails is written down and the next one starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .formatting import interval, verdict
from .measure import run_case
from .model import Absent, Case, Failure, Report, Row, Settings, Suite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .progress import Progress

__all__ = ["run"]


def run(
    suites: Sequence[Suite], settings: Settings, environment: Mapping[str, object], shown: Progress
) -> tuple[Report, bool]:
    """Measure all cases of `suites`; returns the report, and whether the run was interrupted before its end."""
    rows: list[Row] = []
    failures: list[Failure] = []
    skipped: list[str] = []
    interrupted = False
    try:
        for suite in suites:
            _run_suite(suite, settings, shown, rows, failures, skipped)
    except KeyboardInterrupt:
        interrupted = True
    return Report(environment, tuple(rows), tuple(failures), tuple(skipped)), interrupted


def _run_suite(
    suite: Suite,
    settings: Settings,
    shown: Progress,
    rows: list[Row],
    failures: list[Failure],
    skipped: list[str],
) -> None:
    current = "set-up"
    try:
        for case in suite.cases(settings):
            current = f"{case.name} ({case.size})"
            shown.begin(f"{suite.name}: {current}")
            try:
                row = run_case(suite.name, case, rounds=_rounds(case, settings), on_round=shown.advance)
            except Absent as reason:
                skipped.append(f"{suite.name}/{current}: {reason}")
                shown.end(f"not run: {reason}")
            else:
                rows.append(row)
                shown.end(_outcome(row))
            current = "set-up of the next case"
    except Exception as reason:  # noqa: BLE001 - whatever one suite raises, the others' figures are kept
        failures.append(Failure(suite.name, current, f"{type(reason).__name__}: {reason}"))
        shown.end(f"failed: {type(reason).__name__}: {reason}")


def _rounds(case: Case, settings: Settings) -> int:
    return settings.rounds or case.rounds


def _outcome(row: Row) -> str:
    floor = f"; {row.floor_id} {verdict(row)}" if row.floor_id else ""
    return f"{row.case}: {interval(row.subject.figure)} {row.unit}{floor}{'; noisy' if row.noisy else ''}"
