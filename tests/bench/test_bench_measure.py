"""The order of events in a case, what becomes of its samples, and how its floor is judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strata_zmq.bench.figures import Better
from strata_zmq.bench.floors import Absolute, Condition, Extra, Floor, ToLimit, ToPeer, Where
from strata_zmq.bench.measure import run_case
from strata_zmq.bench.model import Absent, Case, Contender, Row, Settings, Suite
from strata_zmq.bench.progress import progress
from strata_zmq.bench.runner import run

Contenders = Callable[..., Contender]
Missing = Callable[[str], Contender]


def measured(case: Case, rounds: int) -> Row:
    return run_case("made", case, rounds=rounds, on_round=lambda done, total: None)


def a_case(subject: Contender, limit: Contender | None = None, better: Better = "lower", **others: Any) -> Case:
    return Case("a case", "10 things", "ms", better, subject, limit, **{"warmup": 0, **others})


def test_rounds_are_interleaved_and_nobody_is_always_first(playing: Contenders) -> None:
    log: list[str] = []
    case = a_case(playing("strata", [1.0] * 3, log), playing("bare", [1.0] * 3, log))
    measured(case, 3)
    opened, rounds, closed = log[:2], log[2:8], log[8:]
    assert opened == ["open strata", "open bare"]
    assert rounds == ["strata", "bare", "bare", "strata", "strata", "bare"]
    assert closed == ["close bare", "close strata"]


def test_warm_up_rounds_are_run_and_thrown_away(playing: Contenders) -> None:
    row = measured(a_case(playing("strata", [900.0, 800.0, 1.0, 2.0, 3.0]), warmup=2), 3)
    assert row.subject.figure.values == (1.0, 2.0, 3.0)


def test_the_ratio_to_the_limit_is_taken_round_by_round(playing: Contenders) -> None:
    """A slow round of the machine hits both sides and leaves the ratio alone."""
    row = measured(a_case(playing("strata", [2.0, 20.0, 2.0]), playing("bare", [1.0, 10.0, 1.0])), 3)
    assert row.ratio is not None
    assert (row.ratio.median, row.ratio.low, row.ratio.high) == (2.0, 2.0, 2.0)


def test_what_binds_a_figure_stands_with_its_row_before_the_verdict(playing: Contenders) -> None:
    floor = Floor("made.floor", (Absolute(1.0, "<= 1 ms"),), rounds_min=1)
    row = measured(a_case(playing("strata", [2.0]), notes=("binds: the disk",), floor=floor), 1)
    assert row.notes == ("binds: the disk", "made.floor: asked: <= 1 ms; found 2")


def test_an_absent_peer_leaves_its_place_empty_with_the_reason(playing: Contenders, missing: Missing) -> None:
    row = measured(a_case(playing("strata", [1.0]), peers=(missing("redis"), playing("torch", [3.0]))), 1)
    assert dict(row.absent) == {"redis": "redis is not installed"}
    assert [peer.name for peer in row.peers] == ["torch"]


def test_a_case_whose_subject_is_absent_is_not_run(missing: Missing, playing: Contenders) -> None:
    log: list[str] = []
    with pytest.raises(Absent, match="strata is not installed"):
        measured(a_case(missing("strata"), playing("bare", [1.0], log)), 1)
    assert log == []


def test_a_limit_that_swings_makes_the_row_noisy(playing: Contenders) -> None:
    calm = measured(a_case(playing("strata", [1.0] * 6), playing("bare", [1.0] * 6)), 6)
    wild = measured(a_case(playing("strata", [1.0] * 6), playing("bare", [1.0, 2.0, 1.0, 2.0, 1.0, 2.0])), 6)
    assert not any("limit" in reason for reason in calm.noisy)
    assert any("the limit's own interval" in reason for reason in wild.noisy)


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        (Absolute(10.0, "<= 10"), True),
        (Absolute(9.0, "<= 9"), False),
        (Absolute(12.0, "p99 <= 12", "p99"), True),
        (Absolute(11.0, "p99 <= 11", "p99"), False),
        (ToLimit(2.0, "<= 2x"), True),
        (ToLimit(1.9, "<= 1.9x"), False),
        (ToLimit(1.5, "p99 <= 1.5x", "p99"), True),
        (ToLimit(1.4, "p99 <= 1.4x", "p99"), False),
        (ToLimit(1.6, "interval <= 1.6x", "interval"), True),
        (ToLimit(1.5, "interval <= 1.5x", "interval"), False),
        (ToPeer("redis", 0.5, "<= 0.5x redis"), True),
        (ToPeer("redis", 0.4, "<= 0.4x redis"), False),
        (ToPeer("etcd", 99.0, "<= 99x etcd"), None),
        (Extra("busy", 0.8, "higher", "busy >= 80 %"), True),
        (Extra("busy", 0.95, "higher", "busy >= 95 %"), False),
        (Extra("fans", 1.0, "lower", "fans <= 1"), None),
        (Where(Extra("busy", 0.95, "higher", "busy >= 95 %")), None),
        (Where(Extra("busy", 0.8, "higher", "busy >= 80 %")), True),
    ],
)
def test_a_floor_is_met_missed_or_not_measured(playing: Contenders, condition: Condition, met: bool | None) -> None:
    case = a_case(
        playing("strata", [8.0, 10.0, 12.0], latencies=[10.0] * 50 + [12.0] * 10),
        playing("bare", [5.0, 5.0, 5.0], latencies=[8.0] * 60),
        peers=(playing("redis", [20.0] * 3),),
        floor=Floor("made.floor", (condition,), rounds_min=3),
    )
    row = measured(case, 3)
    assert row.met is met
    assert bool(row.notes) is (met is not True)


@pytest.mark.parametrize(("bound", "met"), [(0.5, True), (0.49, False)])
def test_a_peer_can_be_compared_with_round_by_round(playing: Contenders, bound: float, met: bool) -> None:
    """The machine was slow in the second round and fast in the third: each ratio is of one round."""
    case = a_case(
        playing("strata", [10.0, 50.0, 1.0]),
        peers=(playing("redis", [20.0, 50.0, 4.0]),),
        floor=Floor("made.floor", (ToPeer("redis", bound, "half of redis", paired=True),), rounds_min=3),
    )
    assert measured(case, 3).met is met


def test_a_peer_whose_round_came_out_below_nothing_cannot_be_compared_with(playing: Contenders) -> None:
    floor = Floor("made.floor", (ToPeer("redis", 0.5, "half of redis", paired=True),), rounds_min=1)
    case = a_case(playing("strata", [10.0]), peers=(playing("redis", [-1.0]),), floor=floor)
    assert measured(case, 1).met is None


def test_higher_is_better_turns_the_comparison_round(playing: Contenders) -> None:
    floor = Floor("made.floor", (ToLimit(0.8, ">= 80 % of memcpy"), Absolute(7.0, ">= 7 GB/s")), rounds_min=1)
    fast = a_case(playing("strata", [8.0]), playing("memcpy", [10.0]), "higher", floor=floor)
    slow = a_case(playing("strata", [7.5]), playing("memcpy", [10.0]), "higher", floor=floor)
    assert (measured(fast, 1).met, measured(slow, 1).met) == (True, False)


def test_a_floor_whose_limit_is_absent_is_not_measured_even_if_the_rest_holds(
    playing: Contenders, missing: Missing
) -> None:
    floor = Floor("made.floor", (Absolute(5.0, "<= 5 ms"), ToLimit(2.0, "<= 2x bare")), rounds_min=1)
    row = measured(a_case(playing("strata", [1.0]), missing("bare"), floor=floor), 1)
    assert row.met is None
    assert row.limit is None
    assert "limit is absent" in row.notes[0]


def test_too_few_rounds_are_not_judged(playing: Contenders) -> None:
    floor = Floor("made.floor", (Absolute(5.0, "<= 5 ms"),), rounds_min=7)
    row = measured(a_case(playing("strata", [1.0] * 6), floor=floor), 6)
    assert row.met is None
    assert "needs at least 7 rounds, had 6" in row.notes[0]


def test_one_failing_suite_costs_only_its_own_figures(
    playing: Contenders, missing: Missing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks() -> Any:
        raise OSError("no such device")

    suites = [
        Suite("broken", "?", lambda settings: iter([a_case(Contender("strata", breaks))])),
        Suite("gone", "?", lambda settings: iter([a_case(missing("strata"))])),
        Suite("fine", "?", lambda settings: iter([a_case(playing("strata", [1.0]), rounds=1)])),
    ]
    report, interrupted = run(suites, Settings(quick=True, scratch=tmp_path), {}, progress())
    assert not interrupted
    assert [row.suite for row in report.rows] == ["fine"]
    assert [(failure.suite, failure.reason) for failure in report.failures] == [("broken", "OSError: no such device")]
    assert report.skipped == ("gone/a case (10 things): strata is not installed",)
    assert "failed: OSError: no such device" in capsys.readouterr().err


def test_an_interrupt_keeps_what_was_measured(playing: Contenders, tmp_path: Path) -> None:
    def interrupts() -> Any:
        raise KeyboardInterrupt

    cases = [a_case(playing("strata", [1.0]), rounds=1), a_case(Contender("strata", interrupts))]
    suites = [Suite("made", "?", lambda settings: iter(cases))]
    report, interrupted = run(suites, Settings(quick=True, scratch=tmp_path), {}, progress())
    assert interrupted
    assert len(report.rows) == 1
