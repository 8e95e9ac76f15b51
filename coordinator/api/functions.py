"""The function plane's routes: register, execute, status, result, and what goes beyond the published four.

Owns what a request asks of the dispatcher, and what its answer says; knows no socket, and never unpickles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

import msgspec
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response, StreamingResponse

from strata_zmq.domain.task import FINAL, ID_BYTES, Durability
from strata_zmq.domain.task import State as TaskState
from strata_zmq.errors import NotFoundError
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.calls import PackedCall, TaskView

from . import models
from .bodies import answer, error_of, id_of, id_text, payload_of, read_body, result_text, text_apart
from .errors import refusal, refused_row
from .events import stream
from .link import Link, watching
from .operations import IDEMPOTENCY_KEY, Parameter, describe

__all__ = ["functions_router"]

_KEY_MAX = 200
"""The longest idempotency key: a batch adds each call's index to it."""
_PAGE_MAX = 1000
_EVENT_IDS_MAX = 1000
_STATES = ("", *get_args(TaskState))
_UUID = {"type": "string", "format": "uuid"}
_SPAN = {"type": "number", "minimum": 0, "maximum": models.WAIT_MAX_S}
_TASK_ID = Parameter("task_id", "path", _UUID)
_WAIT = Parameter("wait_s", "query", _SPAN, description="Wait so long for the end.")
_IDS = Parameter("ids", "query", {"type": "string"}, required=True, description="Task ids with commas between them.")
_TIMEOUT = Parameter("timeout_s", "query", _SPAN)
_RUNNING = Parameter("running", "query", {"type": "boolean"}, description="Kill it where it runs.")
_STATE = Parameter("state", "query", {"type": "string", "enum": list(_STATES[1:])})
_AFTER = Parameter("after", "query", _UUID, description="The `next` of the page before.")
_LIMIT = Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": _PAGE_MAX, "default": 100})

_register = msgspec.json.Decoder(models.RegisterFunction)
_execute = msgspec.json.Decoder(models.ExecuteFunction)
_execute_batch = msgspec.json.Decoder(models.ExecuteBatch)
_wait = msgspec.json.Decoder(models.Wait)


def functions_router(link: Link, durability: Durability) -> APIRouter:
    """Return the routes, over the dispatcher behind `link`; tasks that name no durability have `durability`."""
    routes = _Functions(link, durability)
    router = APIRouter(tags=["functions"])

    def add(
        route: str,
        endpoint: Callable[..., Any],
        status_code: int,
        told: type | None,
        body: type | None = None,
        parameters: Sequence[Parameter] = (),
    ) -> None:
        method, path = route.split()
        router.add_api_route(path, endpoint, methods=[method], **describe(status_code, told, body, parameters))

    # They are tried in this order: the busiest come first.
    add("POST /execute_function", routes.execute, 201, models.AcceptedTask, models.ExecuteFunction, [IDEMPOTENCY_KEY])
    add("GET /result/{task_id}", routes.result, 200, models.TaskResult, None, [_TASK_ID, _WAIT])
    add("GET /status/{task_id}", routes.status, 200, models.TaskStatus, None, [_TASK_ID])
    add("POST /execute_batch", routes.execute_batch, 201, models.AcceptedBatch, models.ExecuteBatch, [IDEMPOTENCY_KEY])
    add("POST /wait", routes.wait, 200, models.Waited, models.Wait)
    add("POST /register_function", routes.register, 201, models.Registered, models.RegisterFunction)
    add("GET /events", routes.events, 200, None, None, [_IDS, _TIMEOUT])
    add("POST /cancel/{task_id}", routes.cancel, 200, models.Cancelled, None, [_TASK_ID, _RUNNING])
    add("GET /tasks", routes.tasks, 200, models.TaskPage, None, [_STATE, _AFTER, _LIMIT])
    add("GET /health", routes.health, 200, models.Health)
    return router


