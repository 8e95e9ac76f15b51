"""The StrataError tree: every error says whose fault it is, whether a retry can help, and what to do next.

Errors that cross the wire are named by `code`; `from_wire` builds the same class again on the other side.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import ClassVar, Literal

__all__ = [
    "AlreadyExistsError",
    "BarrierBrokenError",
    "CheckpointCorruptError",
    "DeadlineExceededError",
    "DurabilityError",
    "EnvironmentMismatchError",
    "FencedError",
    "GenerationChangedError",
    "HistoryChangedError",
    "InvalidArgumentError",
    "MissingPayloadError",
    "NotFoundError",
    "PeerLostError",
    "ProtocolError",
    "QuarantinedError",
    "ResourceExhaustedError",
    "ResultExpiredError",
    "StaleGenerationError",
    "StorageError",
    "StrataError",
    "SupersededError",
    "UnavailableError",
    "UnknownSessionError",
    "WorkerFailure",
    "from_wire",
]

Fault = Literal["caller", "peer", "environment", "strata"]


class StrataError(Exception):
    """Base of every error that Strata raises on purpose.

    `code` is the error's name on the wire, `fault` says whose mistake it is and `retryable` whether the same call
    can succeed later without a change on the caller's side.
    """

    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = "strata"
    retryable: ClassVar[bool] = False


class InvalidArgumentError(StrataError, ValueError):
    """A value is outside its limits; the message names the field, the limit and the way out."""

    code = "invalid_argument"
    fault = "caller"


class NotFoundError(StrataError, LookupError):
    """The named worker, dataset, shard or checkpoint does not exist."""

    code = "not_found"
    fault = "caller"


class AlreadyExistsError(StrataError):
    """The name is taken by something else that is alive or differs from what was offered."""

    code = "already_exists"
    fault = "caller"


class StaleGenerationError(StrataError):
    """The write carries a generation or term that is past: its sender was fenced and has to register again."""

    code = "stale_generation"
    fault = "peer"
    retryable = True


class FencedError(StaleGenerationError):
    """The caller was declared lost (its lease ended, or it was reported dead): register again as a newcomer."""

    code = "fenced"


class GenerationChangedError(StrataError):
    """The membership changed: what was not committed is void, go back to the last commit point and go on.

    `generation` is the new one; `joined` and `left` name the workers that made the difference.
    """

    code = "generation_changed"
    fault = "peer"
    retryable = True

    def __init__(
        self, message: str = "", *, generation: int = 0, joined: tuple[str, ...] = (), left: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.generation = generation
        self.joined = joined
        self.left = left


class BarrierBrokenError(GenerationChangedError):
    """A barrier that was being waited for will never be released, because its members changed."""

    code = "barrier_broken"


class HistoryChangedError(StrataError):
    """History is not the one that this process has trained in: it was taken back, or goes on from another past.

    What the process remembers has seen samples that are dealt again: restore a checkpoint, or take over the state of a
    member that is in line.
    """

    code = "history_changed"
    fault = "peer"


class DeadlineExceededError(StrataError, TimeoutError):
    """A wait ran out of time; `missing` names who did not arrive."""

    code = "deadline_exceeded"
    fault = "peer"
    retryable = True

    def __init__(self, message: str = "", *, missing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing


class ResourceExhaustedError(StrataError):
    """A limit on size, count or memory is reached; the message names it and how to raise it."""

    code = "resource_exhausted"
    fault = "environment"
    retryable = True


class UnknownSessionError(StrataError):
    """The other side does not know this session (it was restarted, or the lease ran out): say hello again."""

    code = "unknown_session"
    fault = "peer"
    retryable = True


class UnavailableError(StrataError, ConnectionError):
    """Nobody answers at the address."""

    code = "unavailable"
    fault = "environment"
    retryable = True


class ProtocolError(StrataError):
    """A frame is malformed, truncated, oversized or of an unknown kind."""

    code = "protocol"
    fault = "peer"


class PeerLostError(StrataError):
    """The process at the other end of a shared-memory ring or a stream has died."""

    code = "peer_lost"
    fault = "peer"
    retryable = True


class StorageError(StrataError, OSError):
    """The storage cannot be read or written; the message names the path and the system's reason."""

    code = "storage"
    fault = "environment"
    retryable = True


class DurabilityError(StorageError):
    """The storage took bytes and cannot promise that they last: an fsync failed, or other bytes were stored.

    What was written is given up whole. An fsync is never tried again: the system may have forgotten what it lost.
    """

    code = "durability"
    retryable = False


class SupersededError(StrataError):
    """A save was skipped or made way for a later one, on all ranks: storage was busy, or not every rank took part."""

    code = "superseded"
    fault = "environment"


class CheckpointCorruptError(StrataError):
    """Stored bytes do not match their digest or their manifest."""

    code = "checkpoint_corrupt"
    fault = "environment"


class WorkerFailure(StrataError, BrokenExecutor):  # noqa: N818 - the published name
    """A task has neither a result nor an exception of its own; `cause` says why, and the message what happened.

    Causes are those of `domain.task.Cause`. `signal`, `exit_code` (-1: it lives), `rss_bytes` and `last_lines` are what
    is known of the process that ran it; `remote_traceback` is text. It loads wherever this package is installed.
    """

    code = "worker_failure"
    fault = "peer"

    def __init__(
        self,
        message: str = "",
        *,
        cause: str = "",
        task_id: str = "",
        attempt: int = 0,
        worker: str = "",
        pid: int = 0,
        signal: int = 0,
        exit_code: int = -1,
        rss_bytes: int = 0,
        last_lines: str = "",
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.task_id = task_id
        self.attempt = attempt
        self.worker = worker
        self.pid = pid
        self.signal = signal
        self.exit_code = exit_code
        self.rss_bytes = rss_bytes
        self.last_lines = last_lines
        self.remote_traceback = remote_traceback


class QuarantinedError(StrataError):
    """The function killed the processes that ran it, one after the other: for a while it is not run any more."""

    code = "quarantined"
    fault = "caller"


class EnvironmentMismatchError(StrataError):
    """No worker has the Python version, or the pickle protocol, that can load the call."""

    code = "environment_mismatch"
    fault = "caller"


class MissingPayloadError(StrataError):
    """The dispatcher does not have a callable or value that the call refers to by its digest: put it, and try again."""

    code = "missing_payload"
    fault = "peer"
    retryable = True


class ResultExpiredError(StrataError):
    """The task has ended, and its result is no longer kept; ask earlier, or submit with a longer `keep_s`."""

    code = "result_expired"
    fault = "caller"


def _tree(root: type[StrataError]) -> dict[str, type[StrataError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


def from_wire(code: str, message: str, **details: object) -> StrataError:
    """Return the error named `code` with `message`; an unknown code gives a plain StrataError that keeps it."""
    kind = _tree(StrataError).get(code)
    if kind is None:
        return StrataError(f"{code}: {message}")
    known = {
        name: value
        for name, value in details.items()
        if (name == "missing" and issubclass(kind, DeadlineExceededError))
        or (name in {"generation", "joined", "left"} and issubclass(kind, GenerationChangedError))
    }
    return kind(message, **known)
