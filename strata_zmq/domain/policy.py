"""When a training loop saves: every so many steps or seconds, as seldom as the cost asks for, or only when told to.

A policy is asked behind each commit point and told of each save. It has no clock: `now` is in seconds of any clock that
never goes back, and `step` counts commit points.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from strata_zmq.errors import InvalidArgumentError

__all__ = ["Adaptive", "EverySeconds", "EverySteps", "Manual", "Policy", "SaveCost", "parse_policy"]

STEPS_MAX = 10**12
SECONDS_MAX = 30 * 86_400.0
_KEPT = 64
"""Step times that a median is taken over."""
_NEWEST = 0.3
"""Of the newest save in the moving average of what saves cost."""
_WAYS = "every-steps:N, every-seconds:T, adaptive:PERCENT or manual"


class Policy(Protocol):
    """Says when the next save is due."""

    def due(self, step: int, now: float) -> bool:
        """Whether to save behind commit point `step`; the first call says where the loop begins."""

    def saved(self, step: int, now: float) -> None:
        """Hear that a save of commit point `step` has begun at `now`."""

    def learned(self, cost_s: float) -> None:
        """Hear what a save that has ended has cost, in seconds of training."""


@dataclass(slots=True)
class Manual:
    """Never due: the training code saves, or somebody commands it."""

    def due(self, step: int, now: float) -> bool:
        """Not."""
        return False

    def saved(self, step: int, now: float) -> None:
        """Keep nothing."""

    def learned(self, cost_s: float) -> None:
        """Keep nothing."""


@dataclass(slots=True)
class EverySteps:
    """Due at every multiple of `steps`, or behind it where a multiple was missed."""

    steps: int
    _last: int | None = None

    def __post_init__(self) -> None:
        _within("every-steps", self.steps, 1, STEPS_MAX)

    def due(self, step: int, now: float) -> bool:
        """Whether a multiple lies behind the last save, or behind the place where the loop began."""
        if self._last is None:
            self._last = max(step - 1, 0)
        return step // self.steps > self._last // self.steps

    def saved(self, step: int, now: float) -> None:
        """Count from here."""
        self._last = step

    def learned(self, cost_s: float) -> None:
        """Go on as before."""


@dataclass(slots=True)
class EverySeconds:
    """Due `seconds` after the last save began, or after the loop did."""

    seconds: float
    _last: float | None = None

    def __post_init__(self) -> None:
        _within("every-seconds", self.seconds, 0.001, SECONDS_MAX)

    def due(self, step: int, now: float) -> bool:
        """Whether the time has passed."""
        if self._last is None:
            self._last = now
        return now - self._last >= self.seconds

    def saved(self, step: int, now: float) -> None:
        """Count from here."""
        self._last = now

    def learned(self, cost_s: float) -> None:
        """Go on as before."""


@dataclass(slots=True)
class Adaptive:
    """Due so seldom that saves take `percent` of the training time, and never more often than every `least_s`.

    The interval is the moving average of what saves have cost, times 100 / percent, within [least_s, most_s]. Until the
    first one has ended it is `least_s`.
    """

    percent: float = 1.0
    least_s: float = 10.0
    most_s: float = 3600.0
    _last: float | None = None
    _cost_s: float | None = None

    def __post_init__(self) -> None:
        _within("adaptive", self.percent, 0.001, 100)
        _within("least_s", self.least_s, 0, SECONDS_MAX)
        _within("most_s", self.most_s, self.least_s, SECONDS_MAX)

    @property
    def interval_s(self) -> float:
        """Seconds from the beginning of one save to that of the next."""
        wanted = (self._cost_s or 0.0) * 100.0 / self.percent
        return min(max(wanted, self.least_s), self.most_s)

    def due(self, step: int, now: float) -> bool:
        """Whether the interval has passed."""
        if self._last is None:
            self._last = now
        return now - self._last >= self.interval_s

    def saved(self, step: int, now: float) -> None:
        """Count from here."""
        self._last = now

    def learned(self, cost_s: float) -> None:
        """Take it into the average; one that is below 0 was not to be told from noise."""
        newest = max(cost_s, 0.0)
        self._cost_s = newest if self._cost_s is None else self._cost_s + _NEWEST * (newest - self._cost_s)


@dataclass(slots=True)
class SaveCost:
    """What saves cost a training loop: how long their calls held it up, and how much slower its steps were meanwhile.

    A step's time is that between two commit points without the calls that saved. Steps during which a save was under
    way are compared, by medians, with those during which none was. Where there are none of one kind, nothing is known
    of the difference, and a save has cost its calls only.
    """

    saves: int = 0
    stall_s: float = 0.0
    """Of all saves together."""
    costs_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    """Of the latest saves that have ended, each."""
    _quiet_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _busy_s: list[float] = field(default_factory=list)
    _stalls_s: list[float] = field(default_factory=list)
    """Of the saves under way."""
    _stalled_s: float = 0.0
    """Within the present step."""
    _at: float | None = None

    def stepped(self, now: float, *, under_way: bool) -> None:
        """Hear of a commit point; `under_way`: a save was, at some time since the one before."""
        if self._at is not None:
            took_s = max(now - self._at - self._stalled_s, 0.0)
            (self._busy_s if under_way else self._quiet_s).append(took_s)
        self._at, self._stalled_s = now, 0.0

    def interrupted(self) -> None:
        """Hear that what follows is no step: the loop has ended, or goes back."""
        self._at = None

    def began(self, stall_s: float) -> None:
        """Hear of a call that has saved, and how long it took."""
        self.saves += 1
        self.stall_s += stall_s
        self._stalled_s += stall_s
        self._stalls_s.append(stall_s)

    def ended(self) -> list[float]:
        """Hear that all saves under way have ended; returns what each of them has cost, in seconds of training."""
        slower_s = 0.0
        if self._busy_s and self._quiet_s:
            slower_s = (median(self._busy_s) - median(self._quiet_s)) * len(self._busy_s)
        costs_s = [stall_s + slower_s / len(self._stalls_s) for stall_s in self._stalls_s]
        self.costs_s.extend(costs_s)
        self._stalls_s.clear()
        self._busy_s.clear()
        return costs_s


def parse_policy(text: str) -> Policy:
    """Return the policy that `text` writes: every-steps:500, every-seconds:600, adaptive:1 or manual."""
    name, _, value = text.partition(":")
    if text == "manual":
        return Manual()
    if text == "adaptive":
        return Adaptive()
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if name == "every-steps" and value.isdecimal():
        return EverySteps(int(value))
    if name == "every-seconds" and not math.isnan(number):
        return EverySeconds(number)
    if name == "adaptive" and not math.isnan(number):
        return Adaptive(number)
    raise InvalidArgumentError(f"policy {text!r} is not known: give {_WAYS}")


def _within(what: str, value: float, low: float, high: float) -> None:
    # Written so that NaN is outside.
    if not low <= value <= high:
        raise InvalidArgumentError(f"{what} is {value}: it takes {low:g} to {high:g}")
