"""Made-up tasks and their records; task `n` has the id `named(n)`."""

from __future__ import annotations

from typing import Any

from strata_zmq.domain.task import Budget, Outcome, Payload, Task, TaskLimits
from strata_zmq.functions.calls import payload_bytes
from strata_zmq.functions.dispatch.records import Accepted, Begun, Ended, Requeued

__all__ = ["COMMIT", "FUNCTION", "accepted", "begun", "ended", "named", "requeued", "shown"]

COMMIT = TaskLimits(durability="commit")
FUNCTION = b"f" * 16


def named(number: int) -> bytes:
    """The id of task `number`."""
    return number.to_bytes(16, "big")


def accepted(number: int, body: Payload = b"call", limits: TaskLimits = COMMIT, **about: Any) -> Accepted:
    """Task `number` was accepted at second 1000 + number."""
    about = {"client": "client", "function": FUNCTION, **about}
    return Accepted(Task(named(number), body=body, nbytes=payload_bytes(body), limits=limits, **about), 1000.0 + number)


def begun(number: int, attempt: int = 1, worker: str = "w1") -> Begun:
    """An attempt of task `number` may begin at a worker."""
    return Begun(named(number), attempt, worker)


def requeued(number: int, attempt: int = 1, budget: Budget | None = None) -> Requeued:
    """An attempt of task `number` is over, and the task waits again."""
    return Requeued(named(number), attempt, budget)


def ended(number: int, body: Payload | None = b"result", attempt: int = 1) -> Ended:
    """Task `number` came to a result at second 2000 + number."""
    return Ended(named(number), "COMPLETED", Outcome(named(number), attempt, "ok", body, 0.25), 2000.0 + number)


def shown(value: object) -> object:
    """`value` with everything that is inside it, to be compared: slots of tasks and outcomes as dicts."""
    if isinstance(value, Task | Outcome):
        return {name: shown(getattr(value, name)) for name in value.__slots__}
    if isinstance(value, tuple) and all(isinstance(part, memoryview | bytearray) for part in value):
        return tuple(bytes(part) for part in value)
    return value
