"""The simulated jobs: asked for under the same rules as real ones, and then only played. Nothing is started."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import exp

import msgspec

from strata_zmq.coordinator.api.state.job_file import JobType, Parameter, job_type_of
from strata_zmq.coordinator.api.state.logbook import LogBook
from strata_zmq.coordinator.api.state.models import CreateJob
from strata_zmq.coordinator.api.state.rows import Job, JobStatus, JobTemplate, LogLine
from strata_zmq.errors import AlreadyExistsError, NotFoundError, ResourceExhaustedError

__all__ = ["TYPES", "SimulatedJobs"]

_BEGINS_S, _STOPS_S, _RUNS_S = 1.0, 2.0, 60.0
_RUNNING_MAX = 16
_KEPT = 50


def _type(name: str, description: str, workers_max: int, parameters: Sequence[Parameter]) -> JobType:
    return JobType(
        type=name,
        description=description,
        program=f"{name}.py",
        module=False,
        arguments=(),
        workers_max=workers_max,
        writers=0,
        checkpoint_path="",
        environment={},
        parameters={one.name: one for one in parameters},
    )


TYPES = {
    one.type: one
    for one in (
        _type(
            "digits",
            "Digits, a small network",
            8,
            [
                Parameter("epochs", "int", 3, 1, 100),
                Parameter("learning_rate", "float", 0.05, 0.0001, 1.0),
                Parameter("augment", "bool", default=False),
            ],
        ),
        _type(
            "evaluate", "The last checkpoint on the test set", 2, [Parameter("split", "text", "test", pattern="[a-z]+")]
        ),
    )
}


@dataclass(slots=True)
class _Run:
    row: Job
    lines: LogBook
    at: float
    """When its state began."""
    steps: int = 0
    stopping: bool = False


class SimulatedJobs:
    """Jobs that take a second to begin, two to stop, and a minute to end; the clock says how far each one is."""

    stops_training = False

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._changes = 0
        self._made = 0
        self._add(CreateJob(name="first-look", type="digits", dataset_id="images", config={"epochs": 1}))

    @property
    def version(self) -> int:
        """A number that rises when `rows` or `templates` would answer otherwise than before."""
        self._go_on()
        return self._changes

    def rows(self) -> Sequence[Job]:
        """Return the jobs, newest first."""
        self._go_on()
        return [run.row for run in reversed(self._runs.values())]

    def templates(self) -> Sequence[JobTemplate]:
        """Return what may be started."""
        return [one.row() for one in TYPES.values()]

    async def create(self, asked: CreateJob) -> str:
        """Seem to start a job."""
        job_type_of(TYPES, asked.type).prepare(asked)
        if sum(run.row.ended_at is None for run in self._runs.values()) >= _RUNNING_MAX:
            raise ResourceExhaustedError(f"{_RUNNING_MAX} jobs run already: stop one, or wait until one has ended")
        return self._add(asked)

    async def stop(self, job_id: str) -> JobStatus:
        """Seem to ask a job to stop."""
        run = self._run(job_id)
        if run.row.ended_at is not None:
            raise AlreadyExistsError(f"{job_id} has ended already: there is nothing to stop")
        if not run.stopping:
            run.stopping, run.at = True, self._clock()
        return run.row.status

    def logs(self, job_id: str) -> LogBook:
        """Return a job's lines."""
        return self._run(job_id).lines

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after nothing: the clock does."""
        yield

    def _run(self, job_id: str) -> _Run:
        self._go_on()
        if job_id not in self._runs:
            raise NotFoundError(f"no job of id {job_id[:128]!r} was started here")
        return self._runs[job_id]

    def _add(self, asked: CreateJob) -> str:
        self._made += 1
        self._changes += 1
        now = self._clock()
        job_id = f"{asked.name}-{self._made}"
        row = Job(
            id=job_id,
            name=asked.name,
            type=asked.type,
            status="pending",
            dataset_id=asked.dataset_id,
            worker_count=asked.worker_count,
            config=dict(asked.config),
            created_at=int(now * 1000),
            started_at=None,
            ended_at=None,
            exit_code=None,
            pid=None,
            origin="api",
            stoppable=True,
            message="simulated: nothing was started",
        )
        self._runs[job_id] = _Run(row, LogBook(), now)
        for name in list(self._runs)[: max(0, len(self._runs) - _KEPT)]:
            del self._runs[name]
        return job_id

    def _go_on(self) -> None:
        now = self._clock()
        for run in self._runs.values():
            if run.row.ended_at is None:
                self._move(run, now)

    def _move(self, run: _Run, now: float) -> None:
        age = now - run.at
        if run.stopping:
            if age >= _STOPS_S:
                self._end(run, run.at + _STOPS_S, "stopped", "stopped: what was committed stays")
            return
        if run.row.status == "pending":
            if age >= _BEGINS_S:
                run.at += _BEGINS_S
                run.row = msgspec.structs.replace(run.row, status="running", started_at=int(run.at * 1000))
                self._changes += 1
                self._say(run, run.at, f"{run.row.worker_count} workers join demo")
            return
        while run.steps < min(age, _RUNS_S):
            run.steps += 1
            self._say(run, run.at + run.steps, f"step {run.steps}: loss {2.3 * exp(-run.steps / 40):.4f}")
        if age >= _RUNS_S:
            self._end(run, run.at + _RUNS_S, "completed", "done")

    def _end(self, run: _Run, at: float, status: JobStatus, text: str) -> None:
        self._say(run, at, text)
        run.row = msgspec.structs.replace(run.row, status=status, ended_at=int(at * 1000), exit_code=0, stoppable=False)
        self._changes += 1

    def _say(self, run: _Run, at: float, text: str) -> None:
        source = f"{run.row.id}-0"
        run.lines.append(
            LogLine(number=0, timestamp=int(at * 1000), level="info", source=source, message=text, fields={})
        )
