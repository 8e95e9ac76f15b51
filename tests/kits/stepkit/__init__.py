"""Work on a store, one storage access at a time: any order of any number of actors, deaths and lost answers included.

The store is the real one. Its accesses are steps that a test takes; nothing runs in between, and there is no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, TypeVar

from strata_zmq.domain.manifest import Head
from strata_zmq.domain.manifest_format import decode_head, decode_manifest, decode_rank_index
from strata_zmq.errors import NotFoundError, StrataError, UnavailableError
from strata_zmq.storage import VersionConflictError
from strata_zmq.storage.base import Arrived, Data, Parts, Traits, parts_of

__all__ = ["Actor", "Places", "StepStorage", "damages", "finished"]

T = TypeVar("T")


class _Step:
    def __await__(self) -> Generator[None, None, None]:
        yield


class Places:
    """The objects that several `StepStorage` see, as a server holds them. It applies a late request, too."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.versions: dict[str, int] = {}
        self.late: list[tuple[str, bytes, str | None]] = []
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever an object was written or removed."""

    def swap(self, key: str, data: bytes, expected: str | None) -> str | None:
        """Compare and swap; the new version, or None if somebody was first."""
        present = str(self.versions[key]) if key in self.objects else None
        if present != expected:
            return None
        self.objects[key] = data
        self.versions[key] = self.versions.get(key, 0) + 1
        self.on_change()
        return str(self.versions[key])

    def deliver(self, number: int) -> None:
        """Apply a request whose sender has not waited for it."""
        self.swap(*self.late.pop(number % len(self.late)))


class StepStorage:
    """One client's view. With `lose` its next compare-and-swap stays without an answer and is applied later, if ever;
    with `forget` it is applied, and the answer is lost.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.lose = False
        self.forget = False

    @property
    def url(self) -> str:
        """The place, as a person would write it."""
        return "steps:"

    @property
    def traits(self) -> Traits:
        """How it likes to be used."""
        return Traits(object_bytes_best=1 << 20, puts_at_once=4)

    async def prepare(self) -> None:
        """There is nothing to prepare."""

    async def put(self, key: str, data: Parts) -> None:
        """Store an object."""
        await _Step()
        self.places.objects[key] = b"".join(parts_of(data))
        self.places.on_change()

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return an object or a part of it."""
        await _Step()
        if key not in self.places.objects:
            raise NotFoundError(f"{key} is not there")
        return self.places.objects[key][start:stop]

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        """Read a part of an object into memory."""
        data = await self.get(key, start, start + len(into))
        into[: len(data)] = data
        return len(data)

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        await _Step()
        return key in self.places.objects

    async def list(self, prefix: str = "") -> list[str]:
        """Return the keys, in order."""
        await _Step()
        return sorted(key for key in self.places.objects if key.startswith(prefix))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await _Step()
        self.places.objects.pop(key, None)
        self.places.on_change()

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, one after the other."""
        for key in keys:
            await self.delete(key)

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        """Return an object and its version."""
        await _Step()
        if key not in self.places.objects:
            return None, None
        return self.places.objects[key], str(self.places.versions[key])

    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        """Compare and swap."""
        await _Step()
        if self.lose:
            self.lose = False
            self.places.late.append((key, bytes(data), expected_version))
            raise UnavailableError(f"no answer about {key}")
        version = self.places.swap(key, bytes(data), expected_version)
        if version is None:
            raise VersionConflictError(f"{key} is not at version {expected_version}")
        if self.forget:
            self.forget = False
            raise UnavailableError(f"no answer about {key}")
        return version

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """No write leaves anything behind."""
        return 0

    async def close(self) -> None:
        """Nothing is held open."""


class Actor:
    """Work under way, a step at a time. It ends with a `result` or an `error`, or is killed and has neither."""

    def __init__(self, name: str, work: Coroutine[Any, Any, Any], storage: StepStorage) -> None:
        self.name = name
        self.storage = storage
        self.done = False
        self.result: Any = None
        self.error: StrataError | None = None
        self._work = work

    def step(self) -> None:
        """Take it to its next access of the storage."""
        try:
            self._work.send(None)
        except StopIteration as end:
            self.done, self.result = True, end.value
        except StrataError as error:
            self.done, self.error = True, error

    def until(self, there: Callable[[], bool]) -> Actor:
        """Take it on until `there`; it must come to that."""
        while not there():
            assert not self.done, f"{self.name} has ended: {self.error or self.result}"
            self.step()
        return self

    def finish(self) -> Actor:
        """Take it to its end."""
        while not self.done:
            self.step()
        return self

    def kill(self) -> None:
        """End it where it stands."""
        self.done = True
        self._work.close()


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Run all steps of `work` at once."""
    try:
        while True:
            work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result


def damages(places: Places) -> list[str]:
    """Return what is missing of what HEAD reaches, as whoever loads it would find."""
    objects = places.objects
    head = decode_head(objects["HEAD"], "HEAD") if "HEAD" in objects else Head()
    missing = []
    for entry in head.retained:
        if entry.manifest_key not in objects:
            missing.append(entry.manifest_key)
            continue
        for rank in decode_manifest(objects[entry.manifest_key], entry.manifest_key).ranks:
            if rank.index_key not in objects:
                missing.append(rank.index_key)
                continue
            missing += [
                chunk.key
                for chunk in decode_rank_index(objects[rank.index_key], rank.index_key).chunks
                if len(objects.get(chunk.key, b"")) < chunk.offset + chunk.stored_bytes
            ]
    return missing
