"""The FastAPI app: which routers it has, how it names errors, and who may speak to it. It opens no port."""

from __future__ import annotations

from typing import Any

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

__all__ = ["create_app"]


class _App(FastAPI):
    """A FastAPI app whose OpenAPI page has the models' schemas."""

    def openapi(self) -> dict[str, Any]:
        """Return the page, with the schemas that msgspec makes."""
        page = super().openapi()
        page.setdefault("components", {}).setdefault("schemas", {}).update(schemas())
        return page


def create_app(
    client: TaskClient | None,
    *,
    endpoint: str = "",
    keys: CurveKeys | None = None,
    hosts: tuple[str, ...] = LOCAL_HOSTS,
    token: str = "",
    durability: Durability = "commit",
) -> FastAPI:
    """Return the app over `client`, or over the dispatcher at `endpoint`, to which it connects while it runs.

    `hosts` are the names by which it may be called, port left out; with a `token` requests have to bear that instead.
    Tasks that name no durability have `durability`.
    """
    link = Link(client, endpoint, keys)
    app = _App(
        title="Strata ZMQ",
        summary="Functions, executed elsewhere.",
        version=__version__,
        lifespan=link.running,
    )
    for kind in (StrataError, Refusal):
        app.add_exception_handler(kind, tell)
    app.add_middleware(Door, hosts=hosts, token=token)
    app.include_router(functions_router(link, durability))
    return app
