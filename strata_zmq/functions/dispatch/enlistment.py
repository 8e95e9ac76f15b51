"""How workers come, come back and go, and what becomes of what they hold; also after the dispatcher's own restart."""

from __future__ import annotations

from math import inf

from strata_zmq.domain.task import FINAL, Task
from strata_zmq.functions.dispatch.deadlines import Deadlines
from strata_zmq.functions.dispatch.ends import BACKSTOP_S, Ends
from strata_zmq.functions.dispatch.events import Phase, WorkerEnlisted
from strata_zmq.functions.dispatch.records import RecoveredTask
from strata_zmq.functions.dispatch.workers import Workers
from strata_zmq.functions.dispatch.world import World

__all__ = ["Enlistment"]


class Enlistment:
    """Begins and ends the sessions of workers."""

    def __init__(self, world: World, workers: Workers, ends: Ends, deadlines: Deadlines) -> None:
        self._world = world
        self._workers = workers
        self._ends = ends
        self._deadlines = deadlines
        self._awaited: dict[str, dict[bytes, Task]] = {}
        """Worker -> recovered tasks that it may have begun with."""
        self._patience_until = inf

    def enlist(self, event: WorkerEnlisted) -> None:
        """Begin a session; what the worker still holds stays its own, and the rest of its older session does not."""
        world = self._world
        if event.session in self._workers.by_session:
            return
        old_session = self._workers.session_of(event.worker_id)
        old = self._workers.end(old_session) if old_session is not None else None
        worker = self._workers.enlist(event, world.now)
        awaited = self._awaited.pop(event.worker_id, {})
        for task_id, attempt, phase in event.held:
            source = old.held if old is not None and task_id in old.held else awaited
            task = source.get(task_id)
            if task is None or task.attempt != attempt or task.state in FINAL:
                self._fence(task_id, attempt)
                continue
            del source[task_id]
            self._ends.limbo.pop(task_id, None)
            self._tell_phase(task, phase)
            if task.asks and phase != "waiting":
                self._ends.begin(task, worker)
            worker.take(task)
        self._ends.stop_again(worker)
        back = [task for task in awaited.values() if task.state not in FINAL]
        for task in back:
            self._ends.limbo.pop(task.task_id, None)
        self._ends.requeue(back)
        if old is not None:
            reason = f"it has enlisted again, as session {event.session}"
            world.effects.lost.append((old.session, reason))
            self._ends.lose(old, f"{reason}, without this task")

    def lose(self, session: int, reason: str) -> None:
        """End a session for good."""
        worker = self._workers.end(session)
        if worker is None:
            return
        self._world.effects.lost.append((session, reason))
        self._world.note(f"worker {worker.worker_id} is gone: {reason}")
        self._ends.lose(worker, reason)

    def expire(self) -> None:
        """End the leases that have run out, and the patience with workers of an earlier life."""
        world = self._world
        for worker in self._workers.expired(world.now):
            self.lose(worker.session, f"it has said nothing for its lease of {world.config.lease_s:g} s")
        if world.now >= self._patience_until:
            self._patience_until = inf
            awaited, self._awaited = self._awaited, {}
            for worker_id, tasks in awaited.items():
                gone = [task for task_id, task in tasks.items() if self._ends.limbo.pop(task_id, None) is not None]
                self._ends.lost_together(gone, worker_id, "it has not come back since the dispatcher was restarted")

    def await_worker(self, row: RecoveredTask) -> None:
        """Wait for the worker that may have begun with a recovered task."""
        task = row.task
        self._ends.limbo[task.task_id] = task
        self._awaited.setdefault(row.worker_id, {})[task.task_id] = task

    def begin_waiting(self) -> None:
        """The first step: one lease from now the awaited ones are lost."""
        if self._awaited:
            self._patience_until = self._world.now + self._world.config.lease_s

    def next_wakeup(self) -> float:
        """Return when somebody may be lost, at the earliest; inf: nobody will be."""
        return min(self._patience_until, self._workers.next_wakeup())

    def _fence(self, task_id: bytes, attempt: int) -> None:
        """Use no number again under which a worker has a task that was submitted to an earlier life, and again to this.

        Nothing was written down of such a task, and its numbers have begun anew.
        """
        task = self._world.tasks.get(task_id)
        if task is not None and task.attempt < attempt and task.state == "QUEUED" and not task.worker:
            task.attempt = attempt

    def _tell_phase(self, task: Task, phase: Phase) -> None:
        world = self._world
        if phase == "waiting" and task.state == "RUNNING":
            # It was told as started, and its child has died before it got there.
            task.state, task.started_at = "QUEUED", 0.0
            world.running -= 1
        elif phase != "waiting" and task.state == "QUEUED":
            # Also what is done has begun: lost with this worker, it must not run a second time for nothing.
            task.state, task.started_at = "RUNNING", world.now
            world.running += 1
            if task.limits.attempt_s > 0:
                self._deadlines.add(world.now + task.limits.attempt_s + BACKSTOP_S, "attempt", task)
