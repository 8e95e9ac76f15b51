"""The FastAPI app: which routers it has, how it names errors, and who may speak to it. It opens no port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from strata_zmq import __version__
from strata_zmq.domain.task import Durability
from strata_zmq.errors import StrataError
from strata_zmq.transport.curve import CurveKeys

from .door import LOCAL_HOSTS, Door
from .errors import Refusal, tell
from .functions import functions_router
from .link import Link, TaskClient
from .operations import schemas

if TYPE_CHECKING:
    from .state.hub import Hub

__all__ = ["create_app"]


class _App(FastAPI):
    """A FastAPI app whose OpenAPI page has the models' schemas, which `made` makes."""

    def __init__(self, made: Callable[[], dict[str, Any]], **options: Any) -> None:
        super().__init__(version=__version__, **options)
        self._made = made

    def openapi(self) -> dict[str, Any]:
        """Return the page, with the schemas that msgspec makes."""
        page = super().openapi()
        page.setdefault("components", {}).setdefault("schemas", {}).update(self._made())
        return page


def create_app(
    client: TaskClient | None,
    *,
    endpoint: str = "",
    keys: CurveKeys | None = None,
    hosts: tuple[str, ...] = LOCAL_HOSTS,
    token: str = "",
    durability: Durability = "commit",
    hub: Hub | None = None,
    page: Path | None = None,
    metrics: Callable[[], bytes] | None = None,
) -> FastAPI:
    """Return the app over `client`, or over the dispatcher at `endpoint`, to which it connects while it runs.

    Without a `hub` it is the one of functions, and tasks that name no durability have `durability`. With a `hub` it is
    the one of a job's state, which executes nothing: the hub runs while the app does, `page` is the folder of the built
    dashboard and `metrics` what /metrics answers; without them there is neither.

    `hosts` are the names by which it may be called, port left out; with a `token` requests have to bear that instead.
    """
    link = Link(client, endpoint, keys)
    if hub is not None:
        app = _state_app(hub, link, page, metrics)
    else:
        app = _App(schemas, title="Strata ZMQ", summary="Functions, executed elsewhere.", lifespan=link.running)
        app.include_router(functions_router(link, durability))
    for kind in (StrataError, Refusal):
        app.add_exception_handler(kind, tell)
    app.add_middleware(Door, hosts=hosts, token=token, pages=hub is not None)
    if hub is not None:
        from .state.guard import Guard

        # Outside the door: what it refuses bears the headers, too.
        app.add_middleware(Guard, source=lambda: hub.source)
    return app


def _state_app(hub: Hub, link: Link, page: Path | None, metrics: Callable[[], bytes] | None) -> FastAPI:
    from .state.operations import state_schemas
    from .state.outside import add_outside
    from .state.routes import state_router

    @asynccontextmanager
    async def running(_: object) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(hub.running())
            await stack.enter_async_context(link.running())
            yield

    app = _App(
        state_schemas,
        title="Strata ZMQ",
        summary="A training job, as it is now.",
        lifespan=running,
        redirect_slashes=False,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(state_router(hub, link))
    add_outside(app, page=page, metrics=metrics)
    return app
