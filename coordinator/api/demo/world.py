"""The simulated job: what one seed makes of it, a quarter of a second at a time. It is told the time.

Its workers take a step a second and meet at a barrier behind it; a checkpoint is saved each 30 s; now and then
something goes wrong (`incidents`), and everything that a core would tell of it is told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import ceil, exp
from random import Random
from typing import Any

from strata_zmq import __version__
from strata_zmq.protocol.fields import Lag
from strata_zmq.protocol.sight import Changes
from strata_zmq.protocol.sight_rows import (
    BARRIER_BOUNDS_S,
    CHECKPOINT_BOUNDS_S,
    REQUEST_BOUNDS_S,
    EventSight,
    HangSight,
    HistogramSight,
    JobSight,
    OpenBarrierSight,
    ReleaseSight,
    StacksSight,
)

from .data import Data
from .fleet import LEASE_S, Member
from .incidents import Hold, Incident, incident_at, incident_held
from .saves import Saves, Turn
from .told import Told
from .words import SETTINGS, STACKS

__all__ = ["Say", "World"]

Say = Callable[[float, str, str, str], None]
"""Takes a line of a log: Unix seconds, level, source, text."""

_TICKS = 4
_HANG_S = 8.0
_LOST_BACK_S, _EVICTED_S, _HUNG_BACK_S = 14, 24, 34
_CHECKPOINT_EVERY_S = 30
_SMALL = 16
"""Fleets of up to so many tell of themselves each second and have a log of their own; larger ones each five seconds."""
_NAMED_MAX = 20
_BOUNDS = {
    "request": REQUEST_BOUNDS_S,
    "assignment": REQUEST_BOUNDS_S,
    "barrier": BARRIER_BOUNDS_S,
    "checkpoint": CHECKPOINT_BOUNDS_S,
}


class World:
    """One job from its beginning at `start`, a Unix time in seconds."""

    def __init__(
        self, *, workers: int, seed: int, start: float, hold: Hold | None = None, hold_from_s: int = 0, say: Say
    ) -> None:
        self._random = Random(seed)  # noqa: S311 - nothing is secret
        self._start, self._hold, self._hold_from_s = start, hold, hold_from_s
        self._say = say
        self._told = Told()
        self.now = start
        self._tick = 0
        self._second = 0
        self._beat_ticks = _TICKS * (1 if workers <= _SMALL else 5)
        self.members = [Member(place, workers, self._random, start) for place in range(workers)]
        self._data = Data(workers, self._random, start)
        self.saves = Saves(self._random)
        self._generation, self._step = 1, 0
        self._events = self._releases = self._released = self._requests = 0
        self._open: OpenBarrierSight | None = None
        self._awaited: Member | None = None
        """Whom the others wait for: it is dead, or hangs."""
        self._dead = self._failing = self._staging = self._regrouping = False
        self._slow: Member | None = None
        self._next_checkpoint = _CHECKPOINT_EVERY_S
        self._histograms: dict[tuple[str, str], HistogramSight] = {}
        for row in SETTINGS:
            self._told.row("settings", row)
        self._event("term_started", "term 1 begins with an empty journal")
        for member in self.members:
            self._event("worker_joined", f"{member.worker_id} joins", worker_id=member.worker_id)
            self._told.row("workers", member.row())
        self._regroup([], [])
        self._tell_second()

    def advance(self, now: float) -> Changes:
        """Go on up to `now`; returns what has changed."""
        while self._start + (self._tick + 1) / _TICKS <= now:
            self._tick += 1
            self.now = self._start + self._tick / _TICKS
            if self._tick % _TICKS == 0:
                self._go_on()
            elif self._tick % _TICKS == _TICKS - 1 and self._awaited is None:
                ranked = self._ranked()
                self._arrive(ranked, [one.worker_id for one in ranked[-ceil(len(ranked) / 3) :]])
            self._hear()
        return self._told.take()

    # ---- a second ----------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._hold is None:
            incident = incident_at(self._second)
        else:
            incident = incident_held(self._second, self._hold, self._hold_from_s)
        self._failing = incident is not None and incident.trouble == "abort"
        if len(self.members) > 1:
            self._play(incident)
        ranked = self._ranked()
        if self._awaited is not None:
            self._wait(self._awaited, ranked)
        elif not self._regrouping:
            self._train(ranked)
        self._regrouping = False
        self._save(ranked)
        if len(self.members) <= _SMALL and self._second % 10 == 0:
            self._talk(ranked)
        self._tell_second()
        self._second += 1

    def _train(self, ranked: Sequence[Member]) -> None:
        """Let all ranks take a step and meet at its barrier."""
        samples, ended = self._data.commit(len(ranked))
        staged = 0.55 if self._staging else 0.0
        # Now and then one waits long for its data, and the others for it.
        stalled = self._random.choice(ranked) if self._random.random() < 0.06 else None
        self._step += 1
        spent = []
        for member in ranked:
            data = self._random.uniform(0.5, 0.6) if member is stalled else self._random.uniform(0.03, 0.09)
            training = 0.4 if staged or stalled else 0.36 if self._slow else 0.8 + member.slowness
            training += self._random.uniform(-0.03, 0.03) + (0.5 if member is self._slow else 0.0)
            spent.append((data, training))
            member.take(samples, data)
        arrived = [data + training for data, training in spent]
        first, last = min(arrived), max(arrived)
        for member, (data, training) in zip(ranked, spent, strict=True):
            barrier = min(last - data - training + 0.008, max(0.0, 1.0 - data - training - staged))
            member.spend(training=training, data=data, barrier=barrier, checkpoint=staged)
            member.state = "CHECKPOINTING" if staged else "LOADING_DATA" if member is stalled else "TRAINING"
            member.step, member.epoch, member.moved_at = self._step, self._data.epoch, self.now
            member.progress += 1
        self._staging = False
        late = sorted((one - first, member.worker_id) for one, member in zip(arrived, ranked, strict=True))
        next(one for one in ranked if one.worker_id == late[-1][1]).last_at_barriers += 1
        self._requests += 3 * len(ranked)
        self._arrive(ranked, [])
        self._end_barrier(late)
        if ended:
            epoch = self._data.epoch
            for row in self._data.end_epoch():
                self._told.row("certificates", row)
            self._event("epoch", f"epoch {epoch} has ended: both datasets were seen whole; epoch {epoch + 1} begins")

    def _wait(self, awaited: Member, ranked: Sequence[Member]) -> None:
        """Let a second pass in which nobody gets any further."""
        for member in ranked:
            if member is not awaited:
                member.spend(barrier=1.0)
            elif not self._dead:
                member.spend(data=1.0)
        self._arrive(ranked, [awaited.worker_id])
        self._requests += len(ranked)

    def _save(self, ranked: Sequence[Member]) -> None:
        names = [member.worker_id for member in ranked]
        if self._awaited is None:
            self._turned(self.saves.second(self.now, names))
        due = self._second >= self._next_checkpoint
        if due and self._awaited is None and self.saves.writing is None:
            self._next_checkpoint = self._second + _CHECKPOINT_EVERY_S
            loss = 0.35 + 2 * exp(-self._step / 900)
            turn = self.saves.begin(self.now, self._step, self._data.epoch, names, loss=loss, failing=self._failing)
            self._staging = turn is not None
            self._turned(turn)

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def _play(self, incident: Incident | None) -> None:
        self._slow = None
        if incident is None:
            return
        victim = self.members[(incident.number * 7 + 1) % len(self.members)]
        if incident.trouble == "slow":
            self._slow = victim
        elif incident.trouble == "lost":
            self._play_lost(victim, incident.age)
        elif incident.trouble == "hang":
            self._play_hang(victim, incident.age)

    def _play_lost(self, victim: Member, age: int) -> None:
        if age == 0:
            self._awaited, self._dead = victim, True
        elif age == int(LEASE_S):
            self._lose(victim, f"no message within its lease of {LEASE_S:g} s")
        elif age == _LOST_BACK_S:
            self._come_back(victim)

    def _play_hang(self, victim: Member, age: int) -> None:
        name = victim.worker_id
        if age == 0:
            self._awaited, self._dead = victim, False
            victim.state = "LOADING_DATA"
        elif age == int(_HANG_S):
            self._find_hang(victim)
        elif age == int(_HANG_S) + 1:
            row = StacksSight(worker_id=name, incarnation=victim.incarnation, at=self.now, text=STACKS)
            self._told.row("stacks", row)
        elif age == _EVICTED_S:
            self._told.gone("hangs", name)
            text = f"{name} is taken out, so that the others go on"
            self._event("hang_evicted", text, level="error", worker_id=name)
            self._lose(victim, f"it hung for {_EVICTED_S} s while others waited")
        elif age == _HUNG_BACK_S:
            self._come_back(victim)

    def _find_hang(self, victim: Member) -> None:
        waiters = [one.worker_id for one in self._ranked() if one is not victim]
        row = HangSight(
            worker_id=victim.worker_id,
            rank=victim.rank,
            where=f"barrier step of step {self._step + 1}",
            since=victim.moved_at,
            found_at=self.now,
            waiter_count=len(waiters),
            waiters=waiters[:_NAMED_MAX],
        )
        self._told.row("hangs", row)
        text = f"{victim.worker_id} has not moved for {_HANG_S:g} s, and {len(waiters)} wait for it"
        self._event("hang", text, level="error", worker_id=victim.worker_id)

    def _lose(self, victim: Member, reason: str) -> None:
        self._awaited, self._dead = None, False
        self._told.gone("workers", victim.worker_id)
        self._told.row("lost", victim.lost_row(reason, self.now))
        text = f"{victim.worker_id} is given up: {reason}"
        self._event("worker_lost", text, level="error", worker_id=victim.worker_id)
        if self._open is not None:
            text = f"barrier {self._open.name} of step {self._open.step} breaks: {victim.worker_id} has not come"
            self._event("barrier_broken", text, level="warning", subject=self._open.barrier_id)
            self._end_barrier([])
        text = f"generation {self._generation} breaks: {victim.worker_id} has left it"
        self._event("generation_broken", text, level="warning")
        self._turned(self.saves.abort(f"generation {self._generation} has broken"))
        self._regroup([], [victim.worker_id])

    def _come_back(self, victim: Member) -> None:
        victim.restart(self.now)
        self._told.gone("lost", victim.worker_id)
        self._event("worker_joined", f"{victim.worker_id} is back as a new process", worker_id=victim.worker_id)
        self._regroup([victim.worker_id], [])
        text = f"{victim.worker_id} continues from the last commit point, step {self._step}"
        self._event("restored", text, worker_id=victim.worker_id)

    def _regroup(self, joined: Sequence[str], left: Sequence[str]) -> None:
        self._regrouping = True
        if joined or left:
            self._generation += 1
        here = [member for member in self.members if member.lost_at is None]
        for rank, member in enumerate(here):
            member.rank = rank
        names = [member.worker_id for member in here]
        moved = self._data.assign(names, self._generation, self.now, joined, left)
        if moved is not None:
            self._told.row("rebalances", moved)
        for member in here:
            member.shards = self._data.shards_of(member.worker_id)
            self._tell(member)
        self._measured("assignment", "", self._random.uniform(0.0012, 0.0028))
        self._event("generation", f"generation {self._generation} has {len(here)} members")

    # ---- barriers and checkpoints ------------------------------------------------------------------------------------

    def _arrive(self, ranked: Sequence[Member], missing: Sequence[str]) -> None:
        """Open the barrier of the step that is under way, or tell who has not come to it."""
        known = self._open
        step = self._step if not missing else self._step + 1
        self._open = OpenBarrierSight(
            barrier_id=known.barrier_id if known else f"{self._generation}/step/{step}",
            name="step",
            step=known.step if known else step,
            generation=known.generation if known else self._generation,
            commit=True,
            arrived=len(ranked) - len(missing),
            total=len(ranked),
            opened_at=known.opened_at if known else self.now,
            missing=list(missing[:_NAMED_MAX]),
        )
        self._told.row("barriers", self._open)

    def _end_barrier(self, late: Sequence[tuple[float, str]]) -> None:
        """End the open barrier: released, with how late each came, or broken, with nobody."""
        row = self._open
        if row is None:
            return
        self._open = None
        self._releases += 1
        self._released += bool(late)
        wait = late[-1][0] + 0.0004 if late else self.now - row.opened_at
        self._told.gone("barriers", row.barrier_id)
        self._told.row(
            "releases",
            ReleaseSight(
                number=self._releases,
                barrier_id=row.barrier_id,
                name=row.name,
                step=row.step,
                generation=row.generation,
                commit=row.commit,
                released=bool(late),
                arrived=len(late) if late else row.arrived,
                total=row.total,
                opened_at=row.opened_at,
                ended_at=self.now,
                wait_s=wait,
                lag=_lag([one for one, _ in late]) if late else None,
                slowest=[(name, round(one, 5)) for one, name in reversed(late[-4:])],
            ),
        )
        if late:
            self._measured("barrier", "", wait)

    def _turned(self, turn: Turn | None) -> None:
        if turn is None:
            return
        row = turn.row
        for name in turn.dropped:
            self._told.gone("checkpoints", name)
        self._told.row("checkpoints", row)
        subject = row.checkpoint_id
        if turn.kind == "began":
            self._event("checkpoint_began", f"{subject} of {row.world_size} ranks begins", subject=subject)
        elif turn.kind == "aborted":
            self._event("checkpoint_aborted", f"{subject} is given up: {row.reason}", level="warning", subject=subject)
        elif turn.kind == "durable":
            took = (row.durable_at or 0.0) - row.created_at
            text = f"{subject} is durable: {(row.written_bytes or 0) / 1e6:.0f} MB in {took:.2f} s"
            self._event("checkpoint_durable", text, subject=subject)
            self._measured("checkpoint", "total", took)
            self._say(self.now, "info", "writer-0", f"pack 0 of {subject} is closed")

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _ranked(self) -> list[Member]:
        return [member for member in self.members if member.lost_at is None]

    def _hear(self) -> None:
        """Take heartbeats: every worker that lives tells of itself once in `beat_ticks`."""
        phase = self._tick % self._beat_ticks
        for member in self.members:
            if member.beat % self._beat_ticks != phase or member.lost_at is not None:
                continue
            if member is self._awaited and self._dead:
                continue
            self._requests += 1
            member.heard_at = self.now
            self._tell(member)

    def _tell(self, member: Member) -> None:
        self._told.row("workers", member.row())

    def _tell_second(self) -> None:
        for row in self._data.rows():
            self._told.row("datasets", row)
        self._measured("request", "heartbeat", 0.0002)
        self._measured("request", "barrier", self._random.uniform(0.0002, 0.002))
        ranked = len(self._ranked())
        self._told.row(
            "job",
            JobSight(
                job="demo",
                term=1,
                generation=self._generation,
                formed=True,
                epoch=self._data.epoch,
                commit_index=self._released,
                started_at=self._start,
                version=__version__,
                lease_s=LEASE_S,
                heartbeat_s=self._beat_ticks / _TICKS,
                hang_s=_HANG_S,
                world_size=ranked,
                need=ranked,
                have=ranked,
                requests=self._requests,
                releases=self._releases,
                committed_samples=self._data.committed_samples,
                checkpoint_bytes=self.saves.written_bytes,
                moved_shards=self._data.moved_shards,
            ),
        )

    def _talk(self, ranked: Sequence[Member]) -> None:
        loss = 0.35 + 2 * exp(-self._step / 900)
        for member in ranked:
            told = loss * (1 + self._random.uniform(-0.02, 0.02))
            self._say(self.now, "info", member.worker_id, f"step {self._step}: loss {told:.4f}")
        self._say(self.now, "debug", "coordinator", f"{len(ranked)} leases renewed")
        if self._slow is not None:
            text = "another process takes half of this host's cores"
            self._say(self.now, "warning", self._slow.worker_id, text)

    def _event(self, kind: str, text: str, *, level: str = "info", subject: str = "", worker_id: str = "") -> None:
        self._events += 1
        row = EventSight(
            number=self._events, at=self.now, kind=kind, level=level, text=text, subject=subject, worker_id=worker_id
        )
        self._told.row("events", row)

    def _measured(self, name: str, label: str, seconds: float) -> None:
        bounds = _BOUNDS[name]
        known = self._histograms.get((name, label))
        buckets = list(known.buckets) if known else [0] * (len(bounds) + 1)
        buckets[bisect_left(bounds, seconds)] += 1
        row = HistogramSight(
            name=name,
            label=label,
            count=(known.count if known else 0) + 1,
            sum_s=(known.sum_s if known else 0.0) + seconds,
            buckets=buckets,
        )
        self._histograms[name, label] = row
        self._told.row("histograms", row)


def _lag(rising: Sequence[float]) -> Lag:
    """Return the quantiles, by nearest rank, in milliseconds."""

    def at(share: float) -> Any:
        return 1000 * rising[max(0, ceil(share * len(rising)) - 1)]

    return Lag(at(0.5), at(0.9), at(0.99), 1000 * rising[-1])
