"""Membership rules: a worker's states as a table, the order of ranks, and when a generation may form."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from strata_zmq.errors import InvalidArgumentError

__all__ = [
    "STATES",
    "STIMULI",
    "STORY_MAX",
    "TRANSITIONS",
    "Quorum",
    "QuorumPending",
    "Transition",
    "membership_digest",
    "next_state",
    "quorum",
    "rank_order",
]

STATES = ("UNKNOWN", "INITIALIZING", "IDLE", "LOADING_DATA", "TRAINING", "CHECKPOINTING", "RECOVERING", "FAILED")
_ACTIVE = ("INITIALIZING", "IDLE", "LOADING_DATA", "TRAINING", "CHECKPOINTING", "RECOVERING")
STIMULI = ("register", "recall", "leave", "lost", *STATES)
"""What happens to a worker: it registers, a restarted coordinator recalls it, it leaves, it is lost, or a heartbeat
reports one of the states."""

# (state, stimulus) -> state. A pair that is not here cannot happen.
TRANSITIONS: dict[tuple[str, str], str] = {
    ("UNKNOWN", "register"): "INITIALIZING",
    ("UNKNOWN", "recall"): "RECOVERING",
    ("FAILED", "register"): "RECOVERING",
    # The same process on a new connection.
    **{(state, "register"): state for state in _ACTIVE},
    **{(state, "leave"): "UNKNOWN" for state in _ACTIVE},
    **{(state, "lost"): "FAILED" for state in _ACTIVE},
    # A training loop may move between any two of its states at any time; that a worker is gone or has failed is for
    # the coordinator to decide.
    **{(state, reported): reported for state in _ACTIVE for reported in _ACTIVE},
}

STORY_MAX = 8
"""How many of its last transitions an entity's story keeps."""


class Transition(NamedTuple):
    """One line of a worker's story: at `at` seconds, `stimulus` made it `state`."""

    at: float
    stimulus: str
    state: str


def next_state(worker_id: str, state: str, stimulus: str, *, story: Iterable[Transition] = (), now: float = 0.0) -> str:
    """Return the state that follows.

    A missing cell of the table is an InvalidArgumentError that names the worker and both, and tells its `story`.
    """
    found = TRANSITIONS.get((state, stimulus))
    if found is None:
        told = "; ".join(f"{now - line.at:.1f} s ago {line.stimulus} -> {line.state}" for line in story)
        raise InvalidArgumentError(
            f"worker {worker_id!r} is {state} and cannot take {stimulus!r}: report one of {', '.join(_ACTIVE)} "
            f"(its story: {told or 'nothing yet'})"
        )
    return found


@dataclass(frozen=True, slots=True)
class Quorum:
    """Enough members: these, in rank order, with the difference to the generation before."""

    members: tuple[str, ...]
    joined: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuorumPending:
    """Not enough members yet."""

    need: int
    have: int

    def __str__(self) -> str:
        return f"{self.have} of {self.need} workers are registered"


def rank_order(previous: Sequence[str], live: Iterable[str]) -> tuple[str, ...]:
    """Return `live` in rank order: who was there keeps the order, newcomers follow in the natural order of their ids.

    So rank 0 is always the member that has been there longest: the one to take the model's state from.
    """
    alive = set(live)
    kept = [worker for worker in previous if worker in alive]
    return (*kept, *sorted(alive.difference(kept), key=_natural))


def quorum(previous: Sequence[str], live: Collection[str], *, need: int) -> Quorum | QuorumPending:
    """Decide whether `live` workers make a generation, given the members of the one before and how many it needs.

    `live` names nobody twice. While too few are there the answer costs no look at their names.
    """
    need = max(need, 1)
    if len(live) < need:
        return QuorumPending(need=need, have=len(live))
    members = rank_order(previous, live)
    before, after = set(previous), set(members)
    return Quorum(
        members=members,
        joined=tuple(worker for worker in members if worker not in before),
        left=tuple(worker for worker in previous if worker not in after),
    )


def membership_digest(generation: int, epoch: int, formed: bool, members: Iterable[str]) -> int:
    """Return what a follower of the broadcasts compares: 62 bits over the generation, the epoch and the members."""
    text = f"{generation}|{epoch}|{int(formed)}|{','.join(members)}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 2


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
