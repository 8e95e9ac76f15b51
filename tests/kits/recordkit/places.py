"""A place where a store's lives follow each other, each ending as a crash ends it."""

from __future__ import annotations

from contextlib import suppress

from strata_zmq.coordinator.dispatcher.stores import open_store
from strata_zmq.functions.dispatch.records import RecordStore, Recovered

__all__ = ["Place"]


class Place:
    """What `url` names. Nothing is said to a store whose life ends; its descriptors close, as when a process dies."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store: RecordStore | None = None

    def open(self) -> tuple[RecordStore, Recovered]:
        """A new life: the store, and what it has loaded."""
        self.end()
        self.store = open_store(self.url)
        return self.store, self.store.load()

    def end(self) -> None:
        """The present life is over."""
        store, self.store = self.store, None
        if store is not None:
            with suppress(Exception):
                store._db.close()  # type: ignore[attr-defined]
