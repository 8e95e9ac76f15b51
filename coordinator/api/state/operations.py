"""The state routes as a table: method, path, answer, body, parameters, refusals. Routes and OpenAPI are made of it.

It knows no handler: whoever serves gives one for each name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from strata_zmq.coordinator.api.models import Refused, Unreadable

from . import models

__all__ = ["HISTORY_MAX_S", "LIST_MAX", "OPERATIONS", "Operation", "add_routes", "state_schemas"]

HISTORY_MAX_S = 3600
"""How far back charts and the timeline go."""
LIST_MAX = 10_000
_PREFIX = "#/components/schemas/"
_REFUSALS = {
    400: "It is not as the allow-list has it; the answer says what it takes.",
    404: "There is no such thing; the answer says what there is.",
    405: "This path takes other methods; Allow names them.",
    409: "It cannot be done now; the answer says why.",
    413: "The body is too long.",
    415: "The body is no JSON.",
    421: "The Host is not this server's.",
    403: "The Origin is not this server's.",
    422: "The body or a parameter is not as it has to be.",
    429: "There is too much of it at once: try again after Retry-After seconds.",
    503: "The coordinator was never heard: try again after Retry-After seconds.",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `answer` is a struct, a list of one, or None for a stream; `aliases` are further paths.

    `parameters` are (name, in, JSON schema) of those that the route reads; those in the path are required.
    """

    name: str
    method: str
    path: str
    summary: str
    answer: Any
    status: int = 200
    body: type | None = None
    parameters: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    refusals: tuple[int, ...] = (503,)
    aliases: tuple[str, ...] = ()

    @property
    def routes(self) -> tuple[str, ...]:
        """Where it is answered: a worker chooses its own name, which may have slashes."""
        return tuple(path.replace("{worker_id}", "{worker_id:named}") for path in (self.path, *self.aliases))


class _Named(StringConvertor):
    """A name that may have slashes, and is not empty."""

    regex = "(?s:.+)"


register_url_convertor("named", _Named())


