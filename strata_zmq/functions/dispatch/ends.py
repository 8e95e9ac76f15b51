"""How attempts begin and end: started, finished, given back, lost, cancelled, too late; never who gets the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from strata_zmq.domain.task import Budget, Cause, Outcome, OutcomeReport, State, Task, Trigger, move
from strata_zmq.functions.dispatch.deadlines import Deadlines, Due
from strata_zmq.functions.dispatch.effects import CancelVerdicts
from strata_zmq.functions.dispatch.events import Attempt, CancelAsked
from strata_zmq.functions.dispatch.queue import Queue
from strata_zmq.functions.dispatch.records import Begun, Requeued
from strata_zmq.functions.dispatch.results import Results
from strata_zmq.functions.dispatch.retries import Retries
from strata_zmq.functions.dispatch.services import Services
from strata_zmq.functions.dispatch.workers import Worker, Workers
from strata_zmq.functions.dispatch.world import World, story

__all__ = ["BACKSTOP_S", "REST_S", "Ends"]

_NEVER = inf
_FREE: frozenset[Cause] = frozenset({"worker_lost", "killed", "exited", "out_of_memory"})
"""What costs a task nothing that it had not started for."""
_TRIGGERS: dict[State, Trigger] = {"FAILED": "fail", "CANCELLED": "cancel"}
REST_S = 0.1
"""How long a worker gets nothing that has given tasks back unasked."""
BACKSTOP_S = 30.0
"""How long after `attempt_s` the core ends an attempt itself, whose worker should have done it.

