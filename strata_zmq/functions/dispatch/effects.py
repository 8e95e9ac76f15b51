"""What a dispatcher's shell has to do after a step, in the order of the fields: persist first, then send.

One `Effects` object per step; lists and dicts are filled per batch, never one object per task.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strata_zmq.domain.task import State, Task
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.dispatch.records import Record

__all__ = ["CancelVerdicts", "Effects", "Refusal", "Verdicts"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A task that was not accepted; `code` names a class in the error tree, `retry_after_s` > 0 when to ask again."""

    index: int
    code: str
    message: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The answer to one `Submitted`: all tasks are accepted but for `refused`.

    `existing` pairs an index with the id of the task that its idempotency key already stands for.
    """

    client: str
    seq: int
    refused: tuple[Refusal, ...] = ()
    existing: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class CancelVerdicts:
    """The answer to one `CancelAsked`: each task's state afterwards, None for an unknown one.

    A running or assigned task that is being cancelled is still RUNNING or QUEUED here; its end is delivered as any
    other's.
    """

    client: str
    seq: int
    states: tuple[State | None, ...]


@dataclass(slots=True)
class Effects:
    """What one step decided."""

    records: list[Record] = field(default_factory=list)
    """To be durable, all of them in one commit, before anything below happens."""
    verdicts: list[Verdicts | CancelVerdicts] = field(default_factory=list)
    assigned: dict[int, list[Task]] = field(default_factory=dict)
    """Session -> tasks to hand to that worker, in order; `task.attempt` is the attempt's number."""
    may_begin: dict[int, list[Attempt]] = field(default_factory=dict)
    """Session -> attempts that asked for it, and may be handed to a child from now on."""
    recalled: dict[int, int] = field(default_factory=dict)
    """Session -> how many of its newest unstarted tasks that worker is asked to give back."""
    stopped: dict[int, list[Attempt]] = field(default_factory=dict)
    """Session -> attempts to drop where they wait, or to kill where they run."""
    results: dict[str, list[Task]] = field(default_factory=dict)
    """Client -> tasks that have ended, to deliver with their outcome. Their payload is let go with the next step."""
    forgotten: list[Task] = field(default_factory=list)
    """Tasks that had ended, and whose result is no longer kept: release what the shell or the store keeps for them."""
    lost: list[tuple[int, str]] = field(default_factory=list)
    """Sessions that ended, and why: a worker that speaks under one has to enlist again."""
    notes: list[str] = field(default_factory=list)
    """Lines for the log."""
