"""The storage of the simulation: a place in memory that survives everything, and a driver for what awaits it.

The checkpoint store on top of it is the real one, with its compare-and-swap on HEAD.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, TypeVar

from strata_zmq.errors import NotFoundError, StrataError
from strata_zmq.storage import VersionConflictError
from strata_zmq.storage.base import Arrived, Data, Parts, Traits, parts_of

from .timeline import Timeline

__all__ = ["MemoryStorage", "drive", "finished"]

T = TypeVar("T")


class _Pause:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __await__(self) -> Generator[float, None, None]:
        yield self._seconds


class MemoryStorage:
    """Objects in memory. Each access takes a while, so that others come between reading and writing."""

    def __init__(self, rng: random.Random, delay_s: float) -> None:
        self.objects: dict[str, bytes] = {}
        self.delay_s = delay_s
        self.on_replace: Callable[[bytes], None] = lambda data: None
        """Called with what a compare-and-swap has put in place, at the moment that it counts."""
        self._rng = rng
        self._versions: dict[str, int] = {}

    @property
    def url(self) -> str:
        """The place, as a person would write it."""
        return "memory:"

    @property
    def traits(self) -> Traits:
        """How it likes to be used."""
        return Traits(object_bytes_best=1 << 20, puts_at_once=4)

    async def prepare(self) -> None:
        """There is nothing to prepare."""

    async def put(self, key: str, data: Parts) -> None:
        """Store an object."""
        await self._moment()
        self.objects[key] = b"".join(parts_of(data))
        await self._moment()

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return an object or a part of it."""
        await self._moment()
        if key not in self.objects:
            raise NotFoundError(f"{key} is not there")
        return self.objects[key][start:stop]

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        """Read a part of an object into memory."""
        data = await self.get(key, start, start + len(into))
        into[: len(data)] = data
        return len(data)

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        await self._moment()
        return key in self.objects

    async def list(self, prefix: str = "") -> list[str]:
        """Return the keys, in order."""
        await self._moment()
        return sorted(key for key in self.objects if key.startswith(prefix))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self._moment()
        self.objects.pop(key, None)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects."""
        for key in keys:
            await self.delete(key)

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        """Return an object and its version."""
        await self._moment()
        if key not in self.objects:
            return None, None
        return self.objects[key], str(self._versions[key])

    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        """Compare and swap."""
        await self._moment()
        present = str(self._versions[key]) if key in self.objects else None
        if present != expected_version:
            raise VersionConflictError(f"{key} is at version {present}, not {expected_version}")
        self.objects[key] = bytes(data)
        self._versions[key] = self._versions.get(key, 0) + 1
        version = str(self._versions[key])
        self.on_replace(self.objects[key])
        await self._moment()
        return version

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """No write is ever interrupted here."""
        return 0

    async def close(self) -> None:
        """Nothing is held open."""

    async def _moment(self) -> None:
        await _Pause(self.delay_s * self._rng.random())


def drive(
    work: Coroutine[Any, Any, T],
    timeline: Timeline,
    alive: Callable[[], bool],
    done: Callable[[T | None, StrataError | None], None],
) -> None:
    """Run a coroutine in simulated time while `alive()`; `done` gets its result or its error."""
    if not alive():
        work.close()
        return
    try:
        seconds: float = work.send(None)
    except StopIteration as end:
        done(end.value, None)
    except StrataError as error:
        done(None, error)
    else:
        timeline.after(seconds, drive, work, timeline, alive, done)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine at once, however long its pauses are: for those who look on from outside."""
    try:
        while True:
            work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
