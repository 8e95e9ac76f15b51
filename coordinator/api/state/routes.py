"""The state routes' handlers: what of the hub answers which path. They compute nothing, and know no socket."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from fastapi import APIRouter, Request, WebSocket
from starlette.responses import Response

from strata_zmq.coordinator.api.bodies import answer, error_of, id_of, id_text, read_body
from strata_zmq.coordinator.api.link import Link
from strata_zmq.domain.task import Outcome
from strata_zmq.errors import NotFoundError, UnavailableError
from strata_zmq.functions.calls import TaskView

from . import models
from .hub import Hub
from .live import EventStream, serve
from .operations import OPERATIONS, add_routes
from .parameters import read_parameters
from .translate import millis

__all__ = ["state_router"]

_OPERATIONS = {one.name: one for one in OPERATIONS}
_NEAR = 3
_STORY_EVENTS = 200
_STORY_LINES = 200
_SECTIONS = {
    "status": "coordinator",
    "workers": "workers",
    "datasets": "datasets",
    "checkpoints": "checkpoints",
    "barriers": "barriers",
    "metrics": "metrics",
    "settings": "settings",
    "functions": "functions",
    "jobs": "tasks",
    "job_templates": "templates",
}
"""By operation, the section of a dashboard that is its whole answer."""


def state_router(hub: Hub, link: Link) -> APIRouter:
    """Return the routes over a hub; one task's story is asked of the dispatcher over `link`."""
    handlers = _Handlers(hub, link)
    router = APIRouter(tags=["state"])
    named: dict[str, Callable[..., Any]] = {name: _section(hub, section) for name, section in _SECTIONS.items()}
    named |= {name: getattr(handlers, name) for name in _OPERATIONS if name not in named}
    add_routes(router, named)

    async def live(websocket: WebSocket) -> None:
        await serve(websocket, hub.clients)

    router.add_api_websocket_route("/api/live", live)
    return router


class _Handlers:
    """One method an operation that is more than a section."""

    def __init__(self, hub: Hub, link: Link) -> None:
        self._hub, self._link = hub, link

    async def dashboard(self, request: Request) -> Response:
        """Return everything, or 304 where the caller has it."""
        self._hub.catch_up()
        return _cached(request, self._hub, self._hub.dashboard)

    async def health(self, _: Request) -> Response:
        """Say whether this process serves and is fed."""
        return answer(self._hub.health())

    async def worker(self, request: Request) -> Response:
        """Return one worker in full."""
        worker_id = request.path_params["worker_id"]
        rows = self._hub.board.workers.models
        self._known("worker", worker_id, rows)
        coordinator = self._hub.coordinator
        tables = coordinator.picture.tables if coordinator is not None else {}
        stacks = tables.get("stacks", {}).get(worker_id)
        events = [one for one in self._hub.board.events.last() if worker_id in (one.worker_id, one.subject)]
        story = models.WorkerStory(
            worker=rows[worker_id],
            events=events[-_STORY_EVENTS:],
            stacks=stacks.text if stacks else "",
            stacks_at=millis(stacks.at) if stacks else None,
            shards={
                row.dataset_id: count
                for row in tables.get("datasets", {}).values()
                for name, count in row.shards_by_worker
                if name == worker_id
            },
            logs=self._hub.logs.page(limit=_STORY_LINES, source=worker_id).lines,
        )
        return answer(story)

    async def verify(self, request: Request) -> Response:
        """Read a checkpoint again, and return what is known of it then."""
        checkpoint_id = request.path_params["checkpoint_id"]
        self._known("checkpoint", checkpoint_id, self._hub.board.checkpoints.models)
        await self._hub.vault.verify(checkpoint_id)
        self._hub.catch_up()
        row = self._hub.board.checkpoints.models.get(checkpoint_id)
        if row is None:
            raise NotFoundError(f"checkpoint {checkpoint_id!r} was let go while it was read")
        return answer(row)

    async def history(self, request: Request) -> Response:
        """Return series for charts."""
        seconds, end = self._span(request, "history")
        return answer(self._hub.history.read(seconds, end))

    async def timeline(self, request: Request) -> Response:
        """Return a page of the timeline."""
        asked = read_parameters(request, _OPERATIONS["timeline"])
        seconds, end = self._span(request, "timeline")
        page = await self._hub.timeline_beside(seconds, end, asked["offset"], asked["limit"], asked["search"])
        return answer(page)

    async def events(self, request: Request) -> Response:
        """Return what happened, of one kind or subject, or all."""
        asked = read_parameters(request, _OPERATIONS["events"])
        kind, subject = asked["kind"], asked["subject"]
        rows = [
            one
            for one in self._hub.board.events.last()
            if (not kind or one.kind == kind) and (not subject or subject in (one.subject, one.worker_id))
        ]
        return answer(rows[-asked["limit"] :])

    async def function_tasks(self, request: Request) -> Response:
        """Return tasks in the order of their acceptance."""
        asked = read_parameters(request, _OPERATIONS["function_tasks"])
        after = id_of(asked["after"], "task") if asked["after"] else b""
        client = self._link.client
        views = await client.page(after, asked["limit"], asked["state"])
        told = await client.fetch([view.task_id for view in views], bodies=False) if views else []
        outcomes = {view.task_id: view.outcome for view in told}
        tasks = [_task(view, outcomes.get(view.task_id), asked["state"]) for view in views]
        return answer(
            models.FunctionTaskPage(tasks=tasks, next=tasks[-1].task_id if len(tasks) == asked["limit"] else None)
        )

    async def function_task(self, request: Request) -> Response:
        """Return one task's story."""
        task_id = id_of(request.path_params["task_id"], "task")
        (view,) = await self._link.client.fetch([task_id], bodies=False)
        if view.state == "UNKNOWN":
            raise NotFoundError(
                f"no task has the id {id_text(task_id)}: it was never accepted, or is not kept any more"
            )
        return answer(_task(view, view.outcome))

    async def create_job(self, request: Request) -> Response:
        """Start a job of the allow-list."""
        asked = await read_body(request, _JobReader(), lambda body: body)
        return answer(models.CreatedJob(task_id=await self._hub.jobs.create(asked)), 201)

    async def stop_job(self, request: Request) -> Response:
        """Ask a job to stop."""
        job_id = request.path_params["job_id"]
        self._job(job_id)
        return answer(models.JobStopped(task_id=job_id, status=await self._hub.jobs.stop(job_id)))

    async def job_logs(self, request: Request) -> Response:
        """Return what a job's processes have written."""
        asked = read_parameters(request, _OPERATIONS["job_logs"])
        job_id = request.path_params["job_id"]
        self._job(job_id)
        own = self._hub.board.tasks.models.get(job_id)
        book = self._hub.logs if own is not None and own.origin == "coordinator" else self._hub.jobs.logs(job_id)
        return answer(book.page(**asked))

    async def logs(self, request: Request) -> Response:
        """Return lines of all processes' logs."""
        return answer(self._hub.logs.page(**read_parameters(request, _OPERATIONS["logs"])))

    async def live_events(self, _: Request) -> Response:
        """Send the live feed as server-sent events."""
        return EventStream(self._hub.subscribe())

    def _span(self, request: Request, name: str) -> tuple[int, float]:
        asked = read_parameters(request, _OPERATIONS[name])
        now = self._hub.now()
        return asked["seconds"], min(now, asked["end"] / 1000) if asked["end"] is not None else now

    def _known(self, what: str, name: str, there: Iterable[str]) -> None:
        """Raise NotFoundError for what is not there, or UnavailableError while nothing is known of anything."""
        known = list(there)
        if name in known:
            return
        if self._hub.source == "waiting":
            raise UnavailableError("the coordinator was never heard: is it running, and at this address?")
        raise _no_such(what, name, known)

    def _job(self, job_id: str) -> None:
        known = self._hub.board.tasks.models
        if job_id not in known and all(row.id != job_id for row in self._hub.jobs.rows()):
            raise _no_such("job", job_id, list(known))


