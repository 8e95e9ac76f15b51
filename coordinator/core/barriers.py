"""Barriers and commit points: who has arrived, what their cursors say, and when all are released."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from strata_zmq.domain.barrier import Barrier, BarrierKey
from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StaleGenerationError,
    StrataError,
)
from strata_zmq.protocol.messages import Arrive, Released, SeenRange

from .history import Outcome
from .records import BarrierReleased
from .rendezvous import Rendezvous
from .world import Parked, Session, World

__all__ = ["OPEN_MAX", "Barriers"]

OPEN_MAX = 1024
_SKEWS_MAX = 4096


@dataclass(slots=True)
class _Arrival:
    parked: Parked
    ranges: list[SeenRange]


class Barriers:
    """The open barriers of the current generation."""

    def __init__(self, world: World, rendezvous: Rendezvous) -> None:
        self._world = world
        self._rendezvous = rendezvous
        self.open: dict[BarrierKey, Barrier[_Arrival]] = {}
        self.skews_s: deque[float] = deque(maxlen=_SKEWS_MAX)
        """First arrival to release, in seconds, of the latest barriers."""

    def arrive(self, session: Session, request: Arrive) -> None:
        """Note an arrival; release everybody if it was the last."""
        world, history = self._world, self._world.history
        key = BarrierKey(request.generation, request.name, request.step)
        outcome = history.outcomes.get(key)
        if outcome is not None and session.worker is not None:
            # Whoever asks again has missed the reply: a lost reply costs latency, never correctness. That holds for one
            # whose lease has ended since, too: it must not roll back what history has.
            world.reply(session, request.seq, Released, **self._released(key, outcome))
            return
        worker = self._rendezvous.caller(session)
        what = f"barrier {request.name!r} step {request.step}"
        self._rendezvous.member(session, request.generation, what)
        barrier = self._barrier(key, request)
        self._check_ranges(worker.worker_id, request)
        self.open[key] = barrier
        before = barrier.arrivals.get(worker.worker_id)
        parked = world.park(session, request.seq, request.timeout_s, before.parked if before else None)
        arrival = _Arrival(parked, request.ranges)
        if barrier.arrive(worker.worker_id, arrival):
            self._release(barrier)

    def break_all(self) -> None:
        """Tell everybody who waits that the membership changed."""
        for barrier in self.open.values():
            error = self._world.membership_error(
                f"barrier {barrier.key.name!r} step {barrier.key.step} is broken", broken=True
            )
            self._break(barrier, error)
        self.open.clear()

    def void_commits(self) -> None:
        """Break the commit point that is open while the epoch rises: its ranges are of the epoch before."""
        for key, barrier in list(self.open.items()):
            if barrier.commit:
                del self.open[key]
                epoch = self._world.history.epoch
                self._break(
                    barrier, StaleGenerationError(f"commit point {key.step}: the epoch rose to {epoch}, nothing counts")
                )

    def tick(self) -> None:
        """End the waits that ran out, and name who is missing."""
        now = self._world.now
        members = self._world.history.member_ids
        for key, barrier in list(self.open.items()):
            late = [worker for worker, arrival in barrier.arrivals.items() if arrival.parked.deadline <= now]
            if not late:
                continue
            missing = barrier.missing(members)
            error = DeadlineExceededError(
                f"barrier {key.name!r} step {key.step}: {len(barrier.arrivals)} of {barrier.expected} arrived, "
                f"missing: {', '.join(missing[:20])}{', ...' if len(missing) > 20 else ''}",
                missing=missing,
            )
            for worker in late:
                parked = barrier.arrivals[worker].parked
                self._world.fail(parked.session, parked.seq, error)
                barrier.withdraw(worker)
            if not barrier.arrivals:
                del self.open[key]

    def _break(self, barrier: Barrier[_Arrival], error: StrataError) -> None:
        for arrival in barrier.arrivals.values():
            self._world.fail(arrival.parked.session, arrival.parked.seq, error)
        self._world.counters["barriers_broken"] += 1

    def _barrier(self, key: BarrierKey, request: Arrive) -> Barrier[_Arrival]:
        """Return the barrier that this arrival belongs to; a new one is not open yet."""
        world_size = len(self._world.history.members)
        expected = request.expected or world_size
        if expected > world_size:
            raise InvalidArgumentError(
                f"barrier {key.name!r}: expected is {expected}, the world size is {world_size}: it would never be "
                "released"
            )
        if request.commit and expected != world_size:
            raise InvalidArgumentError(
                f"barrier {key.name!r}: a commit point takes the whole generation ({world_size}), not {expected}: "
                "expected=0"
            )
        barrier = self.open.get(key)
        if barrier is None:
            self._check_opening(key, request)
            barrier = Barrier(key, expected, request.commit, self._world.now)
        if barrier.expected != expected or barrier.commit != request.commit:
            raise InvalidArgumentError(
                f"barrier {key.name!r} step {key.step} is open with expected={barrier.expected}, "
                f"commit={barrier.commit}; "
                f"this arrival says expected={expected}, commit={request.commit}: all ranks must say the same"
            )
        return barrier

    def _check_opening(self, key: BarrierKey, request: Arrive) -> None:
        if len(self.open) >= OPEN_MAX:
            raise ResourceExhaustedError(f"{OPEN_MAX} barriers are open, which is the limit: wait for one first")
        if not request.commit:
            return
        due = self._world.history.commit_index + 1
        if request.step != due:
            raise StaleGenerationError(
                f"commit point {request.step} is not due: committed history stands at {due - 1}; await the "
                "generation again"
            )
        for other, barrier in self.open.items():
            if barrier.commit:
                raise InvalidArgumentError(
                    f"barrier {key.name!r}: commit point {due} is open under the name {other.name!r}: all ranks must "
                    "say the same"
                )

    def _check_ranges(self, worker_id: str, request: Arrive) -> None:
        if request.ranges and not request.commit:
            raise InvalidArgumentError(f"barrier {request.name!r}: ranges need commit=true")
        history = self._world.history
        for seen in request.ranges:
            dataset = history.datasets.get(seen.dataset_id)
            if dataset is None:
                raise NotFoundError(f"dataset_id {seen.dataset_id!r} is not registered: register it first")
            if seen.epoch != history.epoch:
                raise StaleGenerationError(f"range of epoch {seen.epoch}: the current epoch is {history.epoch}")
            dataset.ledger.check(seen.shard, seen.start, seen.stop, int.from_bytes(seen.checksum, "little"), worker_id)
            if dataset.current.owner_of(seen.shard) != worker_id:
                raise StaleGenerationError(
                    f"shard {seen.shard} of {seen.dataset_id!r} belongs to {dataset.current.owner_of(seen.shard)!r}, "
                    f"not to {worker_id!r}: ask for the shards again"
                )
        if len({(seen.dataset_id, seen.shard) for seen in request.ranges}) != len(request.ranges):
            raise InvalidArgumentError("ranges: at most one per shard and commit point; join neighbouring ranges")

    def _release(self, barrier: Barrier[_Arrival]) -> None:
        world = self._world
        key = barrier.key
        del self.open[key]
        world.record(
            BarrierReleased(
                generation=key.generation,
                name=key.name,
                step=key.step,
                participants=list(barrier.arrivals),
                commit=barrier.commit,
                ranges={worker: arrival.ranges for worker, arrival in barrier.arrivals.items() if arrival.ranges},
            )
        )
        self.skews_s.append(world.now - barrier.opened_at)
        recipients = [
            (arrival.parked.session.connection, arrival.parked.session.number, arrival.parked.seq)
            for arrival in barrier.arrivals.values()
        ]
        world.reply_all(recipients, Released, **self._released(key, world.history.outcomes[key]))

    def _released(self, key: BarrierKey, outcome: Outcome) -> dict[str, Any]:
        return {
            "name": key.name,
            "step": key.step,
            "participants": outcome.participants,
            "commit_index": outcome.commit_index,
            "remaining": {name: dataset.remaining for name, dataset in self._world.history.datasets.items()},
        }
