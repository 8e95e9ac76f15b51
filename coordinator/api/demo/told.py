"""Rows on their way into the next delta, each table's latest once. It knows no row's meaning."""

from __future__ import annotations

from typing import Any

from strata_zmq.protocol.sight import KEYS, LOGS, Changes, key_of

__all__ = ["Told"]


class Told:
    """Collects what has changed until somebody takes it."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._single: dict[str, Any] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._gone: dict[str, dict[str, None]] = {}

    def row(self, table: str, row: Any) -> None:
        """Tell a row of a table or of a log, or the one row of `job` or `functions`."""
        if table in KEYS:
            self._rows.setdefault(table, {})[key_of(table, row)] = row
        elif table in LOGS:
            self._rows.setdefault(table, {})[str(row.number)] = row
        else:
            self._single[table] = row

    def gone(self, table: str, key: str) -> None:
        """Tell that a row is there no longer."""
        self._rows.get(table, {}).pop(key, None)
        self._gone.setdefault(table, {})[key] = None

    def take(self) -> Changes:
        """Return what was told since the last call."""
        rows: dict[str, Any] = {table: list(known.values()) for table, known in self._rows.items()}
        gone = {table: list(keys) for table, keys in self._gone.items()}
        changes = Changes(gone=gone, **self._single, **rows)
        self._begin()
        return changes
