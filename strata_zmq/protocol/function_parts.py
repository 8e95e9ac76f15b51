"""What the function plane's messages are made of: limits, bounded field types, and the records inside messages."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "BATCH_MAX",
    "BLOB_BYTES_MAX",
    "FRAMES_MAX",
    "FUNCTIONS_VERSION",
    "INLINE_BYTES_MAX",
    "MESSAGE_BYTES_MAX",
    "AssignedTask",
    "Blob",
    "Body",
    "Count",
    "Digest",
    "Existing",
    "FunctionMessage",
    "HeldTask",
    "Labels",
    "LimitsRow",
    "Name",
    "NewTask",
    "OutcomeRow",
    "RefusedTask",
    "ReportRow",
    "Seconds",
    "State",
    "TaskId",
    "TaskIds",
    "TaskRef",
    "TaskRow",
    "Text",
    "Version",
]

FUNCTIONS_VERSION = 1
INLINE_BYTES_MAX = 16 * 1024
"""A longer payload is a frame of its own."""
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""The longest first frame."""
BLOB_BYTES_MAX = 256 * 1024 * 1024
"""The longest payload frame, and all payload frames of one message together unless there is only one."""
FRAMES_MAX = 1024
"""Most payload frames of a message."""
BATCH_MAX = 10_000
"""Most tasks, ids or rows in one message."""

Count = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0, le=86_400 * 30)]
TaskId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, Meta(min_length=16, max_length=16)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Key = Annotated[str, Meta(max_length=256)]
Version = Annotated[str, Meta(max_length=16)]
Text = Annotated[str, Meta(max_length=8192)]
Captured = Annotated[str, Meta(max_length=1024 * 1024)]
Inline = Annotated[bytes, Meta(max_length=INLINE_BYTES_MAX)]
FrameIndex = Annotated[int, Meta(ge=0, le=FRAMES_MAX - 1)]
Frames = Annotated[list[FrameIndex], Meta(min_length=1, max_length=FRAMES_MAX)]
Body = Inline | Frames
"""A payload: its bytes, or the frames of its pickle and its out-of-band buffers, in their order."""
TaskIds = Annotated[list[TaskId], Meta(max_length=BATCH_MAX)]
Labels = Annotated[dict[Annotated[str, Meta(min_length=1, max_length=64)], Count], Meta(max_length=16)]
State = Literal["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "EXPIRED", "UNKNOWN"]


class FunctionMessage(msgspec.Struct, array_like=True, frozen=True):
    """What every message of the function plane shares: it is an array, and a value."""


class LimitsRow(FunctionMessage, frozen=True):
    """What a submitter asks for, for all tasks of a message; the fields are those of `domain.task.TaskLimits`."""

    durability: Literal["none", "commit"] = "none"
    attempt_s: Seconds = 0.0
    total_s: Seconds = 0.0
    queue_s: Seconds = 0.0
    retries_error: Annotated[int, Meta(ge=0, le=1000)] = 0
    retries_lost: Annotated[int, Meta(ge=0, le=1000)] = 0
    retries_memory: Annotated[int, Meta(ge=0, le=1000)] = 0
    labels: Labels = {}
    keep_s: Seconds = 0.0
    python: Version = ""
    form: Literal["strata", "dill"] = "strata"
    capture: bool = False
    memory_bytes: Count = 0
    result_bytes_max: Annotated[int, Meta(ge=1, le=BLOB_BYTES_MAX)] = BLOB_BYTES_MAX


class NewTask(FunctionMessage, frozen=True, gc=False):
    """One call. `function` is the digest of its packed callable, the id of a registered function, or 16 zeros: the
    callable is in the payload. `refs` are digests of values that the payload refers to. With a `key`, the same key and
    the same call are the same task.
    """

    task_id: TaskId
    function: Digest
    body: Body
    refs: Annotated[list[Digest], Meta(max_length=1024)] = []
    key: Key = ""


class Blob(FunctionMessage, frozen=True):
    """A packed callable or value; `digest` is the first 16 bytes of BLAKE3 over its frames, one after the other."""

    digest: Digest
    body: Body


class RefusedTask(FunctionMessage, frozen=True):
    """A task of a submission that was not accepted; `retry_after_s` above 0 says when to try again."""

    index: Annotated[int, Meta(ge=0, le=BATCH_MAX)]
    code: Name
    message: Text
    retry_after_s: Seconds = 0.0


class Existing(FunctionMessage, frozen=True):
    """A task of a submission whose key already stands for another task."""

    index: Annotated[int, Meta(ge=0, le=BATCH_MAX)]
    task_id: TaskId


class ReportRow(FunctionMessage, frozen=True):
    """What there is to tell about an attempt; the fields are those of `domain.task.OutcomeReport`."""

    text: Text = ""
    type_name: Annotated[str, Meta(max_length=1024)] = ""
    traceback: Annotated[str, Meta(max_length=64 * 1024)] = ""
    worker: Annotated[str, Meta(max_length=256)] = ""
    pid: Count = 0
    signal: Count = 0
    exit_code: int = -1
    rss_bytes: Count = 0
    last_lines: Text = ""
    stdout: Captured = ""
    stderr: Captured = ""
    cut_bytes: Count = 0


class OutcomeRow(FunctionMessage, frozen=True):
    """How an attempt ended: `ok` with a result, `error` with an exception, or `failure` with a `cause`."""

    task_id: TaskId
    attempt: Count
    kind: Literal["ok", "error", "failure"]
    body: Body | None
    service_s: float = 0.0
    cause: Annotated[str, Meta(max_length=64)] = ""
    report: ReportRow | None = None
    started: bool = True


class TaskRow(FunctionMessage, frozen=True):
    """A task as its dispatcher knows it; `outcome` once it has ended, and without a body where none was asked for.

    Times are seconds since the epoch, 0 for what has not happened. Of one that is EXPIRED `ended_as` tells how it
    ended, and `outcome` why it failed, where no body was asked for.
    """

    task_id: TaskId
    state: State
    attempt: Count = 0
    outcome: OutcomeRow | None = None
    submitted_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    ended_as: Literal["", "COMPLETED", "FAILED", "CANCELLED"] = ""


class TaskRef(FunctionMessage, frozen=True, gc=False):
    """One attempt of one task."""

    task_id: TaskId
    attempt: Count


class HeldTask(FunctionMessage, frozen=True, gc=False):
    """An attempt that a worker has, and how far it has come with it."""

    task_id: TaskId
    attempt: Count
    phase: Literal["waiting", "running", "done"]


class AssignedTask(FunctionMessage, frozen=True, gc=False):
    """An attempt for a worker to run. `limits` indexes the message's `limits`.

    One that `asks` must not begin before a BEGIN has named it.
    """

    task_id: TaskId
    attempt: Count
    function: Digest
    body: Body
    limits: Annotated[int, Meta(ge=0, le=BATCH_MAX)]
    refs: Annotated[list[Digest], Meta(max_length=1024)] = []
    asks: bool = False
