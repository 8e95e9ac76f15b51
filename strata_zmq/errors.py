"""The StrataError tree: every error says whose fault it is, whether a retry can help, and what to do next.

Errors that cross the wire are named by `code`; `from_wire` builds the same class again on the other side.
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = [
    "AlreadyExistsError",
    "BarrierBrokenError",
    "CheckpointCorruptError",
    "DeadlineExceededError",
    "DurabilityError",
    "FencedError",
    "GenerationChangedError",
    "HistoryChangedError",
    "InvalidArgumentError",
    "NotFoundError",
    "PeerLostError",
    "ProtocolError",
    "ResourceExhaustedError",
    "StaleGenerationError",
    "StorageError",
    "StrataError",
    "SupersededError",
    "UnavailableError",
    "UnknownSessionError",
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
    """A save was skipped, or made way for a newer one, because the storage was still busy with earlier ones."""

    code = "superseded"
    fault = "environment"


class CheckpointCorruptError(StrataError):
    """Stored bytes do not match their digest or their manifest."""

    code = "checkpoint_corrupt"
    fault = "environment"


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
