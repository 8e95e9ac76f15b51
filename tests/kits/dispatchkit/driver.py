"""A core and its clock, in a test's words; it adds no rule of its own."""

from __future__ import annotations

from typing import Any

from strata_zmq.domain.task import NO_LIMITS, Cause, Kind, Outcome, OutcomeReport, Task, TaskLimits
from strata_zmq.functions.dispatch import events as said
from strata_zmq.functions.dispatch.core import Core, CoreConfig
from strata_zmq.functions.dispatch.effects import Effects, Verdicts
from strata_zmq.functions.dispatch.records import Recovered

__all__ = ["Driver", "call", "named"]

FUNCTION = b"function".ljust(16, b".")


def named(name: str | int) -> bytes:
    """Return the task id that stands for a name."""
    return str(name).encode().rjust(16, b"-")


def call(
    name: str | int, limits: TaskLimits = NO_LIMITS, *, client: str = "ada", function: bytes = FUNCTION, **more: Any
) -> Task:
    """Return a new task of 10 bytes."""
    return Task(named(name), client, function, b"0123456789", more.pop("nbytes", 10), limits, **more)


class Driver:
    """Says one thing at a time to a core. `now` begins at 100 s; `ada` is attached, unless told otherwise."""

    def __init__(
        self, config: CoreConfig | None = None, recovered: Recovered | None = None, *, ada: bool = True
    ) -> None:
        self.core = Core(config or CoreConfig(), recovered)
        self.now = 100.0
        self.sessions = 0
        self.seq = 0
        self.effects = Effects()
        if ada:
            self.attach("ada")

    def say(self, *events: said.Event) -> Effects:
        """One step with these events."""
        self.effects = self.core.step(events, self.now)
        return self.effects

    def pass_time(self, seconds: float) -> Effects:
        """One step without events, later."""
        self.now += seconds
        return self.say()

    def attach(self, client: str, *, deliver: bool = True) -> Effects:
        return self.say(said.Attached(client, deliver))

    def submit(self, *tasks: Task, client: str = "ada") -> Verdicts:
        """Submit tasks in one step; returns the verdict."""
        self.seq += 1
        verdict = self.say(said.Submitted(client, self.seq, tasks)).verdicts[0]
        assert isinstance(verdict, Verdicts)
        assert verdict.seq == self.seq
        return verdict

    def enlist(
        self,
        worker: str = "w",
        slots: int = 1,
        mode: said.Mode = "push",
        held: tuple[said.Held, ...] = (),
        *,
        labels: dict[str, int] | None = None,
        python: str = "3.11",
    ) -> int:
        """A worker comes; returns its session."""
        self.sessions += 1
        self.say(said.WorkerEnlisted(self.sessions, worker, slots, mode, labels or {}, python, held))
        return self.sessions

    def assigned(self, session: int) -> list[Task]:
        """What the last step gave to a session."""
        return self.effects.assigned.get(session, [])

    def want(self, session: int, count: int) -> Effects:
        return self.say(said.Wanted(session, count))

    def ask(self, session: int, *tasks: Task) -> Effects:
        """The worker asks whether tasks may begin."""
        return self.say(said.BeginAsked(session, [(task.task_id, task.attempt) for task in tasks]))

    def start(self, session: int, *tasks: Task) -> Effects:
        return self.say(said.Started(session, [(task.task_id, task.attempt) for task in tasks]))

    def give_back(self, session: int, *tasks: Task) -> Effects:
        return self.say(said.Returned(session, [(task.task_id, task.attempt) for task in tasks]))

    def finish(self, session: int, *tasks: Task, service_s: float = 0.0) -> Effects:
        """The worker has results for tasks, at their present attempts."""
        return self.say(said.Finished(session, [outcome(task, service_s=service_s) for task in tasks]))

    def fail(self, session: int, task: Task, cause: Cause = "", *, started: bool = True) -> Effects:
        """The worker has an exception for a task, or with a cause a failure."""
        kind: Kind = "failure" if cause else "error"
        return self.say(said.Finished(session, [outcome(task, kind, cause, started=started)]))

    def cancel(self, *tasks: Task, running: bool = False) -> Effects:
        self.seq += 1
        return self.say(said.CancelAsked("ada", self.seq, [task.task_id for task in tasks], running))

    def see(self, *tasks: Task, client: str = "ada") -> Effects:
        return self.say(said.ResultsSeen(client, [task.task_id for task in tasks]))

    def lose(self, session: int) -> Effects:
        return self.say(said.WorkerLost(session, "its process ended"))


def outcome(
    task: Task, kind: Kind = "ok", cause: Cause = "", *, service_s: float = 0.0, started: bool = True
) -> Outcome:
    """Return the end of a task's present attempt."""
    body = b"result" if kind == "ok" else b"exception" if kind == "error" else None
    report = None if kind == "ok" else OutcomeReport(text="so it goes")
    return Outcome(task.task_id, task.attempt, kind, body, service_s, cause, report, started)
