"""What goes wrong in the demo, and when: a plan by the second, the same each time. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["CYCLE_S", "HOLDS", "TROUBLES", "Hold", "Incident", "incident_at", "incident_held"]

Trouble = Literal["hang", "abort", "slow", "lost"]
Hold = Literal["hang", "abort", "slow", "lost", "none"]
TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
HOLDS: tuple[Hold, ...] = get_args(Hold)
CYCLE_S = 90
"""One trouble begins in each cycle of so many seconds."""
_BEGINS_S = 70
_LASTS_S: dict[Trouble, int] = {"hang": 40, "abort": 25, "slow": 25, "lost": 18}
_STAYS_S: dict[Trouble, int] = {"hang": 20, "abort": 0, "slow": 20, "lost": 10}


@dataclass(frozen=True, slots=True)
class Incident:
    """One trouble, `age` seconds after it began; whom it happens to is made of `number`, which rises."""

    trouble: Trouble
    age: int
    number: int


def incident_at(second: int) -> Incident | None:
    """Return the incident of this second since the demo began, or None while all is well."""
    since = second - _BEGINS_S
    if since < 0:
        return None
    number, age = divmod(since, CYCLE_S)
    trouble = TROUBLES[number % len(TROUBLES)]
    return Incident(trouble, age, number) if age < _LASTS_S[trouble] else None


def incident_held(second: int, hold: Hold, begins_s: int) -> Incident | None:
    """Return the same of a demo that from `begins_s` on stays in the midst of one trouble, or in none."""
    if hold == "none" or second < begins_s:
        return None
    return Incident(hold, min(second - begins_s, _STAYS_S[hold]), 1)