class _Functions:
    """One method a route. Their docstrings are the descriptions in the OpenAPI pages."""

    def __init__(self, link: Link, durability: Durability) -> None:
        self._link = link
        self._durability = durability

    async def register(self, request: Request) -> Response:
        """Keep a function; the answer is there when it is on disk."""
        body, payload = await read_body(request, _register, lambda body: (body, payload_of(body.payload)))
        function_id = await self._link.client.register(body.name, payload, new_ids(1)[0])
        return answer(models.Registered(id_text(function_id)), 201)

    async def execute(self, request: Request) -> Response:
        """Submit one call; the answer is there when it is accepted, which is on disk unless durability is "none"."""
        body, payload = await read_body(request, _execute, lambda body: (body, payload_of(body.payload)))
        call = PackedCall(id_of(body.function_id, "function"), payload, key=_key(request))
        failpoint("api.execute.taken")
        (verdict,) = await self._link.client.submit([(new_ids(1)[0], call)], body.limits(self._durability))
        if verdict.code:
            raise refusal(verdict.code, verdict.message, verdict.retry_after_s)
        failpoint("api.execute.accepted")
        return answer(models.AcceptedTask(id_text(verdict.task_id)), 201)

    async def execute_batch(self, request: Request) -> Response:
        """Submit many calls of one function at once. An error only where none of them is accepted."""
        body, payloads = await read_body(request, _execute_batch, _with_payloads)
        function_id, key = id_of(body.function_id, "function"), _key(request)
        calls = [
            (task_id, PackedCall(function_id, payload, key=key and f"{key}/{index}"))
            for index, (task_id, payload) in enumerate(zip(new_ids(len(payloads)), payloads, strict=True))
        ]
        failpoint("api.execute.taken")
        verdicts = await self._link.client.submit(calls, body.limits(self._durability))
        refused = [
            refused_row(index, verdict.code, verdict.message, verdict.retry_after_s)
            for index, verdict in enumerate(verdicts)
            if verdict.code
        ]
        if len(refused) == len(verdicts):
            raise refusal(verdicts[0].code, verdicts[0].message, verdicts[0].retry_after_s)
        failpoint("api.execute.accepted")
        ids = [None if verdict.code else id_text(verdict.task_id) for verdict in verdicts]
        return answer(models.AcceptedBatch(ids, refused), 201)

    async def status(self, request: Request) -> Response:
        """Say in which state a task is."""
        view = await self._find(_task_id(request), bodies=False)
        return answer(models.TaskStatus(id_text(view.task_id), view.state))

    async def result(self, request: Request) -> Response:
        """Return a task's result, or its state while there is none; with `wait_s`, wait so long for the end."""
        task_id, wait_s = _task_id(request), _number(request, "wait_s", 0.0, models.WAIT_MAX_S)
        view = await self._ended(task_id, wait_s) if wait_s else None
        if view is None:
            view = await self._find(task_id, bodies=True)
        return answer(await text_apart(_size_of(view), lambda: _result(view)))

    async def wait(self, request: Request) -> Response:
        """Wait until all of the tasks have ended, or any; return those that have, with their results."""
        body, ids = await read_body(
            request, _wait, lambda body: (body, [id_of(text, "task") for text in body.task_ids])
        )
        views = await self._ends(ids, body)
        ended = [views[task_id] for task_id in dict.fromkeys(ids) if task_id in views]
        pending = [id_text(task_id) for task_id in dict.fromkeys(ids) if task_id not in views]
        tasks = await text_apart(
            sum(map(_size_of, ended)) if body.results else 0,
            lambda: [_result(view, with_result=body.results) for view in ended],
        )
        return answer(models.Waited(tasks, pending))

    async def events(self, request: Request) -> StreamingResponse:
        """Tell the ends of tasks as server-sent events, then `done`, or `timeout` with those that have not ended."""
        text = request.query_params.get("ids", "")
        ids = [id_of(part, "task") for part in dict.fromkeys(text.split(",")) if part]
        if not 1 <= len(ids) <= _EVENT_IDS_MAX:
            raise _wrong("ids", f"give 1 to {_EVENT_IDS_MAX} task ids, with commas between them")
        timeout_s = _number(request, "timeout_s", models.WAIT_MAX_S, models.WAIT_MAX_S)
        return StreamingResponse(
            stream(self._link.client.watch(ids, timeout_s, bodies=False), ids),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def cancel(self, request: Request) -> Response:
        """Cancel a task that has not started; with `running=true` also one that runs: its process is killed."""
        task_id = _task_id(request)
        running = request.query_params.get("running", "false").lower()
        if running not in {"true", "false", "1", "0"}:
            raise _wrong("running", "say true or false")
        (state,) = await self._link.client.cancel([task_id], running=running in {"true", "1"})
        if state == "UNKNOWN":
            raise _no_such(task_id)
        return answer(models.Cancelled(id_text(task_id), cast("models.Status", state)))

    async def tasks(self, request: Request) -> Response:
        """List tasks in the order of their acceptance, of one state or of all."""
        state, after = request.query_params.get("state", "").upper(), request.query_params.get("after", "")
        limit = int(_number(request, "limit", 100, _PAGE_MAX, least=1))
        if state not in _STATES:
            raise _wrong("state", f"say one of {', '.join(_STATES[1:])}")
        views = await self._link.client.page(id_of(after, "task") if after else b"", limit, state)
        rows = [
            models.TaskListing(
                id_text(view.task_id), view.state, view.attempt, view.submitted_at, view.started_at, view.ended_at
            )
            for view in views
        ]
        return answer(models.TaskPage(rows, rows[-1].task_id if len(rows) == limit else None))

    async def health(self, _: Request) -> Response:
        """Say how much there is; 503 while no dispatcher answers."""
        from strata_zmq import __version__

        counts = await self._link.client.counts()
        known = {name: getattr(counts, name) for name in models.Health.__struct_fields__[2:]}
        return answer(models.Health("ok", __version__, **known))

    async def _find(self, task_id: bytes, *, bodies: bool) -> TaskView:
        (view,) = await self._link.client.fetch([task_id], bodies=bodies)
        if view.state == "UNKNOWN":
            raise _no_such(task_id)
        return view

    async def _ended(self, task_id: bytes, wait_s: float) -> TaskView | None:
        """Return the task once it has ended, None if it has not in time."""
        async with watching(self._link.client.watch([task_id], wait_s)) as ends:
            async for view in ends:
                if view.state == "UNKNOWN":
                    raise _no_such(task_id)
                return view
        return None

    async def _ends(self, ids: list[bytes], body: models.Wait) -> dict[bytes, TaskView]:
        """Return what has ended of `ids`, or is unknown, when the wait is over."""
        client = self._link.client
        if body.any:
            known = await client.fetch(ids, bodies=body.results)
            views = {view.task_id: view for view in known if view.state in FINAL or view.state == "UNKNOWN"}
            if views or not body.timeout_s:
                return views
        views = {}
        async with watching(client.watch(ids, body.timeout_s, bodies=body.results)) as ends:
            async for view in ends:
                views[view.task_id] = view
                if body.any:
                    break
        return views


def new_ids(count: int) -> list[bytes]:
    """Return `count` new ids: UUIDs of version 4, RFC 9562."""
    random = bytearray(os.urandom(ID_BYTES * count))
    for at in range(0, len(random), ID_BYTES):
        random[at + 6] = random[at + 6] & 0x0F | 0x40
        random[at + 8] = random[at + 8] & 0x3F | 0x80
    whole = bytes(random)
    return [whole[at : at + ID_BYTES] for at in range(0, len(whole), ID_BYTES)]


def _with_payloads(body: models.ExecuteBatch) -> tuple[models.ExecuteBatch, list[bytes]]:
    # Calls of one function are often the same call, too.
    known: dict[str, bytes] = {}
    payloads = []
    for index, text in enumerate(body.payloads):
        payload = known.get(text)
        if payload is None:
            payload = known[text] = payload_of(text, f"payloads[{index}]")
        payloads.append(payload)
    return body, payloads


def _result(view: TaskView, *, with_result: bool = True) -> models.TaskResult:
    outcome = view.outcome
    made = models.TaskResult(id_text(view.task_id), view.state, result_text(outcome) if with_result else None)
    if outcome is not None:
        if outcome.kind != "ok":
            made.error = error_of(outcome)
        if outcome.report is not None:
            report = outcome.report
            made.stdout, made.stderr, made.cut_bytes = report.stdout, report.stderr, report.cut_bytes
    return made


def _size_of(view: TaskView) -> int:
    body: Any = None if view.outcome is None else view.outcome.body
    if body is None:
        return 0
    return len(body) if isinstance(body, bytes) else sum(map(len, body))


def _task_id(request: Request) -> bytes:
    return id_of(request.path_params["task_id"], "task")


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if len(key) > _KEY_MAX:
        raise HTTPException(400, f"Idempotency-Key has {len(key)} characters and the limit is {_KEY_MAX}")
    return key


def _number(request: Request, name: str, default: float, most: float, *, least: float = 0.0) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise _wrong(name, f"give a number from {least:g} to {most:g}")
    return value


def _wrong(name: str, message: str) -> HTTPException:
    return HTTPException(422, [{"type": "value_error", "loc": ["query", name], "msg": message}])


def _no_such(task_id: bytes) -> NotFoundError:
    return NotFoundError(f"no task has the id {id_text(task_id)}")
