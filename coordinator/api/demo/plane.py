"""The simulated function plane: calls that come, run and end, and answers about each. It executes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from math import sin
from random import Random

from strata_zmq import __version__
from strata_zmq.domain.task import Outcome, OutcomeReport, TaskLimits
from strata_zmq.errors import UnavailableError
from strata_zmq.functions.calls import PackedCall, TaskView
from strata_zmq.protocol.functions import Counts
from strata_zmq.protocol.sight import Changes
from strata_zmq.protocol.sight_rows import EventSight, FunctionsSight, FunctionWorkerSight

from .told import Told
from .words import FAILURES, PLANE_SETTINGS

__all__ = ["Plane", "SimulatedTasks"]

_WORKERS, _SLOTS = 2, 4
_ENDED_MAX = 500
_NOTHING = "this is a demo: nothing is executed here; start `strata functions up` and ask its API"


@dataclass(slots=True)
class _Task:
    view: TaskView
    ends_at: float = 0.0
    worker: int = 0


class Plane:
    """A dispatcher and its workers, a second at a time."""

    def __init__(self, *, seed: int, start: float) -> None:
        self._random = Random(seed)  # noqa: S311 - nothing is secret
        self._start = start
        self._second = 0
        self.tasks: dict[bytes, _Task] = {}
        """In the order of their acceptance; of those that have ended the last few."""
        self._totals = dict.fromkeys(("accepted", "ended", "completed", "failed", "requeued"), 0)
        self._events = 0
        self._told = Told()
        for row in PLANE_SETTINGS:
            self._told.row("settings", row)
        self._tell(start)

    def advance(self, now: float) -> Changes:
        """Go on up to `now`; returns what has changed."""
        while self._start + self._second + 1 <= now:
            self._second += 1
            at = self._start + self._second
            self._end(at)
            self._accept(at)
            self._begin(at)
            self._forget()
            self._tell(at)
        return self._told.take()

    def _of(self, state: str) -> list[_Task]:
        return [task for task in self.tasks.values() if task.view.state == state]

    def _accept(self, at: float) -> None:
        wave = 1 + sin((at - self._start) / 40)
        for _ in range(self._random.randint(0, round(2.5 + 2.5 * wave))):
            task_id = self._random.getrandbits(128).to_bytes(16, "big")
            self._totals["accepted"] += 1
            submitted_at = at - self._random.uniform(0.0, 0.9)
            self.tasks[task_id] = _Task(TaskView(task_id, "QUEUED", submitted_at=submitted_at))

    def _begin(self, at: float) -> None:
        running = self._of("RUNNING")
        for task, place in zip(self._of("QUEUED"), range(len(running), _WORKERS * _SLOTS), strict=False):
            view = task.view
            task.view = replace(view, state="RUNNING", attempt=view.attempt + 1, started_at=at)
            task.ends_at = at + self._random.uniform(0.3, 2.6)
            task.worker = place % _WORKERS

    def _end(self, at: float) -> None:
        for task in self._of("RUNNING"):
            if task.ends_at > at:
                continue
            if self._random.random() < 0.01:
                self._totals["requeued"] += 1  # its worker was lost: it is tried again
                task.view = replace(task.view, state="QUEUED", started_at=0.0)
                continue
            failed = self._random.random() < 0.03
            task.view = replace(
                task.view,
                state="FAILED" if failed else "COMPLETED",
                ended_at=task.ends_at,
                outcome=self._outcome(task, failed=failed),
            )
            self._totals["ended"] += 1
            self._totals["failed" if failed else "completed"] += 1
            if failed and task.view.outcome is not None and task.view.outcome.report is not None:
                report = task.view.outcome.report
                self._note(at, task.view.task_id, f"{report.type_name}: {report.text}")

    def _outcome(self, task: _Task, *, failed: bool) -> Outcome:
        view, worker = task.view, f"function-worker-{task.worker}"
        service_s = task.ends_at - view.started_at
        if failed:
            kind, text, traceback = self._random.choice(FAILURES)
            report = OutcomeReport(text=text, type_name=kind, traceback=traceback, worker=worker)
            return Outcome(view.task_id, view.attempt, "error", None, service_s, report=report)
        report = OutcomeReport(worker=worker, stdout=f"featurized {self._random.randint(200, 4000)} rows\n")
        return Outcome(view.task_id, view.attempt, "ok", None, service_s, report=report)

    def _forget(self) -> None:
        ended = [task.view.task_id for task in self.tasks.values() if task.view.ended_at]
        for task_id in ended[: max(0, len(ended) - _ENDED_MAX)]:
            del self.tasks[task_id]

    def _note(self, at: float, task_id: bytes, why: str) -> None:
        self._events += 1
        text = f"task {task_id.hex()[:8]} has failed: {why}"
        row = EventSight(
            number=self._events, at=at, kind="task_failed", level="warning", text=text, subject=task_id.hex()
        )
        self._told.row("events", row)

    def _tell(self, at: float) -> None:
        running = self._of("RUNNING")
        totals = self._totals
        queued = len(self._of("QUEUED"))
        self._told.row(
            "functions",
            FunctionsSight(
                incarnation="demo",
                version=__version__,
                mode="pull",
                store="memory",
                started_at=self._start,
                queued=queued,
                running=len(running),
                ended=len(self.tasks) - queued - len(running),
                workers=_WORKERS,
                slots=_WORKERS * _SLOTS,
                queued_bytes=2_048 * queued,
                result_bytes=310 * totals["completed"],
                accepted_total=totals["accepted"],
                ended_total=totals["ended"],
                completed_total=totals["completed"],
                failed_total=totals["failed"],
                cancelled_total=0,
                requeued_total=totals["requeued"],
                late_results=0,
            ),
        )
        for place in range(_WORKERS):
            held = sum(task.worker == place for task in running)
            self._told.row(
                "function_workers",
                FunctionWorkerSight(
                    session=place + 1,
                    worker_id=f"function-worker-{place}",
                    mode="pull",
                    python="3.12",
                    slots=_SLOTS,
                    held=held,
                    running=held,
                    retiring=False,
                    stalled=False,
                    moved_at=at,
                    expires_at=at + 5.0,
                ),
            )


class SimulatedTasks:
    """A dispatcher's client, as the API uses one: it tells of the plane's tasks, and takes no calls."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def register(self, name: str, payload: bytes, function_id: bytes = b"") -> bytes:
        """Refuse: nothing is executed here."""
        raise UnavailableError(_NOTHING)

    async def submit(self, calls: Sequence[tuple[bytes, PackedCall]], limits: TaskLimits) -> Sequence[_Refused]:
        """Refuse: nothing is executed here."""
        return [_Refused(task_id) for task_id, _ in calls]

    async def fetch(self, task_ids: Sequence[bytes], *, bodies: bool = True) -> Sequence[TaskView]:
        """Return what is known of tasks."""
        known = self._plane.tasks
        return [known[one].view if one in known else TaskView(one, "UNKNOWN") for one in task_ids]

    async def watch(
        self, task_ids: Sequence[bytes], timeout_s: float, *, bodies: bool = True
    ) -> AsyncIterator[TaskView]:
        """Yield those that have ended."""
        for view in await self.fetch(task_ids, bodies=bodies):
            if view.ended_at:
                yield view

    async def cancel(self, task_ids: Sequence[bytes], *, running: bool) -> Sequence[str]:
        """Cancel nothing, and return the states."""
        return [view.state for view in await self.fetch(task_ids)]

    async def page(self, after: bytes = b"", limit: int = 100, state: str = "") -> Sequence[TaskView]:
        """Return some tasks in the order of their acceptance."""
        ids = list(self._plane.tasks)
        first = ids.index(after) + 1 if after in self._plane.tasks else 0
        views = [self._plane.tasks[one].view for one in ids[first:]]
        wanted: Callable[[TaskView], bool] = lambda view: not state or view.state == state  # noqa: E731
        return list(filter(wanted, views))[:limit]

    async def counts(self) -> Counts:
        """Refuse: the plane's figures are in its rows."""
        raise UnavailableError(_NOTHING)

    async def close(self) -> None:
        """Do nothing: there is no connection."""


@dataclass(frozen=True, slots=True)
class _Refused:
    task_id: bytes
    code: str = UnavailableError.code
    message: str = _NOTHING
    retry_after_s: float = 0.0
