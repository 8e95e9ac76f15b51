"""What simulated calls do: how long they take and how they end; decided by chance for each run of one."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Cause, Kind, TaskLimits

__all__ = ["FUNCTIONS", "Fate", "fate"]

FUNCTIONS: dict[bytes, str] = {
    b"fast............": "fast",
    b"short...........": "short",
    b"slow............": "slow",
    b"uneven..........": "uneven",
    b"raises..........": "raises",
    b"kills...........": "kills",
    b"eats............": "eats",
    b"endless.........": "endless",
    CALL_IN_PAYLOAD: "uneven",
}


@dataclass(frozen=True, slots=True)
class Fate:
    """How one run goes."""

    seconds: float
    kind: Kind = "ok"
    cause: Cause = ""


def fate(chance: Random, function: bytes, limits: TaskLimits) -> Fate:
    """Decide about one run. A worker ends it at `attempt_s`, except for one in four that forgets to."""
    name = FUNCTIONS[function]
    if name == "fast":
        found = Fate(0.0001 * (1 + chance.random()))
    elif name == "short":
        found = Fate(0.002 * (1 + chance.random()))
    elif name == "slow":
        found = Fate(0.1 + chance.random())
    elif name == "uneven":
        found = Fate(chance.choice((0.0002, 0.0002, 0.0002, 0.6)))
    elif name == "endless":
        found = Fate(1e6)
    else:
        bad: dict[str, Fate] = {
            "raises": Fate(0.001, "error"),
            "kills": Fate(0.001, "failure", "killed"),
            "eats": Fate(0.01, "failure", "out_of_memory"),
        }
        found = bad[name] if chance.random() < 0.6 else Fate(0.001)
    if limits.attempt_s and found.seconds > limits.attempt_s and chance.random() < 0.75:
        return Fate(limits.attempt_s, "failure", "deadline")
    return found
