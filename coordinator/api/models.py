"""What HTTP clients say and are told: the bodies of requests and answers, their names, their limits.

The names are the published ones. It knows nothing of HTTP, and nothing of how a task is run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from strata_zmq.domain.task import Durability, TaskLimits
from strata_zmq.protocol.functions import BATCH_MAX, BLOB_BYTES_MAX

__all__ = [
    "KEEP_S",
    "WAIT_MAX_S",
    "AcceptedBatch",
    "AcceptedTask",
    "Cancelled",
    "ExecuteBatch",
    "ExecuteFunction",
    "Health",
    "Options",
    "Problem",
    "Refused",
    "RefusedTask",
    "RegisterFunction",
    "Registered",
    "Status",
    "TaskError",
    "TaskListing",
    "TaskPage",
    "TaskResult",
    "TaskStatus",
    "Unreadable",
    "Wait",
    "Waited",
]

KEEP_S = 3600.0
"""How long a result can be read after the end unless the caller says otherwise."""
WAIT_MAX_S = 300.0
_DURATION_MAX_S = 86_400.0 * 30

Seconds = Annotated[float, Meta(ge=0, le=_DURATION_MAX_S)]
Retries = Annotated[int, Meta(ge=0, le=1000)]
Label = Annotated[str, Meta(min_length=1, max_length=64)]
Labels = Annotated[dict[Label, Annotated[int, Meta(ge=0, le=2**62)]], Meta(max_length=16)]
Payload = Annotated[str, Meta(description="Base64 text, with newlines or without, of what dill.dumps returns.")]
Status = Literal["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "EXPIRED", "UNKNOWN"]

# ---- requests --------------------------------------------------------------------------------------------------------


class RegisterFunction(Struct, forbid_unknown_fields=True):
    """A function to keep: its name, for people, and itself."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    payload: Payload


