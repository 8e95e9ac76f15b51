"""What must hold after every step, whatever happens: told from events and effects, with books of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from strata_zmq.domain.service import DEPTH_MAX
from strata_zmq.domain.task import FINAL, Outcome, Task, TaskLimits
from strata_zmq.functions.dispatch import events as said
from strata_zmq.functions.dispatch.core import Core
from strata_zmq.functions.dispatch.effects import Effects, Verdicts
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.dispatch.records import Accepted, Begun, Ended, Record

from .books import Books, Post
from .broken import BrokenPromiseError
from .told import tell

if TYPE_CHECKING:
    from .client import Client
    from .dispatcher import Store
    from .simulation import Simulation

__all__ = ["Watch"]

_STATE_EVERY = 4
"""Looking at everything that is known takes longest. What is wrong in it stays wrong, and is found steps later."""


class Watch:
    """Follows every step and raises BrokenPromiseError at the first promise that does not hold."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self._told = hashlib.sha256()
        self._runs: set[Attempt] = set()
        self._numbers: dict[bytes, int] = {}
        """Task -> the highest attempt number that was ever given out, or written down in an earlier life."""
        self._written: set[tuple[bytes, int, str]] = set()
        """Attempts of which it was ever written down that they may begin, and where."""
        self._at_stake: dict[bytes, tuple[str, int]] = {}
        """Tasks that may have begun in an earlier life -> their worker, and what was left for a lost one."""
        self._back: set[str] = set()
        """Workers that have enlisted in this life."""
        self._ends: dict[bytes, tuple[str, int, Outcome]] = {}
        self._spent: dict[bytes, int] = {}
        """Retries that a task had used before this life."""
        self._idle_wakes = 0
        self._gone: dict[str, bool] = {}
        self._forgotten: set[bytes] = set()

    def expect(self, holds: bool, promise: str) -> None:
        """Raise unless it holds."""
        if not holds:
            raise BrokenPromiseError(f"seed {self.sim.seed}, at {self.sim.time.now:.6f} s: {promise}")

    def digest(self) -> str:
        """Return what stands for everything that the core has said."""
        return self._told.hexdigest()

    def runs(self, attempt: Attempt, worker_id: str, limits: TaskLimits) -> None:
        """A worker begins to run an attempt."""
        self.sim.counts["runs"] += 1
        known = limits.durability == "none" or (*attempt, worker_id) in self._written
        self.expect(known, f"attempt {attempt[1]} of {attempt[0].hex()} begins before that is written down")
        self.expect(attempt not in self._runs, f"attempt {attempt[1]} of {attempt[0].hex()} runs twice")
        self._runs.add(attempt)

    def boots(self, core: Core, store: Store) -> None:
        """A dispatcher begins a life with what the store has."""
        self._core, self._store = core, store
        self._books = Books()
        self._at_stake, self._back, self._spent = {}, set(), {}
        self._gone = {}
        self._forgotten = set()
        self._kept = (core.counts().result_bytes, core.counts().ended)
        self._live: dict[bytes, Task] = {}
        for task in core.page(b"", 10**9, None):
            if task.state in FINAL:
                end = store.ended[task.task_id]
                self._ends[task.task_id] = (task.state, task.attempt, end.outcome)
            else:
                self._live[task.task_id] = task
                told = any(task.task_id in client.got for client in self.sim.clients)
                self.expect(not told, f"{task.task_id.hex()} was told to have ended, and lives again")
                self._take_over(task, store)
        # What had ended and was not written down has not ended.
        known = {task.task_id for task in core.page(b"", 10**9, None)} - self._live.keys()
        self._ends = {task_id: end for task_id, end in self._ends.items() if task_id in known}
        self._runs = {attempt for attempt in self._runs if attempt[0] in store.accepted}
        # An attempt whose number was not written down has never begun.
        self._numbers = {task_id: number for task_id, (number, _) in store.begun.items()}

    def persisted(self, records: Sequence[Record]) -> None:
        """A step's records are on the disk."""
        self._written |= {(one.task_id, one.attempt, one.worker_id) for one in records if isinstance(one, Begun)}

    def _take_over(self, task: Task, store: Store) -> None:
        """A life begins with a task that has not ended."""
        _, worker_id = store.begun.get(task.task_id, (0, ""))
        awaited = task.task_id in self._core._ends.limbo
        self.expect(awaited == bool(worker_id), "what may have begun awaits its worker, and everything else waits")
        if worker_id:
            self._at_stake[task.task_id] = (worker_id, _lost_left(task))
            self._books.recovered.add(task.task_id)
        self._spent[task.task_id] = _spent(task)

    # ---- a step ------------------------------------------------------------------------------------------------------

    def steps(self, events: Sequence[said.Event], effects: Effects, now: float) -> None:
        """Look at one step: what was put in, what came out, and what is there now."""
        self.sim.counts["steps"] += 1
        self.sim.counts["recalls"] += len(effects.recalled)
        self.sim.counts["stopped"] += sum(map(len, effects.stopped.values()))
        tell(self._told, effects)
        books = self._books
        books.open(events, self._core, self.sim.counts)
        self._back |= {event.worker_id for event in events if isinstance(event, said.WorkerEnlisted)}
        self._accepting(events, effects)
        self._ending(effects, now)
        self._assigning(effects)
        self._recording(effects)
        self._forgetting(events, effects, now)
        books.close(effects)
        if self.sim.counts["steps"] % _STATE_EVERY == 0:
            self._holding()
            self._adding_up()
        self._busy(now)
        self._waking(events, effects, now)

    def _accepting(self, events: Sequence[said.Event], effects: Effects) -> None:
        verdicts = [verdict for verdict in effects.verdicts if isinstance(verdict, Verdicts)]
        submissions = [event for event in events if isinstance(event, said.Submitted)]
        self.expect(len(verdicts) == len(submissions), "each submission has its verdict")
        records = {record.task.task_id for record in effects.records if isinstance(record, Accepted)}
        for event, verdict in zip(submissions, verdicts, strict=True):
            self.expect((event.client, event.seq) == (verdict.client, verdict.seq), "verdicts come in order")
            declined = {refusal.index for refusal in verdict.refused} | {index for index, _ in verdict.existing}
            self.expect(
                len(declined) == len(verdict.refused) + len(verdict.existing), "a task is refused or existing, once"
            )
            for refusal in verdict.refused:
                self.sim.counts[refusal.code] += 1
            for index, task in enumerate(event.tasks):
                if index in declined:
                    self.expect(self._core.find(task.task_id) is not task, "a refused task is not kept")
                    continue
                if task.task_id in self._ends and task.task_id not in self._forgotten:
                    self.sim.counts["submitted again"] += 1
                    continue
                if task.task_id in self._live:
                    self.sim.counts["submitted again"] += 1
                    continue
                self._begin_anew(task.task_id)
                self.sim.counts["accepted"] += 1
                self._live[task.task_id] = task
                durable = task.limits.durability == "commit"
                self.expect((task.task_id in records) == durable, "a task is written down before it is accepted")

    def _begin_anew(self, task_id: bytes) -> None:
        """A task of which nothing is known any more is a new one."""
        self._forgotten.discard(task_id)
        self._ends.pop(task_id, None)
        self._numbers.pop(task_id, None)
        self._runs = {attempt for attempt in self._runs if attempt[0] != task_id}

    def _ending(self, effects: Effects, now: float) -> None:
        ended = [task for task in self._live.values() if task.state in FINAL]
        for task in ended:
            outcome = task.outcome
            if outcome is None:
                self.expect(task.state == "EXPIRED", "an ended task has an outcome")
                continue
            del self._live[task.task_id]
            self._ends[task.task_id] = (task.state, task.attempt, outcome)
            self.sim.counts[outcome.cause or outcome.kind] += 1
            self._fair(task, outcome)
        written = {record.task_id: record for record in effects.records if isinstance(record, Ended)}
        for name, tasks in effects.results.items():
            self.expect(len({task.task_id for task in tasks}) == len(tasks), f"{name} is told an end once a step")
            for task in tasks:
                self.expect(task.state in FINAL, "only ends are delivered")
                known = self._ends.get(task.task_id)
                self.expect(known is not None, "an end is delivered of a task that is known")
                if known is None or task.state == "EXPIRED":
                    continue
                self.expect(
                    known[0] in ("EXPIRED", task.state) and task.attempt == known[1],
                    "a task ends once, and stays as it ended",
                )
                if task.limits.durability == "commit":
                    durable = task.task_id in written or task.task_id in self._store.ended
                    self.expect(durable, "an end is written down before it is told")

    def _fair(self, task: Task, outcome: Outcome) -> None:
        """Whether this is a task's right end."""
        books = self._books
        attempt = (task.task_id, outcome.attempt)
        self.expect(outcome.attempt == task.attempt, f"the outcome of {task.task_id.hex()} is of its last attempt")
        if outcome.kind != "failure" or outcome.cause in ("killed", "out_of_memory"):
            self.expect(id(outcome) in books.current, "a result is taken from who has the attempt, while it has it")
        if outcome.cause == "worker_lost":
            self.expect(
                attempt in books.begun or task.task_id in books.recovered,
                "who had not started is not lost with a worker",
            )
        if task.state == "EXPIRED":
            # Nobody was there to read it.
            return
        if outcome.kind == "ok":
            self.expect(task.state == "COMPLETED", "a result completes its task")
        elif outcome.cause == "cancelled":
            self.expect(task.state == "CANCELLED", "a cancelled task is CANCELLED")

    def _assigning(self, effects: Effects) -> None:
        books = self._books
        for session, tasks in effects.assigned.items():
            post = books.posts.get(session)
            self.expect(post is not None, "tasks go to sessions that are there")
            if post is None:
                continue
            self.expect(not post.retiring, "a retiring worker gets nothing")
            for task in tasks:
                highest = self._numbers.get(task.task_id, 0)
                self.expect(task.attempt > highest, f"attempt {task.attempt} of {task.task_id.hex()} is a new number")
                self._numbers[task.task_id] = task.attempt
                self._again(task)
                self._room(post, task)
                post.take(task)

    def _again(self, task: Task) -> None:
        """What may have begun in an earlier life is run again for a reason."""
        worker_id, left = self._at_stake.pop(task.task_id, ("", 0))
        reason = not worker_id or worker_id in self._back or _lost_left(task) < left
        self.expect(
            reason, f"{task.task_id.hex()} runs again though it may have begun and its worker has not come back"
        )

    def _room(self, post: Post, task: Task) -> None:
        held, limits = len(post.attempts), task.limits
        if post.mode == "pull":
            post.want -= 1
            self.expect(post.want >= 0, "a pulling worker gets what it wants, and no more")
        else:
            credit = max(post.slots, self._books.credit(post.slots, task.function))
            self.expect(held < credit <= post.slots + DEPTH_MAX, "a worker gets what its credit allows")
        bytes_max = self.sim.config.worker_bytes_max
        self.expect(not held or post.nbytes + task.nbytes <= bytes_max, "a worker holds no more bytes than allowed")
        self.expect(limits.python in ("", post.python), "a task goes to a worker that can load it")
        for name, count in limits.labels.items():
            self.expect(post.used[name] + count <= post.labels.get(name, 0), f"label {name} is not exceeded")

    def _busy(self, now: float) -> None:
        """No task waits while a worker has a free slot for it."""
        workers = self._core._workers.by_session
        bytes_max = self.sim.config.worker_bytes_max
        for lane in self._core._queue.waiting():
            head = lane.tasks[0]
            for session, post in self._books.posts.items():
                places = len(post.attempts)
                free = not post.retiring and places < post.slots and (post.mode == "push" or post.want > 0)
                fits = head.limits.python in ("", post.python) and all(
                    post.used[name] + count <= post.labels.get(name, 0) for name, count in lane.labels
                )
                light = not places or post.nbytes + head.nbytes <= bytes_max
                rests = workers[session].rests_until > now
                self.expect(not (free and fits and light) or rests, "no task waits while a worker is free for it")

    def _recording(self, effects: Effects) -> None:
        given = {(task.task_id, task.attempt) for tasks in effects.assigned.values() for task in tasks}
        durable = {task.task_id for tasks in effects.assigned.values() for task in tasks} & {
            task_id for task_id, task in self._live.items() if task.limits.durability == "commit"
        }
        written = {(record.task_id, record.attempt) for record in effects.records if isinstance(record, Begun)}
        self.expect(written <= given | self._books.had | self._books.have(), "what may begin is at a worker")
        for attempts in effects.may_begin.values():
            for task_id, number in attempts:
                task = self._live.get(task_id)
                if task is not None and task.limits.durability == "commit":
                    known = (task_id, number) in written or self._store.begun.get(task_id, (0, ""))[0] == number
                    self.expect(known, "who asks is told what is written down")
        mute = {pair for pair in given if pair[0] in durable and not self._live[pair[0]].asks}
        self.expect(mute <= written, "what does not ask is written down before it is given to anybody")
        counts = Counter(record.task_id for record in effects.records if isinstance(record, Ended))
        self.expect(all(count == 1 for count in counts.values()), "an end is written down once")

    def _forgetting(self, events: Sequence[said.Event], effects: Effects, now: float) -> None:
        """A result goes for a reason."""
        seen = {
            (event.client, key) for event in events if isinstance(event, said.ResultsSeen) for key in event.task_ids
        }
        gone = {client for client, abandoned in self._gone.items() if abandoned}
        for event in events:
            if isinstance(event, said.Attached | said.Detached):
                self._gone[event.client] = isinstance(event, said.Detached) and event.abandon
                if self._gone[event.client]:
                    gone.add(event.client)
        config = self.sim.config
        for task in effects.forgotten:
            keep_s = task.limits.keep_s
            over = now >= task.ended_at + (keep_s or config.unseen_s)
            alone = keep_s == 0 and task.limits.durability == "none" and task.client in gone
            said_so = keep_s == 0 and (task.client, task.task_id) in seen
            shed = self._kept[0] > config.results_bytes_max or self._kept[1] > config.results_max
            self.expect(over or alone or said_so or shed, "a result is kept until its time has come")
            self.expect(task.state == "EXPIRED", "what is forgotten is EXPIRED")
            self.sim.counts["expired"] += 1
        counts = self._core.counts()
        self._kept = (counts.result_bytes, counts.ended)
        self._forgotten = {task_id for task_id in self._ends if self._core.find(task_id) is None}

    # ---- the state afterwards ----------------------------------------------------------------------------------------

    def _holding(self) -> None:
        """Each unfinished task is in one place."""
        core = self._core
        places: Counter[bytes] = Counter()
        for task in core._queue.all():
            places[task.task_id] += 1
            self.expect(task.worker == 0, "who waits is with nobody")
        for session in core._workers.by_session:
            for task_id, _ in core.held_by(session):
                places[task_id] += 1
        for task_id in core._ends.limbo:
            places[task_id] += 1
        self.expect(all(count == 1 for count in places.values()), "a task is in one place only")
        if places.keys() != self._live.keys():
            nowhere = [task_id.hex() for task_id in self._live.keys() - places.keys()]
            strays = [task_id.hex() for task_id in places.keys() - self._live.keys()]
            self.expect(False, f"every accepted task is somewhere until it ends: not {nowhere}, {strays} are strays")
        for task_id, task in self._live.items():
            self.expect(core.find(task_id) is task, "a live task is known")
            budget = task.budget
            if budget is not None:
                self.expect(min(budget.error, budget.lost, budget.memory) >= 0, "no budget is overdrawn")
                spent = _spent(task) - self._spent.get(task_id, 0)
                begun = self._books.starts[task_id] - (task.state == "RUNNING")
                # What a worker of an earlier life had may have started, and counts so.
                begun += task_id in self._books.recovered
                self.expect(spent <= begun, "who had not started has spent nothing")

    def _adding_up(self) -> None:
        core = self._core
        counts = core.counts()
        live = self._live.values()
        running = sum(task.state == "RUNNING" for task in live)
        self.expect(counts.running == running, f"{running} tasks run, not {counts.running}")
        self.expect(counts.queued == len(self._live) - running, "queued tasks add up")
        self.expect(counts.queued_bytes == sum(task.nbytes for task in live), "bytes of payload add up")
        everything = core.page(b"", 10**9, None)
        kept = [task.outcome for task in everything if task.state in FINAL and task.state != "EXPIRED"]
        self.expect(counts.ended == len(kept), "kept results add up")
        sizes = [len(outcome.body) for outcome in kept if outcome is not None and isinstance(outcome.body, bytes)]
        self.expect(counts.result_bytes == sum(sizes), "bytes of results add up")
        mine = {name: client.live for name, client in core._results.clients.items() if client.live}
        self.expect(mine == dict(Counter(task.client for task in live)), "clients' unfinished tasks add up")
        for session, worker in core._workers.by_session.items():
            places = len(worker.held) + len(worker.ghosts)
            self.expect(places == len(self._books.posts[session].attempts), "a worker's places add up")

    def _waking(self, events: Sequence[said.Event], effects: Effects, now: float) -> None:
        at = self._core.next_wakeup()
        busy = bool(events or effects.results or effects.assigned or effects.forgotten or effects.lost)
        self._idle_wakes = 0 if busy or at is None or at > now else self._idle_wakes + 1
        self.expect(self._idle_wakes < 5, f"the core wakes for nothing at {now}: {at}")

    # ---- the end -----------------------------------------------------------------------------------------------------

    def ends(self, clients: list[Client]) -> None:
        """After the calm: everything has come to its end, and who waits for one has it."""
        left = [f"{task.task_id.hex()} is {task.state}, {task.limits}" for task in self._live.values()]
        self.expect(not left, f"{len(left)} tasks never end: {left[:1]}")
        unheard = self.unheard(clients)
        self.expect(not unheard, f"{len(unheard)} ends are never heard of: {unheard[:3]}")

    def unheard(self, clients: list[Client]) -> list[str]:
        """Return the ends that are known here and that a client still waits for."""
        return [
            f"{task_id.hex()} of {client.name}"
            for client in clients
            if client.deliver
            for task_id in client.waits_for
            if (task := self._core.find(task_id)) is not None and task.state != "EXPIRED"
        ]


def _spent(task: Task) -> int:
    """Return how many retries a task has used."""
    budget, limits = task.budget, task.limits
    if budget is None:
        return 0
    allowed = limits.retries_error + limits.retries_lost + limits.retries_memory
    return allowed - budget.error - budget.lost - budget.memory


def _lost_left(task: Task) -> int:
    return task.limits.retries_lost if task.budget is None else task.budget.lost
