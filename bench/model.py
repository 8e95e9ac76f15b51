"""Owns the words of a benchmark: sample, contender, case, suite and row; measures nothing and prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from .figures import Better, Figure, PeerFigure
    from .floors import Floor

__all__ = [
    "Absent",
    "Case",
    "Contender",
    "Failure",
    "Measure",
    "Report",
    "Row",
    "Sample",
    "Settings",
    "Suite",
]


class Absent(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """Raised while opening a contender that cannot take part here; its message is the reason the report prints."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one contender did in one round.

    `value` is in the case's unit. `wall_s` and `cpu_s` are totals of the round; `cpu_s` belongs to the measured process
    alone (None: not told apart).
    `latencies` are single operations in the case's unit; when present, `value` is their median and the row gets a
    p99 over all rounds. `extras` are further figures of the round that a floor may ask about.
    """

    value: float
    wall_s: float
    cpu_s: float | None = None
    latencies: Sequence[float] = ()
    extras: Mapping[str, float] = field(default_factory=dict)


Measure = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who takes part in the rounds of a case: the subject, its limit, or a peer.

    `open` prepares (starts processes, fills memory) and yields the function that measures one round; leaving the
    context undoes it. It raises `Absent` where this machine lacks what it needs.
    """

    name: str
    open: Callable[[], AbstractContextManager[Measure]]


@dataclass(frozen=True, slots=True)
class Case:
    """One question at one named size: the subject's figure beside its limit and its peers, round by round.

    `size` is part of the row's identity, so a quick run at a smaller size is never compared with a full one. `limit` is
    the bare mechanism under the subject (memcpy, a plain write, an echo loop). `notes` are printed with the row: what
    binds the figure, what a peer was driven by.
    """

    name: str
    size: str
    unit: str
    better: Better
    subject: Contender
    limit: Contender | None = None
    peers: tuple[Contender, ...] = ()
    floor: Floor | None = None
    rounds: int = 9
    warmup: int = 1
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.warmup < 0:
            raise ValueError(f"case {self.name!r}: rounds {self.rounds} must be >= 1 and warmup {self.warmup} >= 0")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line decides for every suite: `quick` sizes, and a `scratch` folder on a real disk."""

    quick: bool
    scratch: Path
    rounds: int | None = None

    def pick(self, quick: int, full: int) -> int:
        """Return the size for this run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Suite:
    """A named group of cases; `cases` yields them one at a time, so that a long set-up happens when its turn comes."""

    name: str
    question: str
    cases: Callable[[Settings], Iterator[Case]]


@dataclass(frozen=True, slots=True)
class Row:
    """The answer to one case. `ratio` is subject / limit, paired round by round; `met` is None when not measured."""

    suite: str
    case: str
    size: str
    unit: str
    better: Better
    subject: PeerFigure
    limit: PeerFigure | None
    ratio: Figure | None
    peers: tuple[PeerFigure, ...]
    absent: Mapping[str, str]
    floor_id: str | None
    floor: str | None
    met: bool | None
    notes: tuple[str, ...] = ()
    noisy: tuple[str, ...] = ()
    regression: str | None = None

    @property
    def key(self) -> str:
        """The row's identity across runs."""
        return f"{self.suite}/{self.case}/{self.size}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not be measured, and why; the rest of the run goes on."""

    suite: str
    case: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found."""

    environment: Mapping[str, object]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[Row, ...]:
        """The rows that a baseline comparison marked."""
        return tuple(row for row in self.rows if row.regression is not None)