The worker counts from the moment when the function is called, the core from when it was told that the call is about to
be handed to a child. What lies between is a child's start, which takes seconds on a busy machine.
"""


class Ends:
    """Every way in which a task leaves a worker or comes to its end."""

    def __init__(
        self,
        world: World,
        queue: Queue,
        workers: Workers,
        *,
        results: Results,
        deadlines: Deadlines,
        retries: Retries,
        services: Services,
    ) -> None:
        self._world = world
        self._queue = queue
        self._workers = workers.by_session
        self._results = results
        self._deadlines = deadlines
        self._retries = retries
        self._services = services
        self.limbo: dict[bytes, Task] = {}
        """Recovered tasks whose worker may still have them: in no queue, with no session."""
        self._cancelling: set[bytes] = set()
        """Tasks that are to be stopped and have not ended; looked up, never walked through."""

    # ---- what workers say --------------------------------------------------------------------------------------------

    def asked(self, worker: Worker, attempts: Sequence[Attempt]) -> None:
        """Let attempts begin that are still the worker's, once that is written down; of others there is no answer."""
        held = worker.held
        granted: list[Attempt] = []
        for attempt in attempts:
            task = held.get(attempt[0])
            if task is None or task.attempt != attempt[1] or attempt[0] in self._cancelling:
                continue
            if task.asks:
                self.begin(task, worker)
            granted.append(attempt)
        if granted:
            self._world.effects.may_begin.setdefault(worker.session, []).extend(granted)

    def begin(self, task: Task, worker: Worker) -> None:
        """Write down that a task's present attempt, which asks, may begin where it is."""
        task.asks = False
        self._world.effects.records.append(Begun(task.task_id, task.attempt, worker.worker_id))

    def started(self, worker: Worker, attempts: Sequence[Attempt]) -> None:
        """Note that attempts are in the hands of a child."""
        world = self._world
        held, now = worker.held, world.now
        count = 0
        for task_id, attempt in attempts:
            task = held.get(task_id)
            if task is None or task.attempt != attempt or task.state != "QUEUED":
                continue
            task.state = "RUNNING"
            task.started_at = now
            count += 1
            if task.asks:
                self.begin(task, worker)
            if task.limits.attempt_s > 0:
                self._deadlines.add(now + task.limits.attempt_s + BACKSTOP_S, "attempt", task)
        worker.started += count
        world.running += count

    def finished(self, worker: Worker, outcomes: Sequence[Outcome]) -> None:
        """Take the ends of attempts. One that is no longer its task's is counted, and changes nothing."""
        world = self._world
        held, now = worker.held, world.now
        labelled = bool(worker.labels)
        done: list[Task] = []
        finish = done.append
        times: dict[bytes, list[float]] = {}
        function: bytes | None = None
        measure: Callable[[float], None] = _ignore
        ended = started = nbytes = 0
        for outcome in outcomes:
            task_id = outcome.task_id
            task = held.get(task_id)
            if task is None or task.attempt != outcome.attempt:
                self._late(worker, outcome)
                continue
            del held[task_id]
            ended += 1
            nbytes += task.nbytes
            if labelled:
                worker.give_back(task)
            if task.state == "RUNNING":
                started += 1
            task.worker = 0
            kind = outcome.kind
            if outcome.service_s > 0 and kind != "failure":
                if task.function != function:
                    function = task.function
                    measure = times.setdefault(function, []).append
                measure(outcome.service_s)
            if kind == "ok":
                task.state = "COMPLETED"
                task.outcome = outcome
                task.ended_at = now
                finish(task)
            else:
                self._failed(task, outcome, done)
        if not ended:
            return
        worker.started -= started
        worker.nbytes -= nbytes
        world.running -= started
        worker.moved_at = now
        worker.stalled = False
        worker.recall_until = _NEVER
        for digest, seconds in times.items():
            self._services.add(digest, seconds)
        if done:
            if self._retries.deaths or self._cancelling:
                self._forgive(done)
            self._results.take(done)

    def returned(self, worker: Worker, attempts: Sequence[Attempt]) -> None:
        """Take unstarted attempts back: they wait before all others again, and have cost nothing."""
        asked = worker.recall_until != _NEVER
        worker.recall_until = _NEVER
        back: list[Task] = []
        for attempt in attempts:
            task = worker.held.get(attempt[0])
            if task is None or task.attempt != attempt[1]:
                worker.lay(attempt)
                continue
            worker.drop(task)
            back.append(task)
        if back and not asked:
            # Given to it again at once, they would be back at once.
            if worker.started >= worker.slots:
                worker.stalled = True
            else:
                worker.rests_until = self._world.now + REST_S
        self.requeue(back)

    def lose(self, worker: Worker, reason: str) -> None:
        """Place what a worker held whose session has ended: what had started is lost, the rest goes elsewhere."""
        gone: list[Task] = []
        back: list[Task] = []
        for task in worker.held.values():
            if task.state == "RUNNING":
                gone.append(task)
            else:
                back.append(task)
        worker.held = {}
        worker.ghosts = {}
        self.lost_together(gone, worker.worker_id, reason)
        self.requeue(back)

    def lost_together(self, tasks: Sequence[Task], worker_id: str, reason: str) -> None:
        """End attempts that one worker had begun which is gone: one death of a function, however many calls of it."""
        died: set[bytes] = set()
        for task in tasks:
            self._lost(task, worker_id, reason, blame=task.function not in died)
            died.add(task.function)

    # ---- what clients say --------------------------------------------------------------------------------------------

    def cancel(self, event: CancelAsked) -> None:
        """Cancel what waits; have stopped what a worker has."""
        states: list[State | None] = []
        for task_id in event.task_ids:
            task = self._world.tasks.get(task_id)
            if task is None:
                states.append(None)
                continue
            if task.state == "QUEUED" or (task.state == "RUNNING" and event.running):
                self._stop(task, f"it was cancelled by {event.client}")
            states.append(task.state)
        self._world.effects.verdicts.append(CancelVerdicts(event.client, event.seq, tuple(states)))

    def abandon(self, tasks: Sequence[Task]) -> None:
        """Cancel what nobody will read, where no worker has it yet."""
        for task in tasks:
            if task.state == "QUEUED" and not task.worker and task.task_id not in self.limbo:
                self.end(task, "CANCELLED", "cancelled", f"it was cancelled: its client {task.client} is gone")

    def stop_again(self, worker: Worker) -> None:
        """Ask for the end of what a worker has brought into a new session and is to be stopped."""
        for task in worker.held.values():
            if task.task_id in self._cancelling:
                self._ask_to_stop(worker.session, task)

    # ---- what time says ----------------------------------------------------------------------------------------------

    def due(self, due: Due, task: Task) -> None:
        """A task's time is over."""
        limits = task.limits
        if due == "keep":
            self._results.forget(task)
        elif due == "queue":
            self.end(task, "FAILED", "queue_expired", f"it waited longer than its queue_s: {limits.queue_s:g} s")
        elif due == "total":
            self.end(task, "FAILED", "deadline", f"exceeded deadline of {limits.total_s:g} s from its submission")
        else:
            self.end(task, "FAILED", "deadline", f"exceeded deadline of {limits.attempt_s:g} s for one attempt")

    # ---- the core's own decisions ------------------------------------------------------------------------------------

    def end(self, task: Task, state: State, cause: Cause, text: str) -> None:
        """End a task, wherever it is. A worker that has it is asked to stop, and its place stays taken until then."""
        started = task.state == "RUNNING"
        worker = self._workers.get(task.worker) if task.worker else None
        if worker is not None:
            worker.haunt(task)
            self._ask_to_stop(worker.session, task)
        elif self.limbo.pop(task.task_id, None) is None:
            self._queue.left(task)
        if started:
            self._world.running -= 1
        outcome = _failure(task, cause, text, worker.worker_id if worker is not None else "")
        outcome.started = started
        self._finish(task, outcome, state)
        self._results.take([task])

    def requeue(self, tasks: Sequence[Task]) -> None:
        """Let unstarted tasks, which no worker holds any more, wait before all others in their order."""
        front: list[Task] = []
        for task in tasks:
            if task.state == "RUNNING":
                self._world.running -= 1
            self._unhand(task)
            if self._may_wait(task):
                self._note_requeued(task, begun=not task.asks)
                front.append(task)
        self._queue.front(front)

    def withdraw(self, worker: Worker) -> None:
        """Take a worker's unstarted tasks from it, which it has not given back when it was asked.

        A durable one that may begin is not taken: that it has begun may be on its way here, and it must not run twice.
        """
        held = worker.held.values()
        back = [task for task in held if task.state == "QUEUED" and (task.asks or task.limits.durability == "none")]
        for task in back:
            worker.haunt(task)
            self._ask_to_stop(worker.session, task)
        self.requeue(back)

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _late(self, worker: Worker, outcome: Outcome) -> None:
        self._world.late_results += 1
        worker.lay((outcome.task_id, outcome.attempt))

    def _forgive(self, done: Sequence[Task]) -> None:
        deaths, cancelling = self._retries.deaths, self._cancelling
        for task in done:
            if task.state == "COMPLETED":
                deaths.pop(task.function, None)
                cancelling.discard(task.task_id)

    def _failed(self, task: Task, outcome: Outcome, done: list[Task]) -> None:
        if outcome.cause == "cancelled":
            self._finish(task, outcome, "CANCELLED")
            done.append(task)
        elif outcome.kind == "error":
            self._retries.deaths.pop(task.function, None)
            self._again_or_end(task, outcome, done)
        elif outcome.cause in ("worker_lost", "killed", "exited"):
            self._lost_or_again(task, outcome, done, blame=True)
        else:
            self._again_or_end(task, outcome, done)

    def _lost(self, task: Task, worker_id: str, reason: str, *, blame: bool) -> None:
        """End an attempt whose worker is gone; nothing holds the task any more."""
        text = f"its worker was lost while it ran: {worker_id}: {reason}"
        outcome = _failure(task, "worker_lost", text, worker_id)
        if task.state == "RUNNING":
            self._world.running -= 1
        done: list[Task] = []
        self._lost_or_again(task, outcome, done, blame=blame)
        self._results.take(done)

    def _lost_or_again(self, task: Task, outcome: Outcome, done: list[Task], *, blame: bool) -> None:
        quarantine = blame and outcome.started and self._retries.death(task)
        self._again_or_end(task, outcome, done)
        if quarantine:
            for waiting in self._queue.each(lambda one: one.function == task.function):
                self._queue.left(waiting)
                self._refuse(waiting)

    def _again_or_end(self, task: Task, outcome: Outcome, done: list[Task]) -> None:
        """Let a task wait again if it may, or end it with this outcome."""
        if task.task_id in self._cancelling:
            # An exception is the task's own end; a lost worker is as good as the cancellation.
            self._finish(task, outcome, "FAILED" if outcome.kind == "error" else "CANCELLED")
            done.append(task)
        elif (not outcome.started and outcome.cause in _FREE) or self._retries.spend(task, outcome.kind, outcome.cause):
            self._unhand(task)
            if self._may_wait(task):
                self._note_requeued(task, begun=outcome.started or not task.asks)
                self._queue.back(task)
        else:
            self._finish(task, outcome, "FAILED")
            done.append(task)

    def _note_requeued(self, task: Task, *, begun: bool) -> None:
        """Write down that an attempt is over of which it is written that it may begin, or that has cost something."""
        task.asks = False
        if begun and task.limits.durability == "commit":
            budget = task.budget
            left = None if budget is None else Budget(budget.error, budget.lost, budget.memory)
            self._world.effects.records.append(Requeued(task.task_id, task.attempt, left))

    def _unhand(self, task: Task) -> None:
        self._world.requeued_total += 1
        task.state = move(task.state, "requeue", story(task))
        task.worker = 0
        task.started_at = 0.0

    def _may_wait(self, task: Task) -> bool:
        """Whether a task that nobody holds may go to the queue; if not, it ends here."""
        if task.task_id in self._cancelling:
            self._finish(
                task, _failure(task, "cancelled", "it was cancelled before it started", started=False), "CANCELLED"
            )
            self._results.take([task])
            return False
        if self._retries.any and self._retries.quarantined(task.function):
            self._refuse(task)
            return False
        return True

    def _refuse(self, task: Task) -> None:
        self._finish(task, _failure(task, "quarantined", "", started=False), "FAILED")
        self._results.take([task])

    def _finish(self, task: Task, outcome: Outcome, state: State) -> None:
        task.state = move(task.state, _TRIGGERS[state], story(task))
        if state == "FAILED":
            self._world.failed_total += 1
        else:
            self._world.cancelled_total += 1
        task.outcome = outcome
        task.ended_at = self._world.now
        task.worker = 0
        self._cancelling.discard(task.task_id)

    def _stop(self, task: Task, text: str) -> None:
        """Cancel a task that has not ended: at once where no worker has it, else with its outcome."""
        worker = self._workers.get(task.worker) if task.worker else None
        if worker is None and task.task_id not in self.limbo:
            self.end(task, "CANCELLED", "cancelled", text)
            return
        self._cancelling.add(task.task_id)
        if worker is not None:
            self._ask_to_stop(worker.session, task)

    def _ask_to_stop(self, session: int, task: Task) -> None:
        self._world.effects.stopped.setdefault(session, []).append((task.task_id, task.attempt))


def _ignore(_: float) -> None:
    """Take the time of no function."""


def _failure(task: Task, cause: Cause, text: str, worker: str = "", *, started: bool = True) -> Outcome:
    report = OutcomeReport(text=text, worker=worker)
    return Outcome(task.task_id, task.attempt, "failure", None, 0.0, cause, report, started)
