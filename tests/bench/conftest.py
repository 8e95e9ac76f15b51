"""Rows and contenders made by hand, so that the harness can be tested without measuring anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

from strata_zmq.bench.figures import Better, PeerFigure
from strata_zmq.bench.model import Absent, Contender, Measure, Report, Row, Sample
from strata_zmq.bench.statistics import figure

Rows = Callable[..., Row]
Contenders = Callable[..., Contender]


@pytest.fixture
def make_row() -> Rows:
    """A row of suite "made" whose subject and limit have the given rounds."""

    def made(
        subject: Sequence[float] = (1.0, 1.1, 1.2, 1.0, 1.1, 1.2),
        limit: Sequence[float] | None = None,
        *,
        better: Better = "lower",
        case: str = "a case",
        met: bool | None = None,
        regression: str | None = None,
    ) -> Row:
        bare = PeerFigure("bare <echo>", figure(limit), 0.5, None) if limit else None
        ratio = figure([mine / theirs for mine, theirs in zip(subject, limit, strict=True)]) if limit else None
        return Row(
            suite="made",
            case=case,
            size="10 things",
            unit="ms",
            better=better,
            subject=PeerFigure("strata", figure(subject, tuple(subject) * 50), 0.5, 0.25, {"spread": 1.0}),
            limit=bare,
            ratio=ratio,
            peers=(PeerFigure("peer & co", figure([2.0]), 0.1, 0.1),),
            absent={"missing peer": "not installed"},
            floor_id="made.floor",
            floor="<= 2x bare",
            met=met,
            notes=("a note",),
            noisy=("the machine hummed",),
            regression=regression,
        )

    return made


@pytest.fixture
def make_report(make_row: Rows) -> Callable[..., Report]:
    """A report with one row, unless rows are given."""

    def made(*rows: Row) -> Report:
        environment = {"cpu": "a cpu", "git_commit": "abc", "quick": True, "load_warning": None}
        return Report(environment, rows or (make_row(limit=(1.0,) * 6),))

    return made


@pytest.fixture
def playing() -> Contenders:
    """Contenders that answer with given values in turn and write what happens to them into `log`."""

    def made(
        name: str, values: Sequence[float], log: list[str] | None = None, latencies: Sequence[float] = ()
    ) -> Contender:
        told = log if log is not None else []

        @contextmanager
        def opened() -> Iterator[Measure]:
            told.append(f"open {name}")
            turns = iter(values)

            def measure() -> Sample:
                told.append(name)
                return Sample(next(turns), wall_s=0.01, cpu_s=0.01, latencies=latencies, extras={"busy": 0.9})

            yield measure
            told.append(f"close {name}")

        return Contender(name, opened)

    return made


@pytest.fixture
def missing() -> Callable[[str], Contender]:
    """Contenders that this machine lacks."""

    def made(name: str) -> Contender:
        def opened() -> AbstractContextManager[Measure]:
            raise Absent(f"{name} is not installed")

        return Contender(name, opened)

    return made
