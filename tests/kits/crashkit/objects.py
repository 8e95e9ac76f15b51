"""An object store in memory that writes down its requests, and each state in which a client's death can leave it.

Objects are whole or absent. A request that was answered was carried out; one that was on its way when the client died
was carried out or not.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from strata_zmq.errors import NotFoundError
from strata_zmq.storage.base import Traits, VersionConflictError, check_key, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from strata_zmq.storage.base import Arrived, Data, Parts

__all__ = ["Death", "Event", "RecordingObjects", "deaths"]

_ALL_SUBSETS_OF = 8


@dataclass(frozen=True, slots=True)
class Event:
    """A request was sent, it was answered, or (`ack`) somebody was told that `number` is durable."""

    kind: Literal["sent", "answered", "ack"]
    number: int
    key: str = ""
    content: bytes | None = None
    """What the object is afterwards; None where it is removed."""


@dataclass(frozen=True, slots=True)
class Death:
    """The client died after `after` events, when `acked` was the last number acknowledged."""

    after: int
    acked: int
    objects: dict[str, bytes]


class RecordingObjects:
    """A Storage. Its answers take a few turns of the event loop, so that requests overlap."""

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.events: list[Event] = []
        self._requests = 0

    def ack(self, number: int) -> None:
        """Note that somebody was told that `number` is durable."""
        self.events.append(Event("ack", number))

    @property
    def url(self) -> str:
        """The place, as a person would write it."""
        return "memory:"

    @property
    def traits(self) -> Traits:
        """How it likes to be used."""
        return Traits(object_bytes_best=16 << 10, puts_at_once=4)

    async def prepare(self) -> None:
        """There is nothing to prepare."""

    async def put(self, key: str, data: Parts) -> None:
        """Store an object."""
        await self._change(check_key(key), b"".join(parts_of(data)))

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return an object or a part of it."""
        await asyncio.sleep(0)
        if check_key(key) not in self.objects:
            raise NotFoundError(f"{key} is not there")
        return self.objects[key][start:stop]

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        """Read a part of an object into memory."""
        data = await self.get(key, start, start + into.nbytes)
        into.cast("B")[: len(data)] = data
        return len(data)

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        await asyncio.sleep(0)
        return key in self.objects

    async def list(self, prefix: str = "") -> list[str]:
        """Return the keys, in order."""
        await asyncio.sleep(0)
        return sorted(key for key in self.objects if key.startswith(prefix))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self._change(key, None)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects: one request, which the store may have carried out in part."""
        await asyncio.gather(*(self._change(key, None) for key in keys))

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        """Return the object and a digest of it."""
        await asyncio.sleep(0)
        data = self.objects.get(key)
        return data, _version(data)

    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        """Compare and swap."""
        if _version(self.objects.get(key)) != expected_version:
            raise VersionConflictError(f"{key} was replaced")
        await self._change(key, bytes(data))
        return _version(bytes(data)) or ""

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """There are no parts of objects."""
        return 0

    async def close(self) -> None:
        """Nothing is held open."""

    async def _change(self, key: str, content: bytes | None) -> None:
        self._requests += 1
        number = self._requests
        self.events.append(Event("sent", number, key, content))
        _apply(self.objects, key, content)
        for _ in range(3):
            await asyncio.sleep(0)
        self.events.append(Event("answered", number, key, content))


def deaths(events: Sequence[Event]) -> Iterator[Death]:
    """Yield every state after every event, each once for each number acknowledged."""
    seen: set[tuple[int, frozenset[tuple[str, bytes]]]] = set()
    for after in range(len(events) + 1):
        past = events[:after]
        acked = max((event.number for event in past if event.kind == "ack"), default=0)
        answered = {event.number for event in past if event.kind == "answered"}
        under_way = [event.number for event in past if event.kind == "sent" and event.number not in answered]
        for lost in _choices(under_way):
            objects: dict[str, bytes] = {}
            for event in past:
                if event.kind == "sent" and event.number not in lost:
                    _apply(objects, event.key, event.content)
            name = acked, frozenset((key, hashlib.blake2b(content).digest()) for key, content in objects.items())
            if name not in seen:
                seen.add(name)
                yield Death(after, acked, objects)


def _choices(numbers: Sequence[int]) -> Iterator[frozenset[int]]:
    if len(numbers) <= _ALL_SUBSETS_OF:
        for count in range(len(numbers) + 1):
            yield from map(frozenset, combinations(numbers, count))
        return
    everything = frozenset(numbers)
    yield from (frozenset(), everything)
    for number in numbers:
        yield frozenset([number])
        yield everything - {number}


def _apply(objects: dict[str, bytes], key: str, content: bytes | None) -> None:
    if content is None:
        objects.pop(key, None)
    else:
        objects[key] = content


def _version(data: bytes | None) -> str | None:
    return None if data is None else hashlib.blake2b(data, digest_size=16).hexdigest()
