"""The dispatcher's one entry: `step(events, now)` turns events into effects. No clock, no socket, no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import inf
from typing import Any

from strata_zmq.domain.task import State, Task
from strata_zmq.functions.dispatch import events as said
from strata_zmq.functions.dispatch.acceptance import Acceptance
from strata_zmq.functions.dispatch.config import CoreConfig, CoreCounts
from strata_zmq.functions.dispatch.deadlines import Deadlines
from strata_zmq.functions.dispatch.effects import Effects
from strata_zmq.functions.dispatch.ends import Ends
from strata_zmq.functions.dispatch.enlistment import Enlistment
from strata_zmq.functions.dispatch.placement import Placement
from strata_zmq.functions.dispatch.queue import Queue
from strata_zmq.functions.dispatch.records import Recovered
from strata_zmq.functions.dispatch.recovery import recover
from strata_zmq.functions.dispatch.results import Results
from strata_zmq.functions.dispatch.retries import Retries
from strata_zmq.functions.dispatch.services import Services
from strata_zmq.functions.dispatch.workers import Worker, Workers
from strata_zmq.functions.dispatch.world import World

__all__ = ["Core", "CoreConfig", "CoreCounts"]


class Core:
    """All decisions of one dispatcher. The same events give the same effects, on any machine, in any year.

    One thread owns it. Payloads and results are objects that it carries and never looks into.
    """

    def __init__(self, config: CoreConfig, recovered: Recovered | None = None) -> None:
        self._world = World(config)
        self._queue = Queue()
        self._deadlines = Deadlines()
        self._services = Services()
        self._workers = Workers(config)
        self._retries = Retries(self._world)
        self._results = Results(self._world, self._deadlines)
        self._ends = Ends(
            self._world,
            self._queue,
            self._workers,
            results=self._results,
            deadlines=self._deadlines,
            retries=self._retries,
            services=self._services,
        )
        self._enlistment = Enlistment(self._world, self._workers, self._ends, self._deadlines)
        self._placement = Placement(self._world, self._queue, self._workers, self._services, self._ends)
        self._acceptance = Acceptance(
            self._world,
            self._queue,
            self._workers,
            results=self._results,
            deadlines=self._deadlines,
            retries=self._retries,
        )
        self._from_clients: dict[type, Callable[[Any], None]] = {
            said.Submitted: self._acceptance.submit,
            said.CancelAsked: self._ends.cancel,
            said.Attached: self._attach,
            said.Detached: self._detach,
            said.Watched: self._watch,
            said.ResultsSeen: self._see,
            said.WorkerEnlisted: self._enlistment.enlist,
        }
        self._from_workers: dict[type, Callable[[Worker, Any], None]] = {
            said.Finished: self._finish,
            said.BeginAsked: self._ask,
            said.Started: self._start,
            said.Returned: self._return,
            said.Wanted: _want,
            said.WorkerAlive: _live,
            said.WorkerRetiring: _retire,
            said.WorkerLost: self._lose,
        }
        self._stepped = False
        if recovered is not None:
            recover(
                recovered,
                self._world,
                self._queue,
                results=self._results,
                deadlines=self._deadlines,
                enlistment=self._enlistment,
                acceptance=self._acceptance,
            )

    def step(self, events: Sequence[said.Event], now: float) -> Effects:
        """Take a batch of events at `now` (seconds of any clock that never goes back) and return what follows.

        First comes what is due by then, then the events in their order, then the leases that have run out (a word in
        this batch renews one) and recalls that are not answered, then waiting tasks are handed out.
        """
        world = self._world
        effects = world.begin(now)
        self._workers.note_step(now)
        if not self._stepped:
            self._stepped = True
            self._enlistment.begin_waiting()
        # What ends in this step is told before it can be too much to keep.
        self._results.expire()
        self._deadlines.pass_by(now, self._ends.due)
        self._acceptance.expire()
        sessions, from_clients, from_workers = self._workers.by_session, self._from_clients, self._from_workers
        lease_end = now + world.config.lease_s
        for event in events:
            kind = type(event)
            handle = from_clients.get(kind)
            if handle is not None:
                handle(event)
                continue
            worker = sessions.get(event.session)  # type: ignore[union-attr]
            if worker is None:
                if kind is said.Finished:
                    world.late_results += len(event.outcomes)  # type: ignore[union-attr]
                continue
            worker.expires_at = lease_end
            from_workers[kind](worker, event)
        self._enlistment.expire()
        self._placement.take_back()
        self._placement.place()
        self._placement.watch_stalls()
        return effects

    def next_wakeup(self) -> float | None:
        """Return when `step` has something to do even without an event; None: never."""
        at = min(self._enlistment.next_wakeup(), self._results.next_wakeup(), self._placement.next_wakeup())
        due = self._deadlines.next()
        if due is not None and due < at:
            at = due
        return None if at == inf else at

    def find(self, task_id: bytes) -> Task | None:
        """Return what is known of a task; one that is EXPIRED has no result any more."""
        return self._world.tasks.get(task_id)

    def page(self, after: bytes, limit: int, state: State | None) -> list[Task]:
        """Return up to `limit` tasks in the order of their acceptance, of one state or of all.

        `after` is the id of the last task of the page before, empty for the first page. After an id that is no longer
        known there is nothing. An EXPIRED task counts for how it ended, too. The walk begins at the oldest task: 25 ns
        for each that is passed over.
        """
        tasks = self._world.tasks
        if after and after not in tasks:
            return []
        ids = iter(tasks)
        if after:
            # Takes ids from the iterator up to this one.
            after in ids  # noqa: B015
        found = (tasks[task_id] for task_id in ids)
        wanted = (task for task in found if state is None or task.state == state or task.ended_as == state)
        return list(islice(wanted, limit))

    def counts(self) -> CoreCounts:
        """Return how much there is."""
        world = self._world
        workers = self._workers.by_session
        return CoreCounts(
            queued=world.live - world.running,
            running=world.running,
            ended=self._results.kept(),
            workers=len(workers),
            slots=sum(worker.slots for worker in workers.values()),
            queued_bytes=world.queued_bytes,
            result_bytes=world.result_bytes,
            accepted_total=world.accepted_total,
            ended_total=world.ended_total,
            late_results=world.late_results,
            failed_total=world.failed_total,
            cancelled_total=world.cancelled_total,
            requeued_total=world.requeued_total,
        )

    def workers(self) -> Iterable[Worker]:
        """Return the workers that are enlisted, to be looked at."""
        return self._workers.by_session.values()

    def collect_ended(self, wanted: bool) -> None:
        """Have `ended` hold the tasks that end in each step, or no longer."""
        world = self._world
        world.ended = (world.ended or []) if wanted else None

    def ended(self) -> Sequence[Task]:
        """Return the tasks that ended in the last step, if they are collected."""
        return self._world.ended or ()

    def credit_of(self, session: int) -> int:
        """Return how many tasks more a worker may get, of the function that it got last; for tests and the log.

        A worker that has stalled gets no more than its slots, whatever its credit is.
        """
        worker = self._workers.by_session.get(session)
        if worker is None or worker.retiring:
            return 0
        last = next(reversed(worker.held.values()), None)
        held = len(worker.held) + len(worker.ghosts)
        return max(0, self._placement.credit(worker, last.function if last is not None else b"") - held)

    def held_by(self, session: int) -> Sequence[said.Attempt]:
        """Return the attempts that a worker has and that somebody waits for, in the order of their assignment."""
        worker = self._workers.by_session.get(session)
        return [(task.task_id, task.attempt) for task in worker.held.values()] if worker is not None else []

    # ---- events ------------------------------------------------------------------------------------------------------

    def _attach(self, event: said.Attached) -> None:
        self._results.attach(event.client, deliver=event.deliver)

    def _detach(self, event: said.Detached) -> None:
        self._ends.abandon(self._results.detach(event.client, abandon=event.abandon))

    def _watch(self, event: said.Watched) -> None:
        self._results.watch(event.client, event.task_ids, event.until)

    def _see(self, event: said.ResultsSeen) -> None:
        self._results.seen(event.client, event.task_ids)

    def _finish(self, worker: Worker, event: said.Finished) -> None:
        self._ends.finished(worker, event.outcomes)

    def _ask(self, worker: Worker, event: said.BeginAsked) -> None:
        self._ends.asked(worker, event.attempts)

    def _start(self, worker: Worker, event: said.Started) -> None:
        self._ends.started(worker, event.attempts)

    def _return(self, worker: Worker, event: said.Returned) -> None:
        self._ends.returned(worker, event.attempts)

    def _lose(self, worker: Worker, event: said.WorkerLost) -> None:
        self._enlistment.lose(worker.session, event.reason)


def _want(worker: Worker, event: said.Wanted) -> None:
    worker.want = event.count


def _live(worker: Worker, event: said.WorkerAlive) -> None:
    """Its lease is renewed; that is all."""


def _retire(worker: Worker, event: said.WorkerRetiring) -> None:
    worker.retiring = True
