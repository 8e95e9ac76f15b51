"""Credit from measured service time: how many tasks a worker may hold beyond those it runs; never which tasks.

A queue in front of a worker hides the way from the dispatcher, and is a trap behind a long task. So its depth is a span
of time, not a count: `HORIZON_S` of expected work, nothing for functions whose time is not known yet, and nothing for
those that take longer than the way does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["DEPTH_MAX", "HORIZON_S", "SLOW_S", "ServiceTime", "credit"]

HORIZON_S = 0.02
SLOW_S = 0.005
DEPTH_MAX = 512
_GAIN = 1 / 8
"""The weight of a new sample, as for round trips in TCP (RFC 6298, section 2)."""


@dataclass(slots=True)
class ServiceTime:
    """A running mean and mean deviation of one function's service time, in seconds; 0 samples: nothing is known."""

    mean_s: float = 0.0
    deviation_s: float = 0.0
    samples: int = 0

    def add(self, seconds: float) -> None:
        """Take one measured call."""
        if self.samples == 0:
            self.mean_s = seconds
        else:
            off = seconds - self.mean_s
            self.mean_s += _GAIN * off
            self.deviation_s += 2 * _GAIN * (abs(off) - self.deviation_s)
        self.samples += 1

    def add_all(self, seconds: Sequence[float]) -> None:
        """Take some measured calls in their order, as `add` does one."""
        if self.samples == 0 and seconds:
            self.mean_s = seconds[0]
        mean, deviation = self.mean_s, self.deviation_s
        for each in seconds:
            off = each - mean
            mean += _GAIN * off
            deviation += 2 * _GAIN * ((off if off > 0 else -off) - deviation)
        self.mean_s, self.deviation_s = mean, deviation
        self.samples += len(seconds)

    @property
    def expected_s(self) -> float:
        """A cautious expectation: the mean and two deviations."""
        return self.mean_s + 2 * self.deviation_s


def credit(slots: int, service: ServiceTime | None) -> int:
    """Return how many tasks of one function a worker with `slots` children may hold, running ones included."""
    if service is None or service.samples == 0 or service.expected_s > SLOW_S:
        return slots
    depth = int(HORIZON_S * slots / max(service.expected_s, 1e-6))
    return slots + min(depth, DEPTH_MAX)
