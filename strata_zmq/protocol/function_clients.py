"""What a client of a dispatcher says, and what it is told."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from strata_zmq.protocol.function_parts import (
    BATCH_MAX,
    FRAMES_MAX,
    FUNCTIONS_VERSION,
    Blob,
    Body,
    Count,
    Existing,
    FunctionMessage,
    LimitsRow,
    Name,
    NewTask,
    RefusedTask,
    Seconds,
    State,
    TaskId,
    TaskIds,
    TaskRow,
    Text,
    Version,
)

__all__ = [
    "Answers",
    "Attach",
    "AttachedReply",
    "Beat",
    "BeatAck",
    "Cancel",
    "Cancelling",
    "Complaint",
    "Counts",
    "Detach",
    "Fetch",
    "GetCounts",
    "ListTasks",
    "Page",
    "PutBlobs",
    "RegisterFunction",
    "Results",
    "Seen",
    "Stored",
    "Submit",
    "SubmittedReply",
    "Watch",
]

# ---- from a client --------------------------------------------------------------------------------------------------


class Attach(FunctionMessage, frozen=True, tag="attach"):
    """Begins or resumes a client's conversation on this connection. Answered by ATTACHED.

    `client_id` stays over connections. With `deliver` its tasks' ends are sent as RESULTS. `incarnation` is the
    dispatcher's as last heard, "" at first.
    """

    seq: Count
    client_id: Name
    proto: Count = FUNCTIONS_VERSION
    python: Version = ""
    deliver: bool = True
    incarnation: Annotated[str, Meta(max_length=64)] = ""


class PutBlobs(FunctionMessage, frozen=True, tag="put_blobs"):
    """Stores packed callables and values. Answered by STORED."""

    seq: Count
    blobs: Annotated[list[Blob], Meta(max_length=FRAMES_MAX)]


class RegisterFunction(FunctionMessage, frozen=True, tag="register_function"):
    """Keeps a packed callable under an id, for good. Answered by STORED, when it is on disk."""

    seq: Count
    function_id: TaskId
    name: Name
    body: Body


class Submit(FunctionMessage, frozen=True, tag="submit"):
    """New tasks, all with the same limits. Answered by SUBMITTED, for durability `commit` when they are on disk."""

    seq: Count
    limits: LimitsRow
    tasks: Annotated[list[NewTask], Meta(max_length=BATCH_MAX)]


class Fetch(FunctionMessage, frozen=True, tag="fetch"):
    """Asks what is known of tasks, with the bodies of their outcomes or without. Answered by ANSWERS."""

    seq: Count
    task_ids: TaskIds
    bodies: bool = True


class Watch(FunctionMessage, frozen=True, tag="watch"):
    """Asks for the ends of tasks, whoever submitted them, within `for_s`. Answered by ANSWERS with those that have
    ended or are unknown; the others come as RESULTS.
    """

    seq: Count
    task_ids: TaskIds
    for_s: Seconds
    bodies: bool = True


class Cancel(FunctionMessage, frozen=True, tag="cancel"):
    """Cancels tasks; those that run only with `running`: their child is killed. Answered by CANCELLING."""

    seq: Count
    task_ids: TaskIds
    running: bool = False


class ListTasks(FunctionMessage, frozen=True, tag="list_tasks"):
    """Asks for known tasks in the order of their acceptance, after the id `after` (empty: from the first), of one state
    or of all (""). Answered by PAGE.
    """

    seq: Count
    after: Annotated[bytes, Meta(max_length=16)] = b""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    state: Literal["", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "EXPIRED"] = ""


class GetCounts(FunctionMessage, frozen=True, tag="get_counts"):
    """Asks how much there is. Answered by COUNTS."""

    seq: Count


class Seen(FunctionMessage, frozen=True, tag="seen"):
    """The client has all RESULTS up to this number. Not answered."""

    number: Count


class Detach(FunctionMessage, frozen=True, tag="detach"):
    """The client goes; with `abandon` nobody will read what it submitted with durability `none`. Not answered."""

    abandon: bool = True


class Beat(FunctionMessage, frozen=True, tag="beat"):
    """The sender lives. Answered by BEAT_ACK."""

    seq: Count = 0


# ---- to a client ----------------------------------------------------------------------------------------------------


class AttachedReply(FunctionMessage, frozen=True, tag="attached"):
    """The conversation has begun. Another `incarnation` than before: the dispatcher was restarted, tasks of durability
    `none` are gone. A client that says nothing for `lease_s` is taken for gone.
    """

    seq: Count
    incarnation: Name
    lease_s: Seconds
    pythons: Annotated[list[Version], Meta(max_length=64)] = []


class Stored(FunctionMessage, frozen=True, tag="stored"):
    """It is kept."""

    seq: Count


class SubmittedReply(FunctionMessage, frozen=True, tag="submitted"):
    """The submission's tasks are accepted but for `refused`; each of them comes to one end from now on."""

    seq: Count
    refused: Annotated[list[RefusedTask], Meta(max_length=BATCH_MAX)] = []
    existing: Annotated[list[Existing], Meta(max_length=BATCH_MAX)] = []


class Answers(FunctionMessage, frozen=True, tag="answers"):
    """What is known of the tasks, in the order in which they were asked for; for WATCH those that have an answer."""

    seq: Count
    rows: Annotated[list[TaskRow], Meta(max_length=BATCH_MAX)]


class Results(FunctionMessage, frozen=True, tag="results"):
    """Tasks that have ended. `number` rises by one; what SEEN has not confirmed comes again after ATTACH."""

    number: Count
    rows: Annotated[list[TaskRow], Meta(max_length=BATCH_MAX)]


class Cancelling(FunctionMessage, frozen=True, tag="cancelling"):
    """The tasks' states now, in the order of the request; who is still running comes to its end soon."""

    seq: Count
    states: Annotated[list[State], Meta(max_length=BATCH_MAX)]


class Page(FunctionMessage, frozen=True, tag="page"):
    """Some tasks, without bodies; there are more where `rows` is as long as the limit."""

    seq: Count
    rows: Annotated[list[TaskRow], Meta(max_length=1000)]


class Counts(FunctionMessage, frozen=True, tag="counts"):
    """How much there is: tasks by state, workers and their children, bytes of payloads waiting and results kept."""

    seq: Count
    queued: Count
    running: Count
    ended: Count
    workers: Count
    slots: Count
    queued_bytes: Count
    result_bytes: Count
    accepted_total: Count
    ended_total: Count


class Complaint(FunctionMessage, frozen=True, tag="complaint"):
    """A message was not understood or not allowed; `seq` is the request's, 0 if it could not be read.

    The code `unknown_session` asks a client to attach and a worker to enlist.
    """

    seq: Count
    code: Name
    message: Text
    retry_after_s: Seconds = 0.0


class BeatAck(FunctionMessage, frozen=True, tag="beat_ack"):
    """The dispatcher lives."""

    seq: Count = 0
