"""What the state app answers beside its operations: the page, /metrics, and every request that nothing is there for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import compile_path

from strata_zmq.coordinator.api.bodies import answer
from strata_zmq.coordinator.api.models import Refused

from .operations import OPERATIONS
from .static import Page

__all__ = ["METRICS_TYPE", "add_outside"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
_NO_PAGE = (
    "The dashboard is not built here: run npm ci and npm run build in coordinator/dashboard. "
    "The same data is served as JSON at /api/dashboard.\n"
)
_PATHS = [(compile_path(path)[0], one.method) for one in OPERATIONS for path in one.routes]
_PAGE_ALLOW = {"allow": "GET, HEAD"}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "resource_exhausted", 415: "invalid_argument"}


def add_outside(app: FastAPI, *, page: Path | None, metrics: Callable[[], bytes] | None) -> None:
    """Add them behind all other routes. `page` is the built page's folder; where it is not, / says how to build it."""
    built = Page(page) if page is not None and (page / "index.html").is_file() else None

    async def fallback(request: Request) -> Response:
        allowed = _allowed(request.url.path)
        if allowed:
            raise HTTPException(405, f"{request.url.path[:256]} takes {allowed}", {"allow": allowed})
        path = request.url.path
        if metrics is not None and path == "/metrics":
            raise HTTPException(405, "/metrics takes GET", {"allow": "GET"})
        if path == "/api" or path.startswith("/api/") or path == "/metrics":
            return _nothing_at(path)
        if request.method not in ("GET", "HEAD"):
            raise HTTPException(405, f"the page takes GET, HEAD; the API is under /api, not {path[:256]}", _PAGE_ALLOW)
        if built is None:
            return PlainTextResponse(_NO_PAGE, 200 if path == "/" else 404)
        return built.answer(request)

    if metrics is not None:
        render = metrics

        async def told(_: Request) -> Response:
            # With thousands of workers it takes a while, in which the others are to be answered.
            return Response(await asyncio.to_thread(render), media_type=METRICS_TYPE)

        app.add_api_route("/metrics", told, methods=["GET"], include_in_schema=False, response_model=None)
    app.add_api_route("/{rest:path}", fallback, methods=_METHODS, include_in_schema=False, response_model=None)
    app.add_exception_handler(HTTPException, _tell)


def _allowed(path: str) -> str:
    """Return the methods that a path takes; "" where nothing is at it."""
    return ", ".join(sorted({method for pattern, method in _PATHS if pattern.match(path)}))


def _nothing_at(path: str) -> Response:
    routes = ", ".join(dict.fromkeys(f"{one.method} {one.path}" for one in OPERATIONS))
    return answer(Refused(f"there is nothing at {path[:256]}; there is {routes}, and /api/live", "not_found"), 404)


async def _tell(_: Request, error: Exception) -> Response:
    """Answer with what was raised: a text with a code, or what is wrong with a body or a parameter."""
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error.detail, list):
        made = answer({"detail": error.detail}, error.status_code)
    else:
        code = _CODES.get(error.status_code) or HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        made = answer(Refused(str(error.detail), code), error.status_code)
    for name, value in (error.headers or {}).items():
        made.headers[name] = value
    return made
