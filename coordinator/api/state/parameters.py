"""A request's query, read as the table of operations says: bounds, choices, lengths, ids. It knows no use of it."""

from __future__ import annotations

import re
from typing import Any

from fastapi import HTTPException
from starlette.requests import Request

from .operations import Operation

__all__ = ["read_parameters"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")


def read_parameters(request: Request, operation: Operation) -> dict[str, Any]:
    """Return the operation's query parameters, defaults filled in; 422 names each one that is not as it has to be."""
    values, problems = {}, []
    for name, where, schema in operation.parameters:
        if where != "query":
            continue
        text = request.query_params.get(name)
        if text is None:
            values[name] = schema.get("default", "" if schema["type"] == "string" else None)
            continue
        try:
            values[name] = _integer(text, schema) if schema["type"] == "integer" else _text(text, schema)
        except ValueError as error:
            problems.append({"type": "value_error", "loc": ["query", name], "msg": str(error)})
    if problems:
        raise HTTPException(422, problems)
    return values


def _integer(text: str, schema: dict[str, Any]) -> int:
    least, most = schema["minimum"], schema["maximum"]
    if _INTEGER.fullmatch(text) is None or not least <= int(text) <= most:
        raise ValueError(f"give a whole number from {least} to {most}")
    return int(text)


def _text(text: str, schema: dict[str, Any]) -> str:
    if "enum" in schema and text not in schema["enum"]:
        raise ValueError(f"say one of {', '.join(schema['enum'])}")
    if schema.get("format") == "uuid" and _UUID.fullmatch(text) is None:
        raise ValueError("give an id as it was answered: a UUID")
    most = schema.get("maxLength", 256)
    if len(text) > most:
        raise ValueError(f"it has {len(text)} characters and the limit is {most}")
    return text
