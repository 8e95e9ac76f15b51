"""What happens to a dispatcher: batches from clients and workers, as values. One event stands for one message.

A worker is known by its session, an int that the shell hands out and never uses twice; a client by its client id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from strata_zmq.domain.task import Outcome, Task

__all__ = [
    "Attached",
    "Attempt",
    "BeginAsked",
    "CancelAsked",
    "Detached",
    "Event",
    "Finished",
    "Held",
    "Mode",
    "Phase",
    "ResultsSeen",
    "Returned",
    "Started",
    "Submitted",
    "Wanted",
    "Watched",
    "WorkerAlive",
    "WorkerEnlisted",
    "WorkerLost",
    "WorkerRetiring",
]

Mode = Literal["push", "pull"]
Phase = Literal["waiting", "running", "done"]
Attempt = tuple[bytes, int]
"""(task id, attempt number)."""
Held = tuple[bytes, int, Phase]
"""(task id, attempt number, how far a worker has come with it)."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A client came, or came back; its tasks' ends are delivered to it from now on if it asks so."""

    client: str
    deliver: bool = True


@dataclass(frozen=True, slots=True)
class Detached:
    """A client went, or its lease ran out. With `abandon`, its tasks of durability "none" have no reader left."""

    client: str
    abandon: bool = True


@dataclass(frozen=True, slots=True)
class Submitted:
    """New tasks in their order, answered by one `Verdicts` with the same `seq`.

    A task whose id is known is not a second one. The core takes the objects over: nobody else changes them afterwards.
    """

    client: str
    seq: int
    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Cancel these tasks; those that run only with `running`. Answered by one `CancelVerdicts`."""

    client: str
    seq: int
    task_ids: Sequence[bytes]
    running: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """The client wants to be told the end of these tasks, once, whoever submitted them; until `until` (monotonic)."""

    client: str
    task_ids: Sequence[bytes]
    until: float


@dataclass(frozen=True, slots=True)
class ResultsSeen:
    """The client has these results: what is kept for it alone can go."""

    client: str
    task_ids: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class WorkerEnlisted:
    """A worker came, or came back under a new session, and says what it holds.

    `worker_id` is its process's name and stays over sessions: an older session of it ends with this event. Its tasks
    that are not in `held` never reached it, or are settled.
    """

    session: int
    worker_id: str
    slots: int
    mode: Mode
    labels: Mapping[str, int]
    python: str
    held: Sequence[Held] = ()


@dataclass(frozen=True, slots=True)
class WorkerAlive:
    """Any frame of a worker renews its lease; this is one without content."""

    session: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pulling worker is ready for `count` tasks in all, on top of what it holds; replaces its last wish."""

    session: int
    count: int


@dataclass(frozen=True, slots=True)
class BeginAsked:
    """These attempts, whose tasks ask (`Task.asks`), are next for a child. What may begin is told in `may_begin`."""

    session: int
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class Started:
    """These attempts are in the hands of a child, in this order."""

    session: int
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class Finished:
    """These attempts ended; implies that they had started unless an outcome says otherwise."""

    session: int
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Returned:
    """The worker gives these attempts back unstarted: recalled, refused, or left by a retiring worker."""

    session: int
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class WorkerRetiring:
    """The worker takes no new tasks and finishes what it runs."""

    session: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker is gone for certain (reported, said goodbye, or it cannot be reached); its lease does not matter."""

    session: int
    reason: str


Event = (
    Attached
    | Detached
    | Submitted
    | CancelAsked
    | Watched
    | ResultsSeen
    | WorkerEnlisted
    | WorkerAlive
    | Wanted
    | BeginAsked
    | Started
    | Finished
    | Returned
    | WorkerRetiring
    | WorkerLost
)
