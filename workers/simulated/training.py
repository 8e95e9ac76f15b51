"""What a simulated worker does all day: it joins, takes its shards, spends a step's time, commits, and begins again.

A program yields what it waits for, a request or a pause, and is driven by `worker.py`. What it commits is real: ids in
the dataset's order, with their checksum, exactly once in committed history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from strata_zmq.domain.checksum import checksum
from strata_zmq.errors import (
    DeadlineExceededError,
    GenerationChangedError,
    HistoryChangedError,
    StaleGenerationError,
    UnavailableError,
)
from strata_zmq.protocol.messages import SeenRange, Shards
from strata_zmq.workers import operations
from strata_zmq.workers.operations import Ask, SessionState
from strata_zmq.workers.shards import Shard, shards_from
from strata_zmq.workers.votes import Votes

from .plan import FleetPlan

__all__ = ["Pause", "Program", "training"]


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to do for so many seconds."""

    seconds: float


Program = Generator[Ask | Pause, Any, None]

_RANGES_MAX = 256


@dataclass(slots=True)
class _Open:
    shard: Shard
    position: int


def training(session: SessionState, votes: Votes, plan: FleetPlan, random: Random) -> Program:
    """Train until the ranks agree to stop, or this one is to be drained; then leave.

    A changed membership or a coordinator that is away only sends it back to the beginning.
    """
    while not (votes.stopped or votes.draining):
        try:
            yield from _epoch(session, votes, plan, random)
        except (GenerationChangedError, StaleGenerationError):
            session.state = "RECOVERING"
        except (DeadlineExceededError, UnavailableError):
            yield Pause(1.0 + random.random())
    yield from operations.leave(session)


def _epoch(session: SessionState, votes: Votes, plan: FleetPlan, random: Random) -> Program:
    with suppress(HistoryChangedError):
        yield from operations.join(session)
    # It has no model that could be of another history.
    session.agreed()
    votes.answered(session.membership.commands_answered)
    session.state = "LOADING_DATA"
    yield from operations.register_dataset(
        session, plan.dataset_id, plan.total_samples, plan.shard_size, seed=plan.seed
    )
    reply: Shards = yield from operations.get_shards(session, plan.dataset_id)
    if reply.generation != session.generation:
        return
    opened = _open_shards(reply)
    remaining = reply.remaining
    while remaining:
        ranges: list[SeenRange] = []
        if opened:
            session.state = "TRAINING"
            yield Pause(plan.step_s * (0.5 + random.random()))
            ranges = _take(opened, reply, plan.batch_size)
            session.spent.handed_out(sum(one.stop - one.start for one in ranges))
        released = yield from operations.commit(session, ranges, values=votes.ballot())
        if votes.count(released.reduced).stop or votes.draining:
            return
        remaining = released.remaining.get(plan.dataset_id, 0)
    session.state = "IDLE"
    yield from operations.advance_epoch(session)


def _open_shards(reply: Shards) -> deque[_Open]:
    pairs = zip(shards_from(reply), reply.cursors, strict=True)
    return deque(_Open(shard, cursor) for shard, cursor in pairs if cursor < shard.num_samples)


def _take(opened: deque[_Open], reply: Shards, wanted: int) -> list[SeenRange]:
    """Take up to `wanted` samples off the shards at hand."""
    ranges: list[SeenRange] = []
    while wanted and opened and len(ranges) < _RANGES_MAX:
        first = opened[0]
        start, stop = first.position, min(first.position + wanted, first.shard.num_samples)
        seen = checksum(first.shard.samples(start, stop)).to_bytes(8, "little")
        ranges.append(SeenRange(reply.dataset_id, reply.epoch, first.shard.shard_id, start, stop, seen))
        wanted -= stop - start
        first.position = stop
        if stop == first.shard.num_samples:
            opened.popleft()
    return ranges
