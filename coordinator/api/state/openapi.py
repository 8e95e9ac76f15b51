"""`python -m strata_zmq.coordinator.api.state.openapi`: the state routes' OpenAPI document. It serves nothing.

The dashboard's types are made from it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from fastapi import APIRouter, FastAPI

from strata_zmq import __version__

from .operations import OPERATIONS, add_routes, state_schemas

__all__ = ["complete", "document"]


def document() -> dict[str, Any]:
    """Return the document of the state routes alone."""

    async def nothing() -> None:
        """Stand for every handler: the document does not depend on them."""

    app = FastAPI(title="Strata ZMQ", summary="A training job, as it is now.", version=__version__)
    router = APIRouter(tags=["state"])
    add_routes(router, {one.name: nothing for one in OPERATIONS})
    app.include_router(router)
    return complete(app.openapi())


def complete(page: dict[str, Any]) -> dict[str, Any]:
    """Put the models' schemas into an app's document, and return it."""
    page.setdefault("components", {}).setdefault("schemas", {}).update(state_schemas())
    return page


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
