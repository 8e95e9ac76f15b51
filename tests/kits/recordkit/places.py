"""A place where a store's lives follow each other, each ending as a crash ends it."""

from __future__ import annotations

from strata_zmq.coordinator.dispatcher.stores import open_store
from strata_zmq.coordinator.dispatcher.stores.redis import RedisStore
from strata_zmq.coordinator.dispatcher.stores.sqlite import SqliteStore
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
        if isinstance(store, SqliteStore):
            store._db.close()
        elif isinstance(store, RedisStore):
            store._link.close()
