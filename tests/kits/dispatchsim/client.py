"""A simulated client: submits, resubmits, cancels, watches, sees results, goes and comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from strata_zmq.domain.task import Task, TaskLimits
from strata_zmq.functions.dispatch.effects import CancelVerdicts, Verdicts

from .functions import FUNCTIONS

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["Client"]

_RESEND_S = 2.0


class Client:
    """One client id. What it was told is accepted it waits for, unless it has abandoned it."""

    def __init__(self, sim: Simulation, number: int) -> None:
        self.sim = sim
        self.number = number
        self.name = f"c{number}"
        self.deliver = sim.time.chance.random() < 0.8
        self.attached = False
        self.incarnation = 0
        self.seq = 0
        self.made = 0
        self.unanswered: dict[int, list[tuple[Any, ...]]] = {}
        self.waits_for: dict[bytes, TaskLimits] = {}
        self.got: dict[bytes, str] = {}
        self._attach()

    # ---- what it does ------------------------------------------------------------------------------------------------

    def submit(self) -> None:
        """Submit some calls with the same limits."""
        if not self.attached:
            return
        chance = self.sim.time.chance
        limits = self._limits()
        function = chance.choice(list(FUNCTIONS))
        calls: list[tuple[Any, ...]] = []
        for _ in range(chance.choice((1, 1, 3, 20))):
            self.made += 1
            task_id = self.number.to_bytes(8, "big") + self.made.to_bytes(8, "big")
            key = f"key{chance.randrange(40)}" if chance.random() < 0.1 else ""
            digest = bytes([chance.randrange(2)]) if key else b""
            calls.append((task_id, function, chance.choice((10, 10, 10, 3000)), limits, key, digest))
            if FUNCTIONS[function] == "endless" and not (limits.attempt_s or limits.total_s):
                limits = replace(limits, total_s=5.0)
                calls[-1] = (*calls[-1][:3], limits, *calls[-1][4:])
            if chance.random() < 0.3:
                function = chance.choice([name for name in FUNCTIONS if FUNCTIONS[name] != "endless"])
        self._submit(calls)

    def cancel(self) -> None:
        """Cancel something that it waits for, or anything."""
        if self.waits_for and self.attached:
            some = self.sim.time.chance.choice(list(self.waits_for))
            self._say("cancel", [some, bytes(16)], self.sim.time.chance.random() < 0.5)

    def watch(self, other: Client) -> None:
        """Watch somebody's tasks."""
        if other.waits_for and self.attached:
            self._say("watch", list(other.waits_for)[:5], self.sim.time.now + 3.0)

    def leave(self) -> None:
        """Go, for good or not, and come back some time later."""
        if not self.attached:
            return
        abandon = self.sim.time.chance.random() < 0.5
        self._say("detach", abandon)
        self.attached = False
        if abandon:
            # What is not known to be durable is nobody's any more.
            self.waits_for = {key: limits for key, limits in self.waits_for.items() if limits.durability == "commit"}
            self.unanswered = {}
        self.sim.time.after(self.sim.time.chance.random() * 5.0, self._attach)

    def come_back(self) -> None:
        """Attach again, as after a broken connection."""
        self._attach()

    # ---- what it hears -----------------------------------------------------------------------------------------------

    def attached_as(self, incarnation: int) -> None:
        if self.incarnation not in (incarnation, 0):
            # The dispatcher was restarted: what was not durable is gone.
            self.waits_for = {key: limits for key, limits in self.waits_for.items() if limits.durability == "commit"}
        self.incarnation = incarnation
        self.attached = True
        for seq in list(self.unanswered):
            self._submit_again(seq)

    def unknown(self) -> None:
        self._attach()

    def answered(self, incarnation: int, verdict: Verdicts | CancelVerdicts) -> None:
        if isinstance(verdict, CancelVerdicts) or incarnation != self.incarnation:
            return
        calls = self.unanswered.pop(verdict.seq, None)
        if calls is None:
            return
        refused = {refusal.index for refusal in verdict.refused}
        existing = dict(verdict.existing)
        for index, (task_id, _, _, limits, _, _) in enumerate(calls):
            if index not in refused and index not in existing and task_id not in self.got:
                self.waits_for[task_id] = limits

    def results(self, rows: list[tuple[bytes, str]]) -> None:
        for task_id, state in rows:
            if task_id in self.got:
                self.sim.watch.expect(
                    state in (self.got[task_id], "EXPIRED"), f"{task_id.hex()} ended as {self.got[task_id]} and {state}"
                )
            else:
                self.got[task_id] = state
            self.waits_for.pop(task_id, None)
        self._say("seen", [task_id for task_id, _ in rows])

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _submit(self, calls: list[tuple[Any, ...]]) -> None:
        self.seq += 1
        self.unanswered[self.seq] = calls
        if self.attached:
            self._say("submit", self.seq, calls)
        self.sim.time.after(_RESEND_S, self._submit_again, self.seq)

    def _submit_again(self, seq: int) -> None:
        calls = [row for row in self.unanswered.pop(seq, ()) if row[0] not in self.got]
        if calls:
            self._submit(calls)

    def _attach(self) -> None:
        self._say("attach", self.deliver)

    def _say(self, what: str, *args: Any) -> None:
        self.sim.time.send((-1, self.number), self.sim.dispatcher.listen, self, what, args)

    def _limits(self) -> TaskLimits:
        chance = self.sim.time.chance
        return TaskLimits(
            durability=chance.choice(("none", "commit")),
            attempt_s=chance.choice((0.0, 0.0, 0.3)),
            total_s=chance.choice((0.0, 0.0, 0.0, 4.0)),
            queue_s=chance.choice((0.0, 0.0, 0.0, 1.0)),
            retries_error=chance.choice((0, 0, 2)),
            retries_lost=chance.choice((0, 0, 1)),
            retries_memory=chance.choice((0, 1)),
            labels=chance.choice(({}, {}, {}, {"gpu": 1}, {"gpu": 2})),
            keep_s=chance.choice((0.0, 0.0, 2.0)),
            python=chance.choice(("", "", "3.11", "3.9")),
        )


def task_of(client: str, call: tuple[Any, ...]) -> Task:
    """Return the task that a submission's row stands for, as a server would make it."""
    task_id, function, nbytes, limits, key, digest = call
    return Task(task_id, client, function, b"payload", nbytes, limits, (), key, digest)