def _integer(least: int, most: int, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


_TASK_STATES = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "EXPIRED")
_TEXT = {"type": "string", "maxLength": 256}
_ID = {"type": "string", "minLength": 1, "maxLength": 256}
_LIMIT = ("limit", "query", _integer(1, LIST_MAX, 500))
_SECONDS = ("seconds", "query", _integer(1, HISTORY_MAX_S, 300))
_END = ("end", "query", {"type": "integer", "minimum": 0, "maximum": 2**53})
_LEVEL = ("level", "query", {"type": "string", "enum": ["debug", "info", "warning", "error"]})
_LOGS = (
    _LIMIT,
    _LEVEL,
    ("source", "query", _TEXT),
    ("search", "query", _TEXT),
    ("before", "query", {"type": "integer", "minimum": 0, "maximum": 2**53}),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation("dashboard", "GET", "/api/dashboard", "The full state in one call.", models.Dashboard),
    Operation("health", "GET", "/api/health", "Whether this process serves and is fed.", models.StateHealth),
    Operation("status", "GET", "/api/status", "The coordinator.", models.Coordinator),
    Operation("workers", "GET", "/api/workers", "All workers, by rank.", list[models.Worker]),
    Operation(
        "worker",
        "GET",
        "/api/workers/{worker_id}",
        "One worker in full.",
        models.WorkerStory,
        parameters=(("worker_id", "path", _ID),),
        refusals=(404, 503),
    ),
    Operation("datasets", "GET", "/api/datasets", "All datasets.", list[models.Dataset]),
    Operation("checkpoints", "GET", "/api/checkpoints", "Checkpoints, newest first.", list[models.Checkpoint]),
    Operation(
        "verify",
        "POST",
        "/api/checkpoints/{checkpoint_id}/verify",
        "Read a checkpoint again and compare every checksum.",
        models.Checkpoint,
        parameters=(("checkpoint_id", "path", _ID),),
        refusals=(403, 404, 409, 429, 503),
    ),
    Operation("barriers", "GET", "/api/barriers", "Open barriers, then the last that ended.", list[models.Barrier]),
    Operation("metrics", "GET", "/api/metrics", "The figures of now.", models.Metrics),
    Operation(
        "history",
        "GET",
        "/api/history",
        "Series for charts; `end` is in Unix milliseconds, by default now.",
        models.History,
        parameters=(_SECONDS, _END),
        refusals=(422, 503),
    ),
    Operation(
        "timeline",
        "GET",
        "/api/timeline",
        "What each worker spent its time on.",
        models.Timeline,
        parameters=(
            _SECONDS,
            _END,
            ("offset", "query", _integer(0, 1_000_000, 0)),
            ("limit", "query", _integer(1, 1000, 100)),
            ("search", "query", _TEXT),
        ),
        refusals=(422, 503),
    ),
    Operation(
        "events",
        "GET",
        "/api/activity",
        "What happened, newest last.",
        list[models.Event],
        parameters=(_LIMIT, ("kind", "query", _TEXT), ("subject", "query", _TEXT)),
        refusals=(422, 503),
    ),
    Operation("settings", "GET", "/api/settings", "Effective settings and their sources.", list[models.Setting]),
    Operation("functions", "GET", "/api/functions", "The function plane.", models.Functions),
    Operation(
        "function_tasks",
        "GET",
        "/api/functions/tasks",
        "Tasks that the dispatcher knows, in the order of their acceptance.",
        models.FunctionTaskPage,
        parameters=(
            ("limit", "query", _integer(1, 1000, 100)),
            ("after", "query", {"type": "string", "format": "uuid"}),
            ("state", "query", {"type": "string", "enum": list(_TASK_STATES)}),
        ),
        refusals=(404, 422, 503),
    ),
    Operation(
        "function_task",
        "GET",
        "/api/functions/tasks/{task_id}",
        "One task's story.",
        models.FunctionTask,
        parameters=(("task_id", "path", {"type": "string", "format": "uuid"}),),
        refusals=(404, 503),
    ),
    Operation("jobs", "GET", "/api/jobs", "Training runs.", list[models.Job], refusals=(), aliases=("/api/tasks",)),
    Operation(
        "create_job",
        "POST",
        "/api/jobs",
        "Start a job of the operator's allow-list.",
        models.CreatedJob,
        status=201,
        body=models.CreateJob,
        refusals=(400, 403, 404, 409, 413, 415, 422, 429, 503),
        aliases=("/api/tasks",),
    ),
    Operation(
        "job_templates", "GET", "/api/jobs/templates", "What may be started.", list[models.JobTemplate], refusals=()
    ),
    Operation(
        "stop_job",
        "POST",
        "/api/jobs/{job_id}/stop",
        "Ask a job to stop.",
        models.JobStopped,
        parameters=(("job_id", "path", _ID),),
        refusals=(403, 404, 409, 503),
        aliases=("/api/tasks/{job_id}/stop",),
    ),
    Operation(
        "job_logs",
        "GET",
        "/api/jobs/{job_id}/logs",
        "What a job's processes have written.",
        models.LogPage,
        parameters=(("job_id", "path", _ID), *_LOGS),
        refusals=(404, 422),
        aliases=("/api/tasks/{job_id}/logs",),
    ),
    Operation(
        "logs", "GET", "/api/logs", "Lines of all processes' logs.", models.LogPage, parameters=_LOGS, refusals=(422,)
    ),
    Operation("live_events", "GET", "/api/events", "The live feed as server-sent events.", None, refusals=(429,)),
)
"""All but `/metrics` and the WebSocket `/api/live`, which says what `/api/events` says and has no place in OpenAPI."""


def add_routes(router: APIRouter, handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Add every operation, its aliases behind it, with the handler of its name; KeyError for one that has none."""
    for one in OPERATIONS:
        for place, path in enumerate(one.routes):
            router.add_api_route(
                path,
                handlers[one.name],
                methods=[one.method],
                summary=one.name.replace("_", " ").capitalize(),
                description=one.summary,
                operation_id=f"{one.name}_alias" if place else one.name,
                status_code=one.status,
                response_class=Response,
                response_model=None,
                responses=_responses(one),
                openapi_extra=_request(one),
            )


def state_schemas() -> dict[str, Any]:
    """Return the JSON schemas of all models, of the live feed's, too, by name."""
    kinds = [getattr(models, name) for name in models.__all__]
    _, found = msgspec.json.schema_components([*kinds, Refused, Unreadable], ref_template=_PREFIX + "{name}")
    return found


def _responses(one: Operation) -> dict[int | str, dict[str, Any]]:
    told = _schema(one.answer) if one.answer is not None else None
    content = {"application/json": {"schema": told}} if told else {"text/event-stream": {"schema": {"type": "string"}}}
    responses: dict[int | str, dict[str, Any]] = {one.status: {"description": one.summary, "content": content}}
    for code in sorted({*one.refusals, 421}):
        refused = Unreadable if code == 422 else Refused
        responses[code] = {
            "description": _REFUSALS[code],
            "content": {"application/json": {"schema": _schema(refused)}},
        }
    return responses


def _request(one: Operation) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if one.body is not None:
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(one.body)}}}
    if one.parameters:
        extra["parameters"] = [
            {"name": name, "in": where, "required": where == "path", "schema": schema}
            for name, where, schema in one.parameters
        ]
    return extra


def _schema(answer: Any) -> dict[str, Any]:
    args = getattr(answer, "__args__", None)
    if args:
        return {"type": "array", "items": _schema(args[0])}
    return {"$ref": _PREFIX + answer.__name__}
