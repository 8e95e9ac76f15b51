"""What a dispatcher writes down about tasks of durability "commit", and what it gets back after a restart.

Appended records: the task was accepted, an attempt may begin, that attempt is over and the task waits again, the task
ended. An attempt of which nothing is written has not begun, wherever it was when the dispatcher died. Records carry the
core's own objects; how they lie on disk is the store's business. Times are seconds since the epoch, put in by the
shell's offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from strata_zmq.domain.task import Budget, Outcome, Payload, State, Task

__all__ = [
    "Accepted",
    "Begun",
    "Ended",
    "FunctionRow",
    "Record",
    "RecordStore",
    "Recovered",
    "RecoveredTask",
    "Requeued",
]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task was accepted at `at`: with its payload, limits and key it can be run again from this alone."""

    task: Task
    at: float


@dataclass(frozen=True, slots=True)
class Begun:
    """Attempt number `attempt` may begin at `worker_id` from now on: nobody else may have it, unless it is over."""

    task_id: bytes
    attempt: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Requeued:
    """Attempt number `attempt` is over without an end: the task waits again, with this `budget` (None: untouched)."""

    task_id: bytes
    attempt: int
    budget: Budget | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The task came to its end, once."""

    task_id: bytes
    state: State
    outcome: Outcome
    at: float


Record = Accepted | Begun | Requeued | Ended


@dataclass(frozen=True, slots=True)
class RecoveredTask:
    """A task as the records tell it; `state` is QUEUED for any that has not ended.

    `attempt` is the last one that is written down (0: none), and `worker_id` may have begun with it; "": nobody has, or
    that attempt is over, and the task waits with what is left of `task.budget`.

    `task.outcome` holds the outcome of an ended one, its body perhaps still in the store (`RecordStore.result`).
    """

    task: Task
    attempt: int
    worker_id: str
    submitted_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A registered function: 16 bytes of id, its name, and the digest of its packed form."""

    function_id: bytes
    name: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """All that a store holds, tasks in the order of their acceptance."""

    tasks: tuple[RecoveredTask, ...] = ()
    functions: tuple[FunctionRow, ...] = ()


class RecordStore(Protocol):
    """Where records last; one owner at a time. After a StorageError nothing more is taken before a new `load`.

    Every method but `forget` returns when its effect is durable (a Redis store: as durable as its server was told to
    be).
    """

    def load(self) -> Recovered:
        """Return what is there; called once, before anything else."""

    def append(self, records: Sequence[Record]) -> None:
        """Make `records` durable in one commit, all or none."""

    def keep(self, payloads: Sequence[tuple[bytes, Payload]]) -> None:
        """Keep packed callables and values by their digests, before a record or a function row needs them."""

    def put_function(self, row: FunctionRow) -> None:
        """Keep a registered function; the payload with its digest is kept already."""

    def payload(self, digest: bytes) -> Payload | None:
        """Return the payload with this digest, None if it is not kept."""

    def result(self, task_id: bytes) -> Payload | None:
        """Return the body of an ended task's outcome, as it was given; None if it has none or is not kept."""

    def forget(self, task_ids: Sequence[bytes]) -> None:
        """Drop what is kept of these tasks; unknown ids are nothing. Durable with a later commit, or by `close`."""

    def close(self) -> None:
        """Let it go."""
