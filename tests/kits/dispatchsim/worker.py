"""A simulated worker: it runs what it is given, says what happens, and survives, or does not, what is done to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strata_zmq.domain.task import Cause, Kind, Outcome, OutcomeReport, TaskLimits
from strata_zmq.functions.dispatch.events import Attempt, Held, Mode

from .functions import fate

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["Given", "Turn", "Worker"]

_RESEND_S = 1.0
_HEARTBEAT_S = 0.4


@dataclass(frozen=True, slots=True)
class Given:
    """One attempt, as it came over the wire."""

    task_id: bytes
    attempt: int
    function: bytes
    limits: TaskLimits
    asks: bool

    @property
    def key(self) -> Attempt:
        return self.task_id, self.attempt


@dataclass(slots=True)
class Turn:
    """What a worker says at once. A turn with outcomes or returned attempts is said again until it is settled."""

    number: int
    outcomes: list[Outcome] = field(default_factory=list)
    started: list[Attempt] = field(default_factory=list)
    returned: list[Attempt] = field(default_factory=list)
    want: int = 0
    received: int = 0
    asks: list[Attempt] = field(default_factory=list)


class Worker:
    """One process of a worker; a killed one never comes back, its place is taken by another."""

    def __init__(
        self, sim: Simulation, number: int, slots: int, mode: Mode, labels: dict[str, int], ahead: int
    ) -> None:
        self.sim = sim
        self.number = number
        self.worker_id = f"w{number}"
        self.slots = slots
        self.mode: Mode = mode
        self.labels = labels
        self.ahead = ahead
        self.python = "3.11"
        self.alive = True
        self.retiring = False
        self.paused = False
        self._missed: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.connection = 0
        self.session = 0
        self.enlisting = 0
        self.received = 0
        self.turn_number = 0
        self.heard_at = sim.time.now
        self.waiting: list[Given] = []
        self.granted: set[Attempt] = set()
        """What it may begin with, of that which asks."""
        self.running: dict[Attempt, tuple[Given, float]] = {}
        self.unsettled: list[Turn] = []
        self.ran: dict[Attempt, int] = {}
        self.enlist()
        self._beat()

    # ---- what the world does to it -----------------------------------------------------------------------------------

    def call(self, method: Callable[..., None], *args: Any) -> None:
        """Whatever reaches a stopped process waits until it goes on; a dead one hears nothing."""
        if not self.alive:
            return
        if self.paused:
            self._missed.append((method, args))
        else:
            method(*args)

    def later(self, seconds: float, method: Callable[..., None], *args: Any) -> None:
        self.sim.time.after(seconds, self.call, method, *args)

    def pause(self, seconds: float) -> None:
        self.paused = True
        self.sim.time.after(seconds, self.go_on)

    def go_on(self) -> None:
        self.paused = False
        missed, self._missed = self._missed, []
        for method, args in missed:
            self.call(method, *args)

    def kill(self) -> None:
        self.alive = False

    def retire(self) -> None:
        """Take nothing new, give back what waits, go when everything is done."""
        self.retiring = True
        self._say("retire")
        self._speak(returned=self._withdraw(len(self.waiting)))

    # ---- its conversation --------------------------------------------------------------------------------------------

    def enlist(self) -> None:
        """Begin on a new connection, and say what it has."""
        self.connection += 1
        self.enlisting += 1
        self.session = 0
        done: dict[Attempt, None] = {
            (outcome.task_id, outcome.attempt): None for turn in self.unsettled for outcome in turn.outcomes
        }
        held: list[Held] = [(*given.key, "waiting") for given in self.waiting]
        held += [(*key, "running") for key in self.running]
        held += [(*key, "done") for key in done]
        self._say("enlist", self.enlisting, tuple(held))
        self.later(_RESEND_S, self._enlist_again, self.enlisting)

    def _enlist_again(self, enlisting: int) -> None:
        if self.session == 0 and self.enlisting == enlisting:
            self.enlist()

    def enlisted(self, enlisting: int, session: int, drop: list[Attempt]) -> None:
        if enlisting != self.enlisting or self.session:
            return
        self.session, self.received, self.heard_at = session, 0, self.sim.time.now
        gone = set(drop)
        self.granted -= gone
        self.waiting = [given for given in self.waiting if given.key not in gone]
        for key in drop:
            self.running.pop(key, None)
        outcomes = [
            outcome
            for turn in self.unsettled
            for outcome in turn.outcomes
            if (outcome.task_id, outcome.attempt) not in gone
        ]
        self.unsettled = []
        self.turn_number = 0
        if self.retiring:
            self._say("retire")
        self._speak(started=list(self.running))
        self._run(outcomes=outcomes)

    def assign(self, session: int, number: int, tasks: list[Given]) -> None:
        if session != self.session or number <= self.received:
            return
        if number != self.received + 1:
            self.enlist()
            return
        self.received, self.heard_at = number, self.sim.time.now
        if self.retiring:
            self._speak(returned=[given.key for given in tasks])
            return
        self.waiting += tasks
        self._run()

    def begin(self, session: int, attempts: list[Attempt]) -> None:
        """These may begin, if they are still here."""
        if session == self.session:
            self.heard_at = self.sim.time.now
            self.granted |= {given.key for given in self.waiting}.intersection(attempts)
            self._run()

    def recall(self, session: int, count: int) -> None:
        if session == self.session:
            self._speak(returned=self._withdraw(count))

    def stop(self, session: int, attempts: list[Attempt]) -> None:
        if session != self.session:
            return
        outcomes: list[Outcome] = []
        for key in attempts:
            if key in self.running:
                given, _ = self.running.pop(key)
                outcomes.append(_end(given, "failure", "cancelled", 0.0))
            dropped = [given for given in self.waiting if given.key == key]
            outcomes += [_end(given, "failure", "cancelled", 0.0, started=False) for given in dropped]
            self.waiting = [given for given in self.waiting if given.key != key]
        self._run(outcomes=outcomes)

    def settled(self, session: int, number: int) -> None:
        if session == self.session:
            self.heard_at = self.sim.time.now
            self.unsettled = [turn for turn in self.unsettled if turn.number > number]

    def unknown(self, session: int) -> None:
        """The dispatcher does not know this session."""
        if session == self.session:
            self.enlist()

    # ---- its work ----------------------------------------------------------------------------------------------------

    def _run(self, outcomes: list[Outcome] | None = None) -> None:
        started: list[Attempt] = []
        ready = [given for given in self.waiting if not given.asks or given.key in self.granted]
        for given in ready:
            if len(self.running) >= self.slots or self.retiring:
                break
            self.waiting.remove(given)
            self.granted.discard(given.key)
            how = fate(self.sim.time.chance, given.function, given.limits)
            self.running[given.key] = (given, self.sim.time.now)
            self.ran[given.key] = self.ran.get(given.key, 0) + 1
            self.sim.watch.runs(given.key, self.worker_id, given.limits)
            started.append(given.key)
            self.later(how.seconds, self._ends, given, how.kind, how.cause, how.seconds)
        self._speak(started=started, outcomes=outcomes or [])

    def _ends(self, given: Given, kind: Kind, cause: Cause, seconds: float) -> None:
        if self.running.pop(given.key, None) is not None:
            self._run(outcomes=[_end(given, kind, cause, seconds)])
            if self.retiring and not self.running:
                self._say("bye")

    def _withdraw(self, count: int) -> list[Attempt]:
        back = self.waiting[max(0, len(self.waiting) - count) :]
        del self.waiting[len(self.waiting) - len(back) :]
        self.granted -= {given.key for given in back}
        return [given.key for given in back]

    def _speak(
        self,
        started: list[Attempt] | None = None,
        outcomes: list[Outcome] | None = None,
        returned: list[Attempt] | None = None,
    ) -> None:
        if outcomes or returned:
            self.turn_number += 1
        turn = Turn(self.turn_number, outcomes or [], started or [], returned or [])
        if outcomes or returned:
            self.unsettled.append(turn)
            self.later(_RESEND_S, self._say_again, self.session, turn)
        if self.session:
            self._turn(turn)

    def _say_again(self, session: int, turn: Turn) -> None:
        if session == self.session != 0 and turn in self.unsettled:
            self._turn(turn)
            self.later(_RESEND_S, self._say_again, session, turn)

    def _turn(self, turn: Turn) -> None:
        turn.want = max(0, self.slots + self.ahead - len(self.waiting) - len(self.running))
        turn.received = self.received
        asking = [given.key for given in self.waiting if given.asks and given.key not in self.granted]
        turn.asks = asking[: self.slots] if not self.retiring else []
        self._say("turn", self.session, turn)

    def _beat(self) -> None:
        if self.session:
            self._think_better_of_it()
            self._turn(Turn(self.turn_number))
            if self.sim.time.now - self.heard_at > self.sim.config.lease_s:
                self.enlist()
        self.later(_HEARTBEAT_S, self._beat)

    def _think_better_of_it(self) -> None:
        """Give back what may begin and will not soon, as a worker does whose calls all take long."""
        time, late = self.sim.time, [given for given in self.waiting if given.key in self.granted]
        if late and len(self.running) >= self.slots and not time.calm and time.chance.random() < 0.3:
            self.waiting = [given for given in self.waiting if given not in late]
            self.granted.clear()
            self.sim.counts["thought better of"] += 1
            self._speak(returned=[given.key for given in late])

    def _say(self, what: str, *args: Any) -> None:
        self.sim.time.send((self.number, self.connection), self.sim.dispatcher.hear, self, self.connection, what, args)


def _end(given: Given, kind: Kind, cause: Cause, seconds: float, *, started: bool = True) -> Outcome:
    body = given.task_id[-8:] * 4 if kind == "ok" else b"exception" if kind == "error" else None
    report = None if kind == "ok" else OutcomeReport(text=cause or "raised")
    return Outcome(given.task_id, given.attempt, kind, body, seconds, cause, report, started)
