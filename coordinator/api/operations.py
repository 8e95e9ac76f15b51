"""How routes describe themselves: the OpenAPI text of bodies, parameters and answers, made from the models.

The hot routes read their bodies with msgspec; this keeps their documentation the same as if FastAPI had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from . import models

__all__ = ["IDEMPOTENCY_KEY", "Parameter", "describe", "schemas"]

_PREFIX = "#/components/schemas/"
_REFUSALS = {
    400: "A payload is no pickle.",
    404: "There is no such function or task.",
    409: "The idempotency key stands for another call, no worker can load it, or its function is in quarantine.",
    413: "The body or a payload is too long.",
    429: "The queue is full: try again after Retry-After seconds.",
    503: "No dispatcher answers: try again after Retry-After seconds.",
}
_MODELS = tuple(
    value for name in models.__all__ if isinstance(value := getattr(models, name), type) and value is not models.Options
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route that reads it itself."""

    name: str
    where: Literal["path", "query", "header"]
    schema: Mapping[str, object]
    required: bool = False
    description: str = ""


IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "maxLength": 200},
    description="The same key and the same call are the same task; the same key and another call are refused (409).",
)


def describe(
    status_code: int, answer: type | None, body: type | None = None, parameters: Sequence[Parameter] = ()
) -> dict[str, Any]:
    """Return the keyword arguments of `add_api_route` that document a route; no `answer`: server-sent events."""
    codes = [429, 503]
    codes += [400, 404, 413] if body is not None else [404] if parameters else []
    codes += [409] if IDEMPOTENCY_KEY in parameters else []
    responses: dict[int | str, dict[str, Any]] = {
        code: {"description": _REFUSALS[code], "content": _json(models.Refused)} for code in sorted(codes)
    }
    responses[status_code] = {"content": _json(answer) if answer else {"text/event-stream": {}}}
    if body is not None:
        responses[422] = {"description": "The body is not as it has to be.", "content": _json(models.Unreadable)}
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": _json(body)}
    if parameters:
        extra["parameters"] = [
            {
                "name": one.name,
                "in": one.where,
                "required": one.required or one.where == "path",
                "schema": dict(one.schema),
                **({"description": one.description} if one.description else {}),
            }
            for one in parameters
        ]
    return {
        "status_code": status_code,
        "response_class": Response,
        "response_model": None,
        "responses": responses,
        "openapi_extra": extra,
    }


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of all models, by name."""
    _, found = msgspec.json.schema_components(_MODELS, ref_template=_PREFIX + "{name}")
    return found


def _json(model: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _PREFIX + model.__name__}}}