class Options(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a caller may ask for; seconds, and 0 is no limit.

    `deadline_s` bounds one attempt from its start, `total_s` the task from its submission, `queue_ttl_s` its wait for a
    first start. Three budgets say how often it is tried again: after an exception of its own, a lost worker, and too
    little memory. `labels` are resources that it holds while it runs. With `durability` "none" it is accepted sooner,
    and lost with the dispatcher. `keep_s` is how long its result can be read after the end, `python` the minor version
    that it needs. `capture` keeps what it prints.
    """

    deadline_s: Seconds = 0.0
    total_s: Seconds = 0.0
    queue_ttl_s: Seconds = 0.0
    retries: Retries = 0
    retries_lost: Retries = 0
    retries_memory: Retries = 0
    labels: Labels = {}
    durability: Literal["none", "commit"] | UnsetType = UNSET
    keep_s: Annotated[float, Meta(ge=1, le=_DURATION_MAX_S)] = KEEP_S
    memory_bytes: Annotated[int, Meta(ge=0, le=2**62)] = 0
    result_bytes_max: Annotated[int, Meta(ge=1, le=BLOB_BYTES_MAX)] = BLOB_BYTES_MAX
    python: Annotated[str, Meta(pattern=r"^(\d{1,3}\.\d{1,3})?$")] = ""
    capture: bool = False

    def limits(self, durability: Durability) -> TaskLimits:
        """Return them as a dispatcher knows them; `durability` is for who names none. Equal ones give one object."""
        return _limits(
            self.deadline_s,
            self.total_s,
            self.queue_ttl_s,
            self.retries,
            self.retries_lost,
            self.retries_memory,
            tuple(self.labels.items()),
            durability if self.durability is UNSET else self.durability,
            self.keep_s,
            self.memory_bytes,
            self.result_bytes_max,
            self.python,
            self.capture,
        )


class ExecuteFunction(Options, kw_only=True, forbid_unknown_fields=True):
    """One call of a registered function: `payload` is of the arguments, `((args...), {kwargs})`."""

    function_id: str
    payload: Payload


class ExecuteBatch(Options, kw_only=True, forbid_unknown_fields=True):
    """Many calls of one registered function."""

    function_id: str
    payloads: Annotated[list[Payload], Meta(min_length=1, max_length=BATCH_MAX)]


class Wait(Struct, kw_only=True, forbid_unknown_fields=True):
    """Tasks to wait for: all of them, or `any`. `results` false leaves the results out."""

    task_ids: Annotated[list[str], Meta(min_length=1, max_length=BATCH_MAX)]
    timeout_s: Annotated[float, Meta(ge=0, le=WAIT_MAX_S)] = 30.0
    any: bool = False
    results: bool = True


# ---- answers ---------------------------------------------------------------------------------------------------------


class Registered(Struct):
    """The id under which the function is kept."""

    function_id: str


class AcceptedTask(Struct):
    """The task's id: the task is accepted, and comes to one end."""

    task_id: str


class RefusedTask(Struct, omit_defaults=True):
    """A call of a batch that was not accepted; `status` is what it alone would have been answered with."""

    index: int
    status: int
    code: str
    detail: str
    retry_after_s: float = 0.0


class AcceptedBatch(Struct, omit_defaults=True):
    """The tasks' ids in the order of the payloads, null for those in `refused`."""

    task_ids: list[str | None]
    refused: list[RefusedTask] = []


class TaskStatus(Struct):
    """A task and its state."""

    task_id: str
    status: Status


class TaskError(Struct, omit_defaults=True):
    """Why a task failed, for those who cannot load its result. `cause` is empty where the function raised."""

    type: str
    message: str
    cause: str = ""
    traceback: str = ""


class TaskResult(Struct, omit_defaults=True):
    """A task, its state, and base64 text of its pickled result; null while there is none.

    The result of a FAILED task is the exception that its function raised, or a WorkerFailure. What it printed is there
    where `capture` was asked for; `cut_bytes` of it were left out.
    """

    task_id: str
    status: Status
    result: str | None
    error: TaskError | UnsetType = UNSET
    stdout: str = ""
    stderr: str = ""
    cut_bytes: int = 0


class Waited(Struct):
    """The tasks that have ended or are unknown, and the ids of those that have not."""

    tasks: list[TaskResult]
    pending: list[str]


class Cancelled(Struct):
    """The task's state after the request; one that was running and is being killed is still RUNNING."""

    task_id: str
    status: Status


class TaskListing(Struct):
    """A task as a list shows it; times in seconds since the epoch, 0 for what has not happened."""

    task_id: str
    status: Status
    attempt: int
    submitted_at: float
    started_at: float
    ended_at: float


class TaskPage(Struct):
    """Some tasks in the order of their acceptance; `next` is the `after` of the next page, null at the end."""

    tasks: list[TaskListing]
    next: str | None


class Health(Struct):
    """How much there is: tasks by state, workers and their children, bytes of payloads waiting and of results kept."""

    status: str
    version: str
    queued: int
    running: int
    ended: int
    workers: int
    slots: int
    queued_bytes: int
    result_bytes: int
    accepted_total: int
    ended_total: int


class Refused(Struct):
    """Why a request was not carried out; `code` names the error."""

    detail: str
    code: str


class Problem(Struct):
    """What is wrong with a body, and where."""

    type: str
    loc: list[str]
    msg: str


class Unreadable(Struct):
    """A body that is not as it has to be."""

    detail: list[Problem]


@lru_cache(maxsize=1024)
def _limits(
    deadline_s: float,
    total_s: float,
    queue_ttl_s: float,
    retries: int,
    retries_lost: int,
    retries_memory: int,
    labels: tuple[tuple[str, int], ...],
    durability: Durability,
    keep_s: float,
    memory_bytes: int,
    result_bytes_max: int,
    python: str,
    capture: bool,
) -> TaskLimits:
    return TaskLimits(
        durability=durability,
        attempt_s=deadline_s,
        total_s=total_s,
        queue_s=queue_ttl_s,
        retries_error=retries,
        retries_lost=retries_lost,
        retries_memory=retries_memory,
        labels=dict(labels),
        keep_s=keep_s,
        python=python,
        form="dill",
        capture=capture,
        memory_bytes=memory_bytes,
        result_bytes_max=result_bytes_max,
    )
