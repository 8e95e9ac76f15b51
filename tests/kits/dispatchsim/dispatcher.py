"""The simulated dispatcher's shell: it collects messages, steps the core, writes records, sends; and it crashes."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING, Any

from strata_zmq.domain.task import FINAL, Budget, Outcome, Task
from strata_zmq.functions.dispatch import events as said
from strata_zmq.functions.dispatch.core import Core
from strata_zmq.functions.dispatch.effects import Effects
from strata_zmq.functions.dispatch.records import Accepted, Begun, Ended, Record, Recovered, RecoveredTask

from .client import Client, task_of
from .worker import Given, Turn, Worker

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["Dispatcher", "Store"]

_MESSAGES_MAX = 64


class Store:
    """What lasts. It keeps its own copies, as a disk does."""

    def __init__(self) -> None:
        self.accepted: dict[bytes, tuple[Task, float]] = {}
        self.begun: dict[bytes, tuple[int, str]] = {}
        """Task -> the last attempt that is written down, and its worker; "": that attempt is over."""
        self.budgets: dict[bytes, Budget] = {}
        self.ended: dict[bytes, Ended] = {}

    def append(self, records: list[Record]) -> None:
        for record in records:
            if isinstance(record, Accepted):
                task = record.task
                body = task.body
                made = Task(task.task_id, task.client, task.function, body, task.nbytes, task.limits, (), task.key)
                made.key_digest = task.key_digest
                self.accepted[task.task_id] = (made, record.at)
            elif isinstance(record, Begun):
                self.begun[record.task_id] = (record.attempt, record.worker_id)
            elif isinstance(record, Ended):
                self.ended[record.task_id] = Ended(record.task_id, record.state, copy(record.outcome), record.at)
            else:
                self.begun[record.task_id] = (record.attempt, "")
                if record.budget is not None:
                    self.budgets[record.task_id] = copy(record.budget)

    def forget(self, task_ids: list[bytes]) -> None:
        for task_id in task_ids:
            self.accepted.pop(task_id, None)
            self.begun.pop(task_id, None)
            self.budgets.pop(task_id, None)
            self.ended.pop(task_id, None)

    def load(self) -> Recovered:
        return Recovered(tuple(self._rows()))

    def _rows(self) -> Iterator[RecoveredTask]:
        for task_id, (kept, at) in self.accepted.items():
            task = Task(task_id, kept.client, kept.function, kept.body, kept.nbytes, kept.limits, (), kept.key)
            task.key_digest = kept.key_digest
            task.budget = copy(self.budgets.get(task_id))
            attempt, worker_id = self.begun.get(task_id, (0, ""))
            end = self.ended.get(task_id)
            if end is not None:
                task.state, task.outcome = end.state, copy(end.outcome)
            yield RecoveredTask(task, attempt, worker_id, at, end.at if end is not None else 0.0)


class Dispatcher:
    """The shell's order is the contract: step, persist, then send."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.store = Store()
        self.incarnation = 0
        self.sessions = 0
        self.up = False
        self.boot()

    def boot(self) -> None:
        self.up = True
        self.incarnation += 1
        self.core = Core(self.sim.config, self.store.load())
        self.sim.watch.boots(self.core, self.store)
        self._inbox: list[tuple[Any, ...]] = []
        self._workers: dict[int, tuple[Worker, int]] = {}
        self._sent: dict[int, int] = {}
        self._behind: dict[int, int] = {}
        self._clients: dict[str, Client] = {}
        self._planned = float("inf")
        self._turn()

    def hear(self, worker: Worker, connection: int, what: str, args: tuple[Any, ...]) -> None:
        """A message of a worker has arrived."""
        self._take((worker, connection, what, args))

    def listen(self, client: Client, what: str, args: tuple[Any, ...]) -> None:
        """A message of a client has arrived."""
        self._take((client, 0, what, args))

    def crash(self) -> None:
        """Be killed; begin again some time later with what the store has."""
        self.up = False
        self._planned = float("inf")
        self.sim.counts["crashes"] += 1
        self.sim.time.after(self.sim.time.chance.choice((0.1, 1.0, 3.0)), self.boot)

    def _take(self, message: tuple[Any, ...]) -> None:
        if not self.up:
            return
        if not self._inbox:
            self.sim.time.after(self.sim.time.chance.choice((0.0, 0.0005)), self._turn_now, self.incarnation)
        self._inbox.append(message)

    def _turn_now(self, incarnation: int) -> None:
        if self.up and incarnation == self.incarnation and self._inbox:
            self._turn()

    def _wake(self, incarnation: int, at: float) -> None:
        if self.up and incarnation == self.incarnation and at == self._planned:
            self._planned = float("inf")
            self._turn()

    def _turn(self) -> None:
        now = self.sim.time.now
        messages, self._inbox = self._inbox[:_MESSAGES_MAX], self._inbox[_MESSAGES_MAX:]
        events: list[said.Event] = []
        replies: list[tuple[Any, ...]] = []
        for sender, connection, what, args in messages:
            if isinstance(sender, Worker):
                self._of_worker(sender, connection, what, args, events, replies)
            else:
                self._of_client(sender, what, args, events, replies)
        effects = self.core.step(events, now)
        self.sim.watch.steps(events, effects, now)
        doom = self.sim.time.chance.random() if not self.sim.time.calm else 1.0
        if doom < self.sim.crash_rate:
            # Before the records are written, between that and the first word, or in the middle of them.
            if doom > self.sim.crash_rate / 3:
                self._persist(effects)
            if doom > self.sim.crash_rate / 3 * 2:
                self._send(effects, replies[: len(replies) // 2], half=True)
            self.crash()
            return
        self._persist(effects)
        self.store.forget([task.task_id for task in effects.forgotten])
        self._send(effects, replies)
        if self._inbox:
            self.sim.time.after(0.0, self._turn_now, self.incarnation)
        at = self.core.next_wakeup()
        if at is not None and at != self._planned:
            self._planned = at
            self.sim.time.after(max(0.0, at - now), self._wake, self.incarnation, at)

    def _persist(self, effects: Effects) -> None:
        self.store.append(effects.records)
        self.sim.watch.persisted(effects.records)

    def _of_worker(
        self,
        worker: Worker,
        connection: int,
        what: str,
        args: tuple[Any, ...],
        events: list[said.Event],
        replies: list[tuple[Any, ...]],
    ) -> None:
        if what == "enlist":
            self.sessions += 1
            enlisting, held = args
            self._workers[self.sessions] = (worker, connection)
            events.append(
                said.WorkerEnlisted(
                    self.sessions, worker.worker_id, worker.slots, worker.mode, worker.labels, worker.python, held
                )
            )
            replies.append(("enlisted", worker, connection, enlisting, self.sessions, held))
            return
        session = next((key for key, pair in self._workers.items() if pair == (worker, connection)), 0)
        if what == "turn":
            claimed, turn = args
            if claimed != session:
                replies.append(("unknown", worker, connection, claimed))
                return
            self._of_turn(session, turn, events, replies)
        elif session and what == "retire":
            events.append(said.WorkerRetiring(session))
        elif session:
            events.append(said.WorkerLost(session, "it said goodbye"))

    def _of_turn(self, session: int, turn: Turn, events: list[said.Event], replies: list[tuple[Any, ...]]) -> None:
        worker, connection = self._workers[session]
        if turn.asks:
            events.append(said.BeginAsked(session, turn.asks))
        if turn.started:
            events.append(said.Started(session, turn.started))
        if turn.outcomes:
            events.append(said.Finished(session, [_over_the_wire(outcome) for outcome in turn.outcomes]))
        if turn.returned:
            events.append(said.Returned(session, turn.returned))
        events.append(said.Wanted(session, turn.want) if worker.mode == "pull" else said.WorkerAlive(session))
        if turn.outcomes or turn.returned:
            replies.append(("settled", worker, connection, session, turn.number))
            return
        behind = turn.received < self._sent.get(session, 0)
        self._behind[session] = self._behind.get(session, 0) + 1 if behind else 0
        if self._behind[session] > 20:
            replies.append(("unknown", worker, connection, session))

    def _of_client(
        self,
        client: Client,
        what: str,
        args: tuple[Any, ...],
        events: list[said.Event],
        replies: list[tuple[Any, ...]],
    ) -> None:
        name = client.name
        if what == "attach":
            self._clients[name] = client
            events.append(said.Attached(name, args[0]))
            replies.append(("attached", client))
            return
        if name not in self._clients:
            replies.append(("stranger", client))
        elif what == "submit":
            events.append(said.Submitted(name, args[0], [task_of(name, row) for row in args[1]]))
        elif what == "cancel":
            events.append(said.CancelAsked(name, 0, args[0], args[1]))
        elif what == "watch":
            events.append(said.Watched(name, args[0], args[1]))
        elif what == "seen":
            events.append(said.ResultsSeen(name, args[0]))
        else:
            del self._clients[name]
            events.append(said.Detached(name, args[0]))

    def _send(self, effects: Effects, replies: list[tuple[Any, ...]], *, half: bool = False) -> None:
        for what, to, *rest in replies:
            self._reply(what, to, rest)
        if half:
            return
        for verdict in effects.verdicts:
            self._tell_client(verdict.client, "answered", self.incarnation, verdict)
        for session, tasks in effects.assigned.items():
            self._sent[session] = self._sent.get(session, 0) + 1
            given = [Given(task.task_id, task.attempt, task.function, task.limits, task.asks) for task in tasks]
            self._tell(session, "assign", self._sent[session], given)
        for session, attempts in effects.may_begin.items():
            self._tell(session, "begin", list(attempts))
        for session, count in effects.recalled.items():
            self._tell(session, "recall", count)
        for session, attempts in effects.stopped.items():
            self._tell(session, "stop", list(attempts))
        for name, tasks in effects.results.items():
            self._tell_client(name, "results", [(task.task_id, task.state) for task in tasks])
        for session, _ in effects.lost:
            self._workers.pop(session, None)

    def _tell_client(self, name: str, what: str, *args: Any) -> None:
        client = self._clients.get(name)
        if client is not None:
            self.sim.time.send((-2, client.number), getattr(client, what), *args)

    def _reply(self, what: str, worker: Any, rest: list[Any]) -> None:
        if what == "attached":
            self.sim.time.send((-2, worker.number), worker.attached_as, self.incarnation)
            return
        if what == "stranger":
            self.sim.time.send((-2, worker.number), worker.unknown)
            return
        connection = rest[0]
        key = (-3 - worker.number, connection)
        if what == "unknown":
            self.sim.time.send(key, worker.call, worker.unknown, rest[1])
        elif what == "settled":
            self.sim.time.send(key, worker.call, worker.settled, rest[1], rest[2])
        else:
            _, enlisting, session, held = rest
            mine = set(self.core.held_by(session))
            drop = [(task_id, attempt) for task_id, attempt, _ in held if (task_id, attempt) not in mine]
            self.sim.time.send(key, worker.call, worker.enlisted, enlisting, session, drop)

    def _tell(self, session: int, what: str, *args: Any) -> None:
        pair = self._workers.get(session)
        if pair is not None:
            worker, connection = pair
            self.sim.time.send((-3 - worker.number, connection), worker.call, getattr(worker, what), session, *args)

    def unfinished(self) -> list[Task]:
        """Tasks that have not ended."""
        return [task for task in self.core.page(b"", 10**9, None) if task.state not in FINAL]


def _over_the_wire(outcome: Outcome) -> Outcome:
    return copy(outcome)