class _JobReader:
    """Reads a job's description. To JSON, 3.0 is a whole number as 3 is."""

    def decode(self, data: bytes, /) -> models.CreateJob:
        """Return what the JSON says; raises msgspec's errors."""
        body = msgspec.json.decode(data)
        if isinstance(body, dict):
            count = body.get("worker_count")
            if isinstance(count, float) and count.is_integer():
                body["worker_count"] = int(count)
        return msgspec.convert(body, models.CreateJob)


def _section(hub: Hub, name: str) -> Callable[..., Any]:
    """Return a handler whose answer is one section."""

    async def section(request: Request) -> Response:
        hub.catch_up()
        return _cached(request, hub, lambda: hub.section(name))

    return section


def _cached(request: Request, hub: Hub, made: Callable[[], bytes]) -> Response:
    headers = {"etag": hub.etag(), "cache-control": "no-cache"}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(made(), media_type="application/json", headers=headers)


def _task(view: TaskView, outcome: Outcome | None, asked: str = "") -> models.FunctionTask:
    """Return a task's story. That its result is gone is news only to who asks for those: it is told how it ended."""
    report = outcome.report if outcome is not None else None
    error = error_of(outcome) if outcome is not None and outcome.kind != "ok" else None
    return models.FunctionTask(
        task_id=id_text(view.task_id),
        status=view.state if asked == "EXPIRED" else view.ended_as or view.state,
        attempt=view.attempt,
        submitted_at=millis(view.submitted_at) if view.submitted_at else None,
        started_at=millis(view.started_at) if view.started_at else None,
        ended_at=millis(view.ended_at) if view.ended_at else None,
        worker=report.worker if report else "",
        error_type=error.type if error else "",
        error_message=error.message if error else "",
        traceback=error.traceback if error else "",
        cause=outcome.cause if outcome is not None else "",
        stdout=report.stdout if report else "",
        stderr=report.stderr if report else "",
    )


def _no_such(what: str, name: str, there: list[str]) -> NotFoundError:
    near = sorted(difflib.get_close_matches(name, there, _NEAR)) if len(name) <= 256 else []
    hint = f"near it: {', '.join(near)}" if near else "the list has their ids"
    return NotFoundError(f"no {what} has the id {name[:256]!r}; there are {len(there)}, {hint}")
