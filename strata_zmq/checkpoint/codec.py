"""Compression of chunks, for links that are slower than the compressor; it knows bytes and rates, never keys.

Weights in float32 shrink by less than a tenth, so nothing is compressed unless it is asked for, and a chunk that does
not shrink by a twentieth is stored as it is.
"""

from __future__ import annotations

import importlib
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from strata_zmq.domain.manifest import Codec as CodecName
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPRESSIONS", "Codec", "Compression", "decompress", "decompress_into"]

Compression = Literal["zstd", "auto"]
"""`auto` compresses where the storage takes less than half of what the compressor gives."""

COMPRESSIONS: tuple[Compression, ...] = ("zstd", "auto")

_LEVEL = 1
_SHRINKS_TO = 0.95
_OBJECTS_MEASURED = 4
_WORTH_IT_BELOW = 0.5


class Codec:
    """Compresses one process's chunks, on any thread."""

    name: CodecName = "zstd"

    def __init__(self, *, auto: bool = False, clock: Callable[[], float] = time.perf_counter) -> None:
        self._zstd = _zstandard("compression")
        self._clock = clock
        self._local = threading.local()
        self._lock = threading.Lock()
        self._deciding = auto
        self._on = not auto
        self._objects = 0
        self._stored_bytes, self._stored_s = 0, 0.0
        self._given_bytes, self._given_s = 0, 0.0

    @classmethod
    def for_name(cls, name: Compression | None) -> Codec | None:
        """Return the codec called `name`; None for None. InvalidArgumentError where it is unknown or not installed."""
        if name is None:
            return None
        if name not in COMPRESSIONS:
            raise InvalidArgumentError(f"compression is {ascii(name)[:48]}: choose None, 'zstd' or 'auto'")
        return cls(auto=name == "auto")

    @property
    def decided(self) -> bool | None:
        """Whether chunks are compressed; None while that is still being measured."""
        return None if self._deciding else self._on

    def encode(self, data: memoryview) -> bytes | None:
        """Return `data` compressed, or None where it is to be stored as it is."""
        if not self._on and not self._deciding:
            return None
        began = self._clock()
        found: bytes = self._compressor().compress(data)
        took = self._clock() - began
        with self._lock:
            self._given_bytes += data.nbytes
            self._given_s += took
            if not self._on:
                return None
        return found if len(found) <= data.nbytes * _SHRINKS_TO else None

    def note_stored(self, nbytes: int, took_s: float) -> None:
        """Take note that the storage took `nbytes` in one object within `took_s`: the first few of them decide."""
        if not self._deciding:
            return
        with self._lock:
            self._objects += 1
            self._stored_bytes += nbytes
            self._stored_s += took_s
            if self._objects < _OBJECTS_MEASURED or not self._given_bytes:
                return
            stored = self._stored_bytes / max(self._stored_s, 1e-9)
            given = self._given_bytes / max(self._given_s, 1e-9)
            self._on = stored < _WORTH_IT_BELOW * given
            self._deciding = False

    def _compressor(self) -> Any:
        # A compressor belongs to one thread at a time.
        found = getattr(self._local, "compressor", None)
        if found is None:
            found = self._local.compressor = self._zstd.ZstdCompressor(level=_LEVEL)
        return found


def decompress(codec: CodecName, data: bytes | bytearray | memoryview, nbytes: int, name: str) -> bytes:
    """Return the `nbytes` that `codec` made `data` of; CheckpointCorruptError, which calls it `name`, if it cannot."""
    if not codec:
        return bytes(data)
    into = bytearray(nbytes)
    decompress_into(data, memoryview(into), name)
    return bytes(into)


def decompress_into(data: bytes | bytearray | memoryview, into: memoryview, name: str) -> None:
    """Fill `into` with what zstd made `data` of; CheckpointCorruptError, which calls it `name`, if it does not fit."""
    zstd = _zstandard("a compressed checkpoint")
    done = 0
    try:
        # In pieces: a frame says itself how much it holds, and a damaged one would have that much memory allocated.
        with zstd.ZstdDecompressor().stream_reader(data) as reader:
            while done < len(into):
                count = reader.readinto(into[done:])
                if not count:
                    break
                done += count
            more = bool(reader.read(1))
    except zstd.ZstdError as error:
        raise CheckpointCorruptError(f"{name} cannot be decompressed ({error}): cut off or damaged") from None
    if done < len(into) or more:
        found = "more" if more else str(done)
        raise CheckpointCorruptError(f"{name} holds {found} bytes once decompressed, its index says {len(into)}")


def _zstandard(what: str) -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        raise InvalidArgumentError(f"{what} needs the package zstandard: install strata-zmq[zstd]") from None
