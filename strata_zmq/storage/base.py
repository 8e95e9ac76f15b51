"""The storage port: what any place for bytes has to promise; never what the bytes mean or which backend holds them.

The promises fit a file system and an object store alike: whole objects appear at once and durably, and one small object
can be replaced by compare-and-swap (a lock file, comparison and rename locally; If-Match on an object store).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from strata_zmq.errors import InvalidArgumentError, StaleGenerationError

__all__ = [
    "KEY_MAX",
    "Arrived",
    "Data",
    "Parts",
    "Storage",
    "Traits",
    "VersionConflictError",
    "check_key",
    "check_prefix",
    "parts_of",
]

KEY_MAX = 4096
"""Characters in a key."""

Data = bytes | bytearray | memoryview
"""What can be stored: any contiguous bytes."""

Arrived = Callable[[int], None]
"""Told how many bytes have been read so far: whoever looks at them at once finds them in the processor's cache."""

Parts = Data | Sequence[Data]
"""One object's content: bytes, or several pieces in order, which nobody has to join first."""

_KEY = re.compile(r"[A-Za-z0-9_.\-/]+")


class VersionConflictError(StaleGenerationError):
    """The object is no longer at the version that the caller read: read it again and decide anew."""

    code = "version_conflict"


@dataclass(frozen=True, slots=True)
class Traits:
    """How a backend likes to be used. It works in other ways, too, more slowly."""

    object_bytes_best: int
    """Objects of about this size are written fastest."""
    puts_at_once: int
    aligned: int = 1
    """Parts that begin at a multiple of this in memory are written without a copy."""


@runtime_checkable
class Storage(Protocol):
    """A flat space of objects under keys such as `checkpoints/a/HEAD`.

    Every method may raise StorageError, which names the object, the system's reason and the way out, and
    InvalidArgumentError for a key outside its limits. After a DurabilityError nothing is known of the object.
    """

    @property
    def url(self) -> str:
        """The place, as a person would write it."""

    @property
    def traits(self) -> Traits:
        """How it likes to be used."""

    async def prepare(self) -> None:
        """Make the place ready for writing, or say why it cannot be written."""

    async def put(self, key: str, data: Parts) -> None:
        """Store `data` whole: it is durable on return, and no reader ever sees a part of it."""

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return bytes [start, stop) of the object, cut off at its end; NotFoundError where there is none."""

    async def get_into(self, key: str, start: int, into: memoryview, arrived: Arrived | None = None) -> int:
        """Read from `start` on into `into`; return how many bytes, fewer only at the object's end.

        A backend that can tell calls `arrived`, on the thread that reads, with the number of bytes that are there
        from the beginning of `into` on; it rises from call to call and may never reach the end.
        """

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""

    async def list(self, prefix: str = "") -> list[str]:
        """Return all keys that begin with `prefix`, in ascending order."""

    async def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is harmless."""

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, in any order."""

    async def read_versioned(self, key: str) -> tuple[bytes | None, str | None]:
        """Return the object and its version, or (None, None) where there is none."""

    async def replace(self, key: str, data: Data, expected_version: str | None) -> str:
        """Store `data` if the object is still at `expected_version` (None: absent) and return the new version.

        Raises VersionConflictError, and changes nothing, when somebody else was first. No two calls may bring equal
        bytes: where the answer is lost, only they tell whether it was this call that won.
        """

    async def sweep(self, prefix: str = "", older_than_s: float = 3600.0) -> int:
        """Remove what interrupted writes under `prefix` left behind for that long; returns how many there were."""

    async def close(self) -> None:
        """Let connections go; again is harmless."""


def parts_of(data: Parts) -> list[memoryview]:
    """Return the pieces of `data` as bytes, without a copy."""
    pieces = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
    return [memoryview(piece).cast("B") for piece in pieces]


def check_key(key: object) -> str:
    """Accept 1 to 4096 characters of A-Z a-z 0-9 _ . - in components joined by '/'.

    No component is empty or begins with a dot: such names belong to the backends (temporary and lock files).
    """
    if not isinstance(key, str) or not key:
        raise InvalidArgumentError("key is empty or not text: give it 1 to 4096 characters of A-Z a-z 0-9 _ . - /")
    if len(key) > KEY_MAX:
        raise InvalidArgumentError(f"key {key[:48]!r}... has {len(key)} characters, the limit is {KEY_MAX}: shorten it")
    if _KEY.fullmatch(key) is None:
        raise InvalidArgumentError(f"key {key[:48]!a} holds other characters than A-Z a-z 0-9 _ . - /: replace them")
    if any(not part or part.startswith(".") for part in key.split("/")):
        raise InvalidArgumentError(
            f"key {key[:48]!r} has a component that is empty or begins with '.': "
            "write it without '//', '..', a slash at either end, or hidden names"
        )
    return key


def check_prefix(prefix: object) -> str:
    """Accept the beginning of a key: empty, or a valid key with or without a final '/'."""
    if prefix == "":
        return ""
    if isinstance(prefix, str) and prefix.endswith("/"):
        check_key(prefix[:-1])
        return prefix
    return check_key(prefix)
