"""Owns what a floor asks and how it is judged; knows no suite.

A floor is a list of conditions with one id. It is met when each condition holds, missed when one does not, and "not
measured" (None) when anything it needs is absent: a limit, a peer, a p99, enough rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .figures import Better, Figure, PeerFigure

__all__ = ["Absolute", "Condition", "Evidence", "Extra", "Floor", "ToLimit", "ToPeer", "Verdict", "Where"]

Statistic = Literal["median", "p99", "interval"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a floor is judged by: the figures of one row, before it becomes one."""

    better: Better
    subject: PeerFigure
    limit: PeerFigure | None
    ratio: Figure | None
    peers: Mapping[str, PeerFigure]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`met` is None when it could not be measured; `why` says what was missing or which condition failed."""

    met: bool | None
    why: str = ""


class Condition(Protocol):
    """One part of a floor."""

    @property
    def text(self) -> str:
        """What is asked, in words."""

    def judge(self, evidence: Evidence) -> Verdict:
        """Return whether it holds."""


@dataclass(frozen=True, slots=True)
class Absolute:
    """The figure itself reaches `bound`, in the case's unit: at most it when lower is better, else at least it."""

    bound: float
    text: str
    statistic: Statistic = "median"

    def judge(self, evidence: Evidence) -> Verdict:
        """Return whether the subject's own figure reaches the bound."""
        value = _pick(evidence.subject.figure, self.statistic, evidence.better)
        return _compare(value, self.bound, evidence.better, self.text, f"{self.statistic} of the subject")


@dataclass(frozen=True, slots=True)
class ToLimit:
    """Subject / limit reaches `bound`.

    "median" is the median of the paired ratios, "interval" the better end of their interval, "p99" the ratio of the
    two 99th percentiles.
    """

    bound: float
    text: str
    statistic: Statistic = "median"

    def judge(self, evidence: Evidence) -> Verdict:
        """Return whether the ratio to the limit reaches the bound."""
        if evidence.limit is None or evidence.ratio is None:
            return Verdict(None, "its limit is absent")
        if self.statistic == "p99":
            value = _quotient(evidence.subject.figure.p99, evidence.limit.figure.p99)
        else:
            value = _pick(evidence.ratio, self.statistic, evidence.better)
        return _compare(value, self.bound, evidence.better, self.text, f"{self.statistic} of subject and limit")


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Subject / the named peer reaches `bound`: the ratio of the medians, or with `paired` the median of the ratios
    round by round.
    """

    peer: str
    bound: float
    text: str
    paired: bool = False

    def judge(self, evidence: Evidence) -> Verdict:
        """Return whether the ratio to the peer reaches the bound."""
        peer = evidence.peers.get(self.peer)
        if peer is None:
            return Verdict(None, f"its peer {self.peer} is absent")
        if self.paired:
            value = _paired(evidence.subject.figure, peer.figure)
        else:
            value = _quotient(evidence.subject.figure.median, peer.figure.median)
        return _compare(value, self.bound, evidence.better, self.text, f"ratio to {self.peer}")


@dataclass(frozen=True, slots=True)
class Extra:
    """A further figure of the subject's rounds (or of the limit's) is at most (or at least) `bound` in its median."""

    name: str
    bound: float
    better: Better
    text: str
    of: Literal["subject", "limit"] = "subject"

    def judge(self, evidence: Evidence) -> Verdict:
        """Return whether the extra reaches the bound."""
        whose = evidence.subject if self.of == "subject" else evidence.limit
        if whose is None:
            return Verdict(None, "its limit is absent")
        return _compare(whose.extras.get(self.name), self.bound, self.better, self.text, self.name)


@dataclass(frozen=True, slots=True)
class Where:
    """A row counts only where `inner` holds: if it does not, the floor is not measured rather than missed."""

    inner: Condition

    @property
    def text(self) -> str:
        """What is required for the row to count."""
        return f"where {self.inner.text}"

    def judge(self, evidence: Evidence) -> Verdict:
        """Return a pass, or "not measured"."""
        found = self.inner.judge(evidence)
        return found if found.met else Verdict(None, f"the row counts only {self.text}; {found.why}")


@dataclass(frozen=True, slots=True)
class Floor:
    """A named bar. `rounds_min` is the number of rounds below which it is not judged."""

    floor_id: str
    conditions: tuple[Condition, ...]
    rounds_min: int = 5

    @property
    def text(self) -> str:
        """All conditions in words."""
        return "; ".join(condition.text for condition in self.conditions)

    def judge(self, evidence: Evidence) -> Verdict:
        """Return the verdict; a condition that cannot be measured outranks one that fails."""
        rounds = len(evidence.subject.figure.values)
        if rounds < self.rounds_min:
            return Verdict(None, f"needs at least {self.rounds_min} rounds, had {rounds}")
        verdicts = [condition.judge(evidence) for condition in self.conditions]
        for wanted in (None, False):
            for verdict in verdicts:
                if verdict.met is wanted:
                    return verdict
        return Verdict(True)


def _pick(found: Figure, statistic: Statistic, better: Better) -> float | None:
    if statistic == "median":
        return found.median
    if statistic == "p99":
        return found.p99
    return found.high if better == "higher" else found.low


def _paired(subject: Figure, peer: Figure) -> float | None:
    if not all(value > 0 for value in peer.values):
        return None
    return median(mine / theirs for mine, theirs in zip(subject.values, peer.values, strict=True))


def _quotient(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def _compare(value: float | None, bound: float, better: Better, text: str, what: str) -> Verdict:
    if value is None:
        return Verdict(None, f"{what} was not measured")
    holds = value >= bound if better == "higher" else value <= bound
    return Verdict(True) if holds else Verdict(False, f"asked: {text}; found {value:.4g}")
