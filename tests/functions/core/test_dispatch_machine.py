"""Any order of any events, sensible or not: the promises that the simulation watches hold all the same."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from dispatchkit import call
from dispatchkit.driver import outcome
from dispatchsim.dispatcher import Store
from dispatchsim.watch import Watch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from strata_zmq.domain.task import Task, TaskLimits
from strata_zmq.functions.dispatch import events as said
from strata_zmq.functions.dispatch.core import Core, CoreConfig

CLIENTS = st.sampled_from(["ada", "bob"])
WORKERS = st.sampled_from(["w1", "w2", "w3"])
SOME = st.integers(0, 30)
LIMITS = st.builds(
    TaskLimits,
    durability=st.sampled_from(["none", "commit"]),
    attempt_s=st.sampled_from([0.0, 1.0]),
    total_s=st.sampled_from([0.0, 6.0]),
    queue_s=st.sampled_from([0.0, 2.0]),
    retries_error=st.integers(0, 1),
    retries_lost=st.integers(0, 1),
    retries_memory=st.integers(0, 1),
    labels=st.sampled_from([{}, {}, {"gpu": 1}]),
    keep_s=st.sampled_from([0.0, 3.0]),
    python=st.sampled_from(["", "", "3.11"]),
)
ENDS = st.sampled_from(["ok", "ok", "error", "killed", "out_of_memory", "deadline", "cancelled", "worker_lost"])


class DispatcherMachine(RuleBasedStateMachine):
    """A core that is told anything. Attempts and sessions may be right, old, somebody else's, or invented."""

    def __init__(self) -> None:
        super().__init__()
        self.config = CoreConfig(
            lease_s=4.0,
            queue_tasks_max=12,
            queue_bytes_max=400,
            results_bytes_max=40,
            quarantine_deaths=3,
            quarantine_s=3.0,
            worker_bytes_max=100,
            unseen_s=20.0,
        )
        self.sim: Any = SimpleNamespace(
            seed="any", config=self.config, counts=Counter(), time=SimpleNamespace(now=100.0), clients=[]
        )
        self.watch = Watch(self.sim)
        self.store = Store()
        self.sessions = 0
        self.names = 0
        self.given: list[said.Attempt] = []
        self.boot()

    def boot(self) -> None:
        self.core = Core(self.config, self.store.load())
        self.watch.boots(self.core, self.store)
        self.step()

    def step(self, *events: said.Event) -> None:
        """One step, with everything that is promised about it."""
        now = self.sim.time.now
        effects = self.core.step(events, now)
        self.watch.steps(events, effects, now)
        self.store.append(effects.records)
        self.store.forget([task.task_id for task in effects.forgotten])
        self.given += [(task.task_id, task.attempt) for tasks in effects.assigned.values() for task in tasks]

    def attempt(self, which: int) -> said.Attempt:
        """One of the latest attempts that were given out."""
        return self.given[-1 - which % len(self.given)] if self.given else (bytes(16), 1)

    @rule(client=CLIENTS, deliver=st.booleans())
    def attach(self, client: str, deliver: bool) -> None:
        self.step(said.Attached(client, deliver))

    @rule(client=CLIENTS, abandon=st.booleans())
    def detach(self, client: str, abandon: bool) -> None:
        self.step(said.Detached(client, abandon))

    @rule(client=CLIENTS, limits=LIMITS, count=st.integers(1, 4), nbytes=st.sampled_from([10, 90]), keyed=st.booleans())
    def submit(self, client: str, limits: TaskLimits, count: int, nbytes: int, keyed: bool) -> None:
        tasks: list[Task] = []
        for _ in range(count):
            self.names += 1
            key = f"key{self.names % 3}" if keyed else ""
            tasks.append(
                call(
                    self.names, limits, client=client, nbytes=nbytes, key=key, key_digest=key.encode()[: self.names % 5]
                )
            )
        self.step(said.Submitted(client, self.names, tasks))

    @rule(client=CLIENTS, which=SOME, running=st.booleans())
    def cancel(self, client: str, which: int, running: bool) -> None:
        self.step(said.CancelAsked(client, 1, [self.attempt(which)[0], call(self.names).task_id], running))

    @rule(client=CLIENTS, which=SOME)
    def watch_task(self, client: str, which: int) -> None:
        self.step(said.Watched(client, [self.attempt(which)[0]], self.sim.time.now + 2.0))

    @rule(client=CLIENTS, which=SOME)
    def see(self, client: str, which: int) -> None:
        self.step(said.ResultsSeen(client, [self.attempt(number)[0] for number in range(which)]))

    @rule(
        worker=WORKERS,
        slots=st.integers(1, 3),
        mode=st.sampled_from(["push", "pull"]),
        gpus=st.integers(0, 1),
        held=st.lists(st.tuples(SOME, st.sampled_from(["waiting", "running", "done"])), max_size=4),
    )
    def enlist(self, worker: str, slots: int, mode: said.Mode, gpus: int, held: list[tuple[int, said.Phase]]) -> None:
        self.sessions += 1
        rows = tuple((*self.attempt(which), phase) for which, phase in held)
        labels = {"gpu": gpus} if gpus else {}
        self.step(said.WorkerEnlisted(self.sessions, worker, slots, mode, labels, "3.11", rows))

    @rule(back=st.integers(0, 2), count=st.integers(0, 5))
    def want(self, back: int, count: int) -> None:
        self.step(said.Wanted(self.sessions - back, count))

    @rule(back=st.integers(0, 2), which=st.lists(SOME, max_size=4))
    def ask(self, back: int, which: list[int]) -> None:
        self.step(said.BeginAsked(self.sessions - back, [self.attempt(number) for number in which]))

    @rule(back=st.integers(0, 2), which=st.lists(SOME, max_size=4))
    def start(self, back: int, which: list[int]) -> None:
        self.step(said.Started(self.sessions - back, [self.attempt(number) for number in which]))

    @rule(back=st.integers(0, 2), which=st.lists(st.tuples(SOME, ENDS, st.booleans()), max_size=4))
    def finish(self, back: int, which: list[tuple[int, str, bool]]) -> None:
        self.step(said.Finished(self.sessions - back, [self.end(*one) for one in which]))

    @rule(session=st.data())
    def finish_rightly(self, session: st.DataObject) -> None:
        """Who has something ends it: without this the machine would seldom get anywhere."""
        for number in range(self.sessions, max(0, self.sessions - 3), -1):
            held = self.core.held_by(number)
            if held:
                outcomes = [outcome(self.task(task_id), service_s=0.0005) for task_id, _ in held]
                self.step(said.Finished(number, outcomes[: session.draw(st.integers(1, 4))]))
                return

    @rule(back=st.integers(0, 2), which=st.lists(SOME, max_size=4))
    def give_back(self, back: int, which: list[int]) -> None:
        self.step(said.Returned(self.sessions - back, [self.attempt(number) for number in which]))

    @rule(back=st.integers(0, 2))
    def retire(self, back: int) -> None:
        self.step(said.WorkerRetiring(self.sessions - back))

    @rule(back=st.integers(0, 2))
    def lose(self, back: int) -> None:
        self.step(said.WorkerLost(self.sessions - back, "it is gone"))

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.5, 2.0, 9.0]))
    def pass_time(self, seconds: float) -> None:
        self.sim.time.now += seconds
        self.step(*[said.WorkerAlive(session) for session in range(max(1, self.sessions - 1), self.sessions + 1)])

    @rule()
    def wake(self) -> None:
        at = self.core.next_wakeup()
        if at is not None:
            self.sim.time.now = max(self.sim.time.now, at)
            self.step()

    @rule()
    def restart(self) -> None:
        self.sim.time.now += 0.5
        self.sessions += 3
        self.boot()

    def task(self, task_id: bytes) -> Task:
        found = self.core.find(task_id)
        assert found is not None
        return found

    def end(self, which: int, how: str, started: bool) -> Any:
        task_id, attempt = self.attempt(which)
        task = call("any")
        task.task_id, task.attempt = task_id, attempt
        if how in ("ok", "error"):
            return outcome(task, how, service_s=0.001)  # type: ignore[arg-type]
        return outcome(task, "failure", how, started=started)  # type: ignore[arg-type]


DispatcherMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyOrderOfEvents = DispatcherMachine.TestCase
