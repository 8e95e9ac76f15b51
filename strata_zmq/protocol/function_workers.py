"""What a function worker says to its dispatcher, and what it is told."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from strata_zmq.protocol.function_parts import (
    BATCH_MAX,
    FRAMES_MAX,
    FUNCTIONS_VERSION,
    AssignedTask,
    Blob,
    Count,
    Digest,
    FunctionMessage,
    HeldTask,
    Labels,
    LimitsRow,
    Name,
    OutcomeRow,
    Seconds,
    TaskRef,
    Version,
)

__all__ = [
    "Assign",
    "Begin",
    "Blobs",
    "Enlist",
    "Enlisted",
    "Recall",
    "Retire",
    "Settled",
    "StopTasks",
    "Turn",
    "WantBlobs",
]

# ---- from a worker --------------------------------------------------------------------------------------------------


class Enlist(FunctionMessage, frozen=True, tag="enlist"):
    """A worker with `slots` children begins or resumes on this connection. Answered by ENLISTED.

    `worker_id` is the process's and stays over connections. `held` is all that it has, also what it has finished and
    the dispatcher has not confirmed: such outcomes come again in the next TURN.
    """

    worker_id: Name
    slots: Annotated[int, Meta(ge=1, le=4096)]
    mode: Literal["push", "pull"]
    python: Version
    labels: Labels = {}
    held: Annotated[list[HeldTask], Meta(max_length=BATCH_MAX)] = []
    proto: Count = FUNCTIONS_VERSION
    host: Annotated[str, Meta(max_length=256)] = ""
    pid: Count = 0


class Turn(FunctionMessage, frozen=True, tag="turn"):
    """What happened at a worker since its last turn; one without content is its heartbeat.

    `number` rises by one with each turn that carries outcomes or returned tasks, and is that of the last such turn
    otherwise. `started` is said before the tasks are handed to a child. `want` is what a pulling worker is ready for
    beside what it holds; `received` the number of the last ASSIGN that it has. `asks` are those that are next for a
    child and must not begin before a BEGIN names them; what is not answered for a while is asked again.
    """

    session: Count
    number: Count
    outcomes: Annotated[list[OutcomeRow], Meta(max_length=BATCH_MAX)] = []
    started: Annotated[list[TaskRef], Meta(max_length=BATCH_MAX)] = []
    returned: Annotated[list[TaskRef], Meta(max_length=BATCH_MAX)] = []
    want: Count = 0
    received: Count = 0
    asks: Annotated[list[TaskRef], Meta(max_length=BATCH_MAX)] = []


class WantBlobs(FunctionMessage, frozen=True, tag="want_blobs"):
    """Asks for packed callables and values that the worker lacks. Answered by BLOBS."""

    session: Count
    digests: Annotated[list[Digest], Meta(max_length=FRAMES_MAX)]


class Retire(FunctionMessage, frozen=True, tag="retire"):
    """The worker takes nothing new and finishes what it runs; with `now` it is leaving and runs nothing."""

    session: Count
    now: bool = False


# ---- to a worker ----------------------------------------------------------------------------------------------------


class Enlisted(FunctionMessage, frozen=True, tag="enlisted"):
    """The session has begun. `drop` are attempts of `held` that nobody wants any more: they are killed, and forgotten.

    A worker that says nothing for `lease_s` is lost; it says something every `heartbeat_s`. One that hears nothing for
    `lease_s` enlists again.
    """

    session: Count
    incarnation: Name
    lease_s: Seconds
    heartbeat_s: Seconds
    drop: Annotated[list[TaskRef], Meta(max_length=BATCH_MAX)] = []


class Assign(FunctionMessage, frozen=True, tag="assign"):
    """Tasks to run, in order. `number` counts the session's ASSIGNs from 1: after a gap the worker enlists again.

    `blobs` are callables that the worker has not been sent yet.
    """

    session: Count
    number: Count
    limits: Annotated[list[LimitsRow], Meta(max_length=BATCH_MAX)]
    tasks: Annotated[list[AssignedTask], Meta(max_length=BATCH_MAX)]
    blobs: Annotated[list[Blob], Meta(max_length=FRAMES_MAX)] = []


class Begin(FunctionMessage, frozen=True, tag="begin"):
    """These attempts, which a TURN has asked for, may be handed to a child: that they may have begun is durable."""

    session: Count
    tasks: Annotated[list[TaskRef], Meta(max_length=BATCH_MAX)]


class Recall(FunctionMessage, frozen=True, tag="recall"):
    """Asks for up to `count` of the newest unstarted tasks back; they come in `returned` of a TURN."""

    session: Count
    count: Count


class StopTasks(FunctionMessage, frozen=True, tag="stop_tasks"):
    """Asks the worker to drop these attempts where they wait and to kill them where they run; each ends as an outcome
    with the cause `cancelled`.
    """

    session: Count
    tasks: Annotated[list[TaskRef], Meta(max_length=BATCH_MAX)]


class Settled(FunctionMessage, frozen=True, tag="settled"):
    """What turns up to `number` said is taken, and durable where it has to be: the worker may forget it."""

    session: Count
    number: Count


class Blobs(FunctionMessage, frozen=True, tag="blobs"):
    """Packed callables and values; `missing` are those that the dispatcher has not: their tasks cannot run."""

    session: Count
    blobs: Annotated[list[Blob], Meta(max_length=FRAMES_MAX)]
    missing: Annotated[list[Digest], Meta(max_length=FRAMES_MAX)] = []
