"""Where a dispatcher's records last: SQLite, Redis or nowhere, behind the port of `functions.dispatch.records`."""

from __future__ import annotations

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.functions.dispatch.records import RecordStore

__all__ = ["open_store"]


def open_store(url: str) -> RecordStore:
    """Open the store that `url` names: "sqlite:PATH", "redis://HOST:PORT/DB" (or rediss://, unix://), or "none".

    "none" keeps functions for the life of the process and refuses records: a dispatcher that has it takes no task of
    durability "commit". Raises InvalidArgumentError for any other url, AlreadyExistsError where another dispatcher has
    the file, and StorageError where it is not to be had.
    """
    kind, _, place = url.partition(":")
    if url == "none":
        from .nowhere import NoStore

        return NoStore()
    if kind == "sqlite" and place:
        from .sqlite import SqliteStore

        return SqliteStore(place)
    if kind in {"redis", "rediss", "unix"} and place.startswith("//"):
        from .redis import RedisStore

        return RedisStore(url)
    raise InvalidArgumentError(
        f"store {url!r} is of no known kind: give sqlite:PATH, redis://HOST:PORT/DB, or none (nothing outlives the "
        "dispatcher)"
    )
