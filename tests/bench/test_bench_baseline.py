"""What counts as a regression, and where the remembered run lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from strata_zmq.bench import baseline
from strata_zmq.bench.model import Report, Row
from strata_zmq.errors import InvalidArgumentError, NotFoundError

Rows = Callable[..., Row]
Reports = Callable[..., Report]

LIMIT = [1.0] * 6


def compared(tmp_path: Path, make_report: Reports, before: Row, now: Row) -> Row:
    path = tmp_path / "baseline.json"
    baseline.save(make_report(before), path)
    return baseline.compare(make_report(now), baseline.load(path)).rows[0]


@pytest.mark.parametrize(
    ("now", "regressed"),
    [
        ([1.2, 1.2, 1.21, 1.2, 1.2, 1.2], True),  # 20 % worse and apart
        ([1.08, 1.08, 1.08, 1.08, 1.08, 1.08], False),  # apart, but within 10 %
        ([1.0, 1.3, 1.3, 1.3, 1.3, 1.3], False),  # 30 % worse, but the intervals overlap
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], False),  # better
    ],
)
def test_a_regression_is_more_than_ten_percent_worse_with_intervals_apart(
    tmp_path: Path, make_report: Reports, make_row: Rows, now: list[float], regressed: bool
) -> None:
    before = make_row([1.0, 1.0, 1.0, 1.0, 1.0, 1.01], LIMIT)
    row = compared(tmp_path, make_report, before, make_row(now, LIMIT))
    assert (row.regression is not None) is regressed


def test_for_rates_lower_is_the_worse_side(tmp_path: Path, make_report: Reports, make_row: Rows) -> None:
    before = make_row([100.0] * 6, LIMIT, better="higher")
    slower = compared(tmp_path, make_report, before, make_row([80.0] * 6, LIMIT, better="higher"))
    faster = compared(tmp_path, make_report, before, make_row([130.0] * 6, LIMIT, better="higher"))
    assert slower.regression is not None
    assert slower.regression.startswith("1.25x worse: 80 [80, 80] x limit, was 100 [100, 100]")
    assert faster.regression is None


def test_a_slower_machine_is_no_regression_because_the_limit_slows_down_with_it(
    tmp_path: Path, make_report: Reports, make_row: Rows
) -> None:
    before = make_row([2.0] * 6, [1.0] * 6)
    assert compared(tmp_path, make_report, before, make_row([6.0] * 6, [3.0] * 6)).regression is None
    assert compared(tmp_path, make_report, before, make_row([2.0] * 6, [0.5] * 6)).regression is not None


def test_without_a_limit_only_the_same_cpu_is_compared(tmp_path: Path, make_report: Reports, make_row: Rows) -> None:
    path = tmp_path / "baseline.json"
    baseline.save(make_report(make_row([1.0] * 6)), path)
    same = make_report(make_row([2.0] * 6))
    other = replace(same, environment={"cpu": "another cpu"})
    assert baseline.compare(same, baseline.load(path)).regressions
    moved = baseline.compare(other, baseline.load(path))
    assert not moved.regressions
    assert "not compared" in moved.rows[0].notes[-1]


def test_a_row_that_the_baseline_lacks_says_so(tmp_path: Path, make_report: Reports, make_row: Rows) -> None:
    row = compared(tmp_path, make_report, make_row(case="an old case"), make_row(case="a new case"))
    assert row.regression is None
    assert row.notes[-1] == "the baseline does not have this row"


def test_saving_one_suite_keeps_the_others(tmp_path: Path, make_report: Reports, make_row: Rows) -> None:
    path = tmp_path / "deep" / "baseline.json"
    baseline.save(make_report(make_row(case="first")), path)
    baseline.save(make_report(make_row(case="second")), path)
    assert set(baseline.load(path).rows) == {"made/first/10 things", "made/second/10 things"}
    assert [entry.name for entry in path.parent.iterdir()] == ["baseline.json"]


def test_a_missing_baseline_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--baseline save"):
        baseline.load(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "rows": {}}', '{"version": 1, "rows": {"a": 3}}'])
def test_a_file_that_is_no_baseline_is_named_and_can_be_replaced(
    tmp_path: Path, make_report: Reports, make_row: Rows, text: str
) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match=r"baseline\.json"):
        baseline.load(path)
    baseline.save(make_report(make_row()), path)
    assert baseline.load(path).rows


def test_the_default_file_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert baseline.default_path() == tmp_path / "strata-zmq" / "bench-baseline.json"
