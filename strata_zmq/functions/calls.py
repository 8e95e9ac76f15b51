"""What executors, engines and clients hand to each other: packed calls and views of tasks. Nothing is loaded here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from blake3 import blake3

from strata_zmq.domain.task import NO_LIMITS, End, Outcome, Payload, State, TaskLimits

__all__ = ["Engine", "PackedCall", "Resolver", "TaskView", "payload_bytes", "payload_digest"]

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class PackedCall:
    """One call, ready to travel. `function` is a digest known to the engine (`Engine.keep`) or CALL_IN_PAYLOAD.

    `body` is a Payload; a local engine takes a pool's SharedParts, too. `refs` are digests of values that it refers to.
    """

    function: bytes
    body: object
    limits: TaskLimits = NO_LIMITS
    refs: tuple[bytes, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class TaskView:
    """What a dispatcher says of a task; times in seconds since the epoch, 0.0 for what has not happened."""

    task_id: bytes
    state: State | Literal["UNKNOWN"]
    attempt: int = 0
    outcome: Outcome | None = None
    submitted_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    ended_as: End | Literal[""] = ""
    """How it ended, of one that is EXPIRED."""


class Resolver(Protocol):
    """The side of a future that an engine speaks to. All three may be called from the engine's thread."""

    def begin(self) -> bool:
        """The call is about to be handed to a child; False if it was cancelled and must not run."""

    def resolve(self, outcome: Outcome) -> None:
        """The call has ended; the resolver loads the body itself and never raises."""

    def fail(self, error: BaseException) -> None:
        """The call never came to an end of its own: the engine is broken, closed, or refused it."""


class Engine(Protocol):
    """What runs calls: the local one on a pool of children, the remote one on a dispatcher. Thread-safe."""

    def keep(self, digest: bytes, payload: Payload) -> None:
        """Make a packed callable or value known; calling again is nothing."""

    def submit(self, calls: list[tuple[PackedCall, Resolver]]) -> list[bytes]:
        """Take calls in their order and return their task ids at once.

        Raises ResourceExhaustedError where the queue is full, UnavailableError where it is closed or broken for good.
        """

    def cancel(self, task_id: bytes, *, running: bool, timeout_s: float) -> bool:
        """Withdraw a call that has not started, or kill it with `running`; True if it will never give a result.

        Waits at most `timeout_s` for those who know. On True nothing is called on its resolver afterwards.
        """

    def shutdown(self, *, wait: bool, cancel_pending: bool) -> None:
        """Take nothing new; end when everything has ended (at once for what has not started with `cancel_pending`)."""


def payload_bytes(payload: Payload) -> int:
    """Return how many bytes a payload has, buffers included."""
    if isinstance(payload, bytes):
        return len(payload)
    return sum(memoryview(part).nbytes for part in payload)


def payload_digest(payload: Payload) -> bytes:
    """Return the 16 bytes by which a payload is known: BLAKE3 over its parts, one after the other."""
    if isinstance(payload, bytes):
        return blake3(payload).digest(_DIGEST_BYTES)
    whole = blake3()
    for part in payload:
        whole.update(part)
    return whole.digest(_DIGEST_BYTES)
