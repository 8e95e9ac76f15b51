"""A task: one function call, its states as a table, and what is known of it; never where it runs or who carries it.

Payloads are opaque here. A task's id is 16 bytes, chosen by whoever submits it: the same id is the same task, however
often it is submitted. `attempt` rises with every assignment and is never used twice: it is the fencing number by which
a late result is told from a current one. What an attempt costs is counted elsewhere (`Budget`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from strata_zmq.errors import InvalidArgumentError

__all__ = [
    "CALL_IN_PAYLOAD",
    "FINAL",
    "ID_BYTES",
    "NO_LIMITS",
    "TRANSITIONS",
    "Budget",
    "Cause",
    "Durability",
    "End",
    "Form",
    "Kind",
    "Outcome",
    "OutcomeReport",
    "Payload",
    "Runnable",
    "State",
    "Task",
    "TaskLimits",
    "Trigger",
    "move",
]

ID_BYTES = 16
CALL_IN_PAYLOAD = bytes(ID_BYTES)
"""Stands for the function's digest where the callable travels in the payload, with its arguments."""

Payload = bytes | tuple[bytes | bytearray | memoryview, ...]
"""Packed bytes: a pickle that holds everything, or a pickle and its out-of-band buffers (protocol 5), in order."""

State = Literal["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "EXPIRED"]
End = Literal["COMPLETED", "FAILED", "CANCELLED"]
Trigger = Literal["start", "complete", "fail", "cancel", "requeue", "expire"]
Durability = Literal["none", "commit"]
Form = Literal["strata", "dill"]
Kind = Literal["ok", "error", "failure"]
"""What an attempt came to: a result, an exception that the function raised, or neither (then `cause` says why)."""
Cause = Literal[
    "",
    "worker_lost",
    "deadline",
    "out_of_memory",
    "killed",
    "exited",
    "unpicklable_result",
    "unpicklable_error",
    "unloadable_call",
    "result_too_large",
    "cancelled",
    "queue_expired",
    "quarantined",
    "initializer",
]
"""Why there is neither a result nor an exception. `killed` and `exited` are a child's end inside the task."""

TRANSITIONS: dict[tuple[State, Trigger], State] = {
    ("QUEUED", "start"): "RUNNING",
    # A worker's first word on a short task is its end.
    ("QUEUED", "complete"): "COMPLETED",
    ("QUEUED", "fail"): "FAILED",
    ("QUEUED", "cancel"): "CANCELLED",
    ("QUEUED", "requeue"): "QUEUED",
    ("RUNNING", "complete"): "COMPLETED",
    ("RUNNING", "fail"): "FAILED",
    ("RUNNING", "cancel"): "CANCELLED",
    ("RUNNING", "requeue"): "QUEUED",
    # The result is no longer kept; that there was one is still known.
    ("COMPLETED", "expire"): "EXPIRED",
    ("FAILED", "expire"): "EXPIRED",
    ("CANCELLED", "expire"): "EXPIRED",
}
FINAL: frozenset[State] = frozenset({"COMPLETED", "FAILED", "CANCELLED", "EXPIRED"})


def move(state: State, trigger: Trigger, story: str = "") -> State:
    """Return the state after `trigger`; InvalidArgumentError, with the task's `story`, where the table has no cell."""
    after = TRANSITIONS.get((state, trigger))
    if after is None:
        raise InvalidArgumentError(f"task in state {state}: {trigger} is not possible here; {story}".rstrip("; "))
    return after


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a submitter asks for; one object is shared by all tasks of a submission. Seconds; 0 is no limit.

    `attempt_s` bounds one attempt from its start, `total_s` the task from its submission to its end, and `queue_s` its
    wait for a first start. `retries_*` are three budgets: for exceptions that the function raises, for workers and
    children lost under it, and for memory. `labels` are resources that one attempt holds while it runs ({"gpu": 1}).
    `keep_s` is how long the result can be read after the end; 0: until its submitter has it. `python` is the minor
    version ("3.11") that can load the call; "" for any. `memory_bytes` bounds the child that runs it.
    """

    durability: Durability = "none"
    attempt_s: float = 0.0
    total_s: float = 0.0
    queue_s: float = 0.0
    retries_error: int = 0
    retries_lost: int = 0
    retries_memory: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    keep_s: float = 0.0
    python: str = ""
    form: Form = "strata"
    capture: bool = False
    memory_bytes: int = 0
    result_bytes_max: int = 256 * 2**20


NO_LIMITS = TaskLimits()


@dataclass(slots=True)
class Budget:
    """How often a task may still be tried again, by what went wrong; counted down."""

    error: int = 0
    lost: int = 0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """What there is to tell about an attempt beyond its result; most attempts have none.

    `text` is the exception's or failure's message, `type_name` the exception's type, `traceback` the child's; texts are
    capped by who makes them. `signal` and `exit_code` are the child's end (0 and -1: it lives). `stdout` and `stderr`
    are what the function printed, `cut_bytes` how much of it was left out, `last_lines` what a child that died had
    printed.
    """

    text: str = ""
    type_name: str = ""
    traceback: str = ""
    worker: str = ""
    pid: int = 0
    signal: int = 0
    exit_code: int = -1
    rss_bytes: int = 0
    last_lines: str = ""
    stdout: str = ""
    stderr: str = ""
    cut_bytes: int = 0


class Outcome:
    """How one attempt of one task ended. `body` is the packed result or exception, None for a failure.

    `service_s` is the time that the call took in its child. `started` is False where the attempt ended unstarted.
    """

    __slots__ = ("attempt", "body", "cause", "kind", "report", "service_s", "started", "task_id")

    def __init__(
        self,
        task_id: bytes,
        attempt: int,
        kind: Kind,
        body: object,
        service_s: float = 0.0,
        cause: Cause = "",
        report: OutcomeReport | None = None,
        started: bool = True,
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.kind = kind
        self.body = body
        self.service_s = service_s
        self.cause = cause
        self.report = report
        self.started = started


class Runnable(Protocol):
    """What a pool of children needs to know of an attempt; a Task is one."""

    task_id: bytes
    attempt: int
    function: bytes
    refs: tuple[bytes, ...]
    body: object
    limits: TaskLimits
    asks: bool


class Task:
    """One task as its dispatcher holds it; mutable, and changed by the dispatcher's core alone.

    `function` is the digest of the packed callable (or CALL_IN_PAYLOAD, or the id of a registered function) and `refs`
    the digests of what was `put` and is referred to. `worker` is the session that has it (0: none), `started_at` the
    time of its present start (0.0: assigned or queued, not started). `deaths` counts children that died under it.
    `asks`: whoever has its present attempt asks before it begins, because that is not written down yet.
    """

    __slots__ = (
        "asks",
        "attempt",
        "body",
        "budget",
        "client",
        "deaths",
        "ended_as",
        "ended_at",
        "function",
        "key",
        "key_digest",
        "limits",
        "nbytes",
        "outcome",
        "refs",
        "started_at",
        "state",
        "submitted_at",
        "task_id",
        "worker",
    )

    def __init__(
        self,
        task_id: bytes,
        client: str,
        function: bytes,
        body: object,
        nbytes: int,
        limits: TaskLimits = NO_LIMITS,
        refs: tuple[bytes, ...] = (),
        key: str = "",
        key_digest: bytes = b"",
    ) -> None:
        self.task_id = task_id
        self.client = client
        self.function = function
        self.body = body
        self.nbytes = nbytes
        self.limits = limits
        self.refs = refs
        self.key = key
        self.key_digest = key_digest
        self.state: State = "QUEUED"
        self.attempt = 0
        self.worker = 0
        self.submitted_at = 0.0
        self.started_at = 0.0
        self.ended_at = 0.0
        self.ended_as: End | Literal[""] = ""
        """How it ended, of one that is EXPIRED."""
        self.deaths = 0
        self.asks = False
        self.budget: Budget | None = None
        self.outcome: Outcome | None = None
