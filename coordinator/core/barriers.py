"""Barriers and commit points: who has arrived, what their values come to, and when all are released."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strata_zmq.domain.barrier import Barrier, BarrierKey, Terms, quantile
from strata_zmq.domain.reduce import reduce
from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    StaleGenerationError,
    StrataError,
)
from strata_zmq.protocol.messages import Arrive, Lag, Released

from .commits import check_due, check_ranges, check_whole
from .entries import Outcome
from .records import BarrierReleased, MemberRecord
from .rendezvous import Rendezvous
from .world import Parked, Session, Worker, World

__all__ = ["OPEN_MAX", "Barriers"]

OPEN_MAX = 1024
_SKEWS_MAX = 4096
_NAMES_MAX = 32
_ENDED_MAX = 4096


@dataclass(slots=True)
class _Arrival:
    parked: Parked
    request: Arrive
    members: tuple[MemberRecord, ...]
    """The membership that it came into."""


class Barriers:
    """The open barriers of the current generation.

    One that breaks ends with the generation. One that re-forms becomes a barrier of the next generation, with the
    arrivals of those who are still there; who arrives at it may not have heard of that generation yet.
    """

    def __init__(
        self,
        world: World,
        rendezvous: Rendezvous,
        ended: Callable[[Barrier[Any], Lag | None], None] = lambda barrier, lag: None,
    ) -> None:
        """`ended` is told of each barrier at its end, with its lag if it was released."""
        self._world = world
        self._rendezvous = rendezvous
        self._on_end = ended
        self.open: dict[BarrierKey, Barrier[_Arrival]] = {}
        self.skews_s: deque[float] = deque(maxlen=_SKEWS_MAX)
        """First arrival to release, in seconds, of the latest barriers."""
        self._ended: OrderedDict[tuple[bytes, int, BarrierKey], StrataError] = OrderedDict()
        """The latest arrivals whose wait ended without a release. A copy of one of them is no new arrival."""

    def arrive(self, session: Session, request: Arrive) -> None:
        """Note an arrival; release everybody if it was the last."""
        world, history = self._world, self._world.history
        asked = BarrierKey(request.generation, request.name, request.step)
        outcome = history.outcomes.get(asked)
        if outcome is not None and session.worker is not None and outcome.answers(session.worker.worker_id, asked):
            # Whoever asks again has missed the reply: a lost reply costs latency, never correctness. That holds for one
            # whose lease has ended since, too: it must not roll back what history has.
            world.reply(session, request.seq, Released, **self._released(asked, outcome))
            return
        ended = self._ended.get((session.connection, request.seq, asked)) if self._ended else None
        if ended is not None:
            world.fail(session, request.seq, ended)
            return
        worker = self._admit(session, request)
        key = asked
        if request.generation != history.generation:
            key = BarrierKey(history.generation, request.name, request.step)
            if key in history.outcomes:
                world.reply(session, request.seq, Released, **self._released(key, history.outcomes[key]))
                return
        barrier = self._barrier(key, request)
        check_ranges(request, worker.worker_id, history)
        self.open[key] = barrier
        before = barrier.arrivals.get(worker.worker_id)
        parked = world.park(session, request.seq, request.timeout_s, before.parked if before else None)
        members = before.members if before else history.members
        barrier.arrive(worker.worker_id, _Arrival(parked, request, members), world.now)
        self._settle(barrier)

    def change(self) -> None:
        """The membership changed: barriers break, or re-form, and tell who waits."""
        waiting, self.open = self.open, {}
        for barrier in waiting.values():
            if barrier.terms.reform:
                self._reform(barrier)
            else:
                self._break(barrier, self._broken(barrier))

    def break_all(self) -> None:
        """Break all barriers, whatever they say: history went back, and what they are of is void."""
        for barrier in self.open.values():
            self._break(barrier, self._broken(barrier))
        self.open.clear()

    def give_up_all(self, error: StrataError) -> None:
        """End every wait with this error: nobody will come."""
        for barrier in self.open.values():
            self._break(barrier, error)
        self.open.clear()

    def void_commits(self) -> None:
        """Break the commit point that is open while the epoch rises: its ranges are of the epoch before."""
        for key, barrier in list(self.open.items()):
            if barrier.terms.commit:
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
                f"missing: {self._rendezvous.describe_missing(missing)}",
                missing=missing,
            )
            if len(late) == len(barrier.arrivals):
                self._on_end(barrier, None)
            for worker in late:
                self._dismiss(barrier, worker, error)
            if not barrier.arrivals:
                del self.open[key]

    # ---- arrivals

    def _admit(self, session: Session, request: Arrive) -> Worker:
        """Return the caller if it may arrive: a member of the present generation that names it, or, at a barrier that
        re-forms, one that the present has come from by joins and leaves only.
        """
        history = self._world.history
        worker = self._rendezvous.caller(session)
        current = history.formed and request.generation == history.generation
        if (
            current or (request.on_change == "reform" and self._continues(request.generation))
        ) and worker.worker_id in history.ranks:
            return worker
        # It says why not.
        return self._rendezvous.member(session, request.generation, f"barrier {request.name!r} step {request.step}")

    def _continues(self, generation: int) -> bool:
        history = self._world.history
        if generation == history.generation:
            return generation > 0
        changes = {change.generation for change in history.rebalances}
        return 0 < generation < history.generation and changes.issuperset(range(generation + 1, history.generation + 1))

    def _barrier(self, key: BarrierKey, request: Arrive) -> Barrier[_Arrival]:
        """Return the barrier that this arrival belongs to; a new one is not open yet."""
        history = self._world.history
        world_size = len(history.members)
        expected = request.expected or world_size
        if expected > world_size and history.formed:
            raise InvalidArgumentError(
                f"barrier {key.name!r}: expected is {expected}, the world size is {world_size}: it would never be "
                "released"
            )
        if request.commit:
            check_whole(request, world_size)
        reform = request.on_change == "reform"
        values = tuple([(value.name, value.op) for value in request.values])
        if len(dict(values)) != len(values):
            raise InvalidArgumentError(
                f"barrier {key.name!r}: values carries one name twice: {', '.join(name for name, _ in values)}"
            )
        # Only a barrier that re-forms can tell "all" from as many as there are now.
        terms = Terms(request.expected if reform else expected, request.commit, reform, values)
        barrier = self.open.get(key)
        if barrier is None:
            # Of commit points only one is open; barriers that somebody has given up must not hold up history.
            if len(self.open) >= OPEN_MAX and not request.commit:
                raise ResourceExhaustedError(f"{OPEN_MAX} barriers are open, which is the limit: wait for one first")
            if request.commit:
                check_due(request, history, [other for other, opened in self.open.items() if opened.terms.commit])
            return Barrier(key, terms, expected, self._world.now)
        if barrier.terms != terms:
            raise InvalidArgumentError(
                f"barrier {key.name!r} step {key.step} is open with {barrier.terms}; this arrival says {terms}: all "
                "ranks must say the same"
            )
        return barrier

    # ---- endings

    def _settle(self, barrier: Barrier[_Arrival]) -> None:
        """Release a barrier that is complete. While a broken generation waits for its quorum, everybody waits."""
        if barrier.complete and self._world.history.formed:
            self._release(barrier)

    def _reform(self, barrier: Barrier[_Arrival]) -> None:
        history = self._world.history
        for worker in [worker for worker in barrier.arrivals if worker not in history.ranks]:
            self._dismiss(barrier, worker, self._broken(barrier))
        if not barrier.arrivals:
            return
        world_size = len(history.members)
        barrier.key = barrier.key._replace(generation=history.generation)
        barrier.expected = barrier.terms.expected or world_size
        if history.formed and barrier.expected > world_size:
            self._break(
                barrier, self._broken(barrier, f": it takes {barrier.expected}, the world size is {world_size}")
            )
            return
        self._world.counters["barriers_reformed"] += 1
        self.open[barrier.key] = barrier
        self._settle(barrier)

    def _release(self, barrier: Barrier[_Arrival]) -> None:
        world = self._world
        key, arrivals = barrier.key, barrier.arrivals
        del self.open[key]
        joined, left = self._difference(barrier)
        world.record(
            BarrierReleased(
                generation=key.generation,
                name=key.name,
                step=key.step,
                participants=list(arrivals),
                commit=barrier.terms.commit,
                ranges={worker: one.request.ranges for worker, one in arrivals.items() if one.request.ranges},
                reduced={
                    name: reduce(op, [one.request.values[place].value for one in arrivals.values()])
                    for place, (name, op) in enumerate(barrier.terms.values)
                },
                asked={
                    worker: one.request.generation
                    for worker, one in arrivals.items()
                    if one.request.generation != key.generation
                },
                joined=joined,
                left=left,
            )
        )
        self.skews_s.append(world.now - barrier.opened_at)
        lags_s = barrier.lags_s()
        lag = Lag(*[quantile(lags_s, percent) * 1000 for percent in (50, 90, 99, 100)])
        self._on_end(barrier, lag)
        outcome = world.history.outcomes[key]
        fields = self._released(key, outcome)
        if len(arrivals) > _NAMES_MAX and not outcome.asked:
            # A thousand names in each of a thousand replies are 12 MB, and most of what such a barrier would cost.
            ranks = world.history.ranks
            fields |= {"participants": [], "ranks": [ranks[worker] for worker in arrivals]}
        world.reply_all(
            [(one.parked.session.connection, one.parked.session.number, one.parked.seq) for one in arrivals.values()],
            Released,
            **fields,
            lag=lag,
            slowest=barrier.slowest(),
        )

    def _released(self, key: BarrierKey, outcome: Outcome) -> dict[str, Any]:
        return {
            "name": key.name,
            "step": key.step,
            "participants": outcome.participants,
            "commit_index": outcome.commit_index,
            "remaining": {name: dataset.remaining for name, dataset in self._world.history.datasets.items()},
            "reduced": outcome.reduced,
            "joined": outcome.joined,
            "left": outcome.left,
            "lineage": outcome.lineage,
        }

    def _difference(self, barrier: Barrier[_Arrival]) -> tuple[list[str], list[str]]:
        """Return who came and who went since the first of those who wait arrived; another life is both."""
        first, now = next(iter(barrier.arrivals.values())).members, self._world.history.members
        if first is now:
            return [], []
        before, after = ({member.worker_id: member.incarnation for member in each} for each in (first, now))
        return (
            [worker for worker, life in after.items() if before.get(worker) != life],
            [worker for worker, life in before.items() if after.get(worker) != life],
        )

    def _broken(self, barrier: Barrier[_Arrival], why: str = "") -> StrataError:
        key = barrier.key
        return self._world.membership_error(f"barrier {key.name!r} step {key.step} is broken{why}", broken=True)

    def _break(self, barrier: Barrier[_Arrival], error: StrataError) -> None:
        self._on_end(barrier, None)
        self._world.show("barrier_broken", str(error))
        for worker in list(barrier.arrivals):
            self._dismiss(barrier, worker, error)
        self._world.counters["barriers_broken"] += 1

    def _dismiss(self, barrier: Barrier[_Arrival], worker_id: str, error: StrataError) -> None:
        """End one worker's wait with an error."""
        arrival = barrier.arrivals[worker_id]
        session, seq = arrival.parked.session, arrival.parked.seq
        barrier.withdraw(worker_id)
        asked = barrier.key._replace(generation=arrival.request.generation)
        self._ended[session.connection, seq, asked] = error
        while len(self._ended) > _ENDED_MAX:
            self._ended.popitem(last=False)
        self._world.fail(session, seq, error)
