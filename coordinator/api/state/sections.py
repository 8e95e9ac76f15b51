"""The parts of a dashboard as JSON that is made once: lists of rows, and single values. It knows no row's meaning.

Whoever takes what has changed gets each change once; whoever reads gets all of it, joined from what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

__all__ = ["Lines", "Rows", "Value", "encode"]

encode = msgspec.json.Encoder().encode


class Rows:
    """A list of rows that are put in by key, in the order of `order` (None: as they came)."""

    def __init__(self, order: Callable[[Any], Any] | None = None) -> None:
        self.models: dict[str, Any] = {}
        self._order = order
        self._encoded: dict[str, bytes] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()
        self._json: bytes | None = None

    def put(self, key: str, model: Any) -> None:
        """Have this row under `key`; nothing has changed where it reads as before."""
        data = encode(model)
        if self._encoded.get(key) == data:
            return
        self.models[key], self._encoded[key] = model, data
        self._changed.add(key)
        self._gone.discard(key)
        self._json = None

    def drop(self, key: str) -> None:
        """Have no such row."""
        if self.models.pop(key, None) is not None:
            del self._encoded[key]
            self._changed.discard(key)
            self._gone.add(key)
            self._json = None

    def ordered(self) -> list[Any]:
        """Return the rows in their order."""
        rows = list(self.models.values())
        return sorted(rows, key=self._order) if self._order else rows

    def take(self) -> tuple[list[msgspec.Raw], list[str]]:
        """Return the rows that are new or different since the last call, and the keys that are gone."""
        changed = [msgspec.Raw(self._encoded[key]) for key in sorted(self._changed)]
        gone = sorted(self._gone)
        self._changed.clear()
        self._gone.clear()
        return changed, gone

    def json(self) -> bytes:
        """Return the whole list."""
        if self._json is None:
            keys: Iterable[str] = self._encoded
            if self._order is not None:
                order, models = self._order, self.models
                keys = sorted(models, key=lambda key: order(models[key]))
            self._json = b"[" + b",".join([self._encoded[key] for key in keys]) + b"]"
        return self._json


class Value:
    """One value, or a list that is told whole."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._json = encode(model)
        self._changed = False

    def put(self, model: Any) -> None:
        """Have this value."""
        data = encode(model)
        if data != self._json:
            self.model, self._json, self._changed = model, data, True

    def take(self) -> msgspec.Raw | None:
        """Return it where it has changed since the last call."""
        changed, self._changed = self._changed, False
        return msgspec.Raw(self._json) if changed else None

    def json(self) -> bytes:
        """Return it."""
        return self._json


class Lines:
    """A log: rows that are appended, of which the last `most` stay."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.models: list[Any] = []
        self._encoded: list[bytes] = []
        self._new = 0

    def append(self, model: Any) -> None:
        """Add a row at the end."""
        self.models.append(model)
        self._encoded.append(encode(model))
        self._new = min(self._new + 1, self._most)
        if len(self.models) >= 2 * self._most:
            del self.models[: -self._most]
            del self._encoded[: -self._most]

    def last(self) -> list[Any]:
        """Return the rows that stay, oldest first."""
        return self.models[-self._most :]

    def take(self) -> list[msgspec.Raw]:
        """Return what was added since the last call, as far as it has stayed."""
        new = self._encoded[-self._new :] if self._new else []
        self._new = 0
        return [msgspec.Raw(one) for one in new]

    def json(self) -> bytes:
        """Return the rows that stay."""
        return b"[" + b",".join(self._encoded[-self._most :]) + b"]"
