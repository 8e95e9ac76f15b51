"""Packs what functions return and raise, up to a size; never decides where the bytes lie or what a failure means.

What pickle can do is done by pickle; cloudpickle (for the published form: dill) does the rest. Large buffers stay
outside the stream (protocol 5), not so in the published form, which is read by plain pickle alone.
"""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple, cast

__all__ = ["BUFFER_BYTES_MIN", "Packed", "TooLargeError", "pack", "pack_error"]

BUFFER_BYTES_MIN = 64 * 1024
"""A smaller buffer is cheaper inside the stream."""
_PROTOCOL = 5
_ATOMS = frozenset({bool, float, int, type(None)})


class TooLargeError(Exception):
    """The packed value is longer than allowed."""


class Packed(NamedTuple):
    """A pickle, in pieces, and its out-of-band buffers; the buffers are those of the value itself."""

    stream: list[bytes]
    buffers: list[memoryview]
    nbytes: int


def pack(value: object, bytes_max: int, *, dill: bool) -> bytes | Packed:
    """Return `value` packed, in one piece where it is one.

    Raises TooLargeError over `bytes_max`, and whatever the value raises when it is pickled.
    """
    if type(value) in _ATOMS:
        return pickle.dumps(value, _PROTOCOL)
    sink = _Sink(bytes_max)
    try:
        if dill:
            pickle.Pickler(cast(Any, sink), pickle.DEFAULT_PROTOCOL).dump(value)
        else:
            pickle.Pickler(cast(Any, sink), _PROTOCOL, buffer_callback=sink.inside).dump(value)
    except TooLargeError:
        raise
    except Exception:  # noqa: BLE001 - a __reduce__ may raise what it likes: the more able pickler has the last word
        sink = _Sink(bytes_max)
        _pack_by_value(value, sink, dill=dill)
    if not sink.buffers and (len(sink.stream) == 1 or sink.nbytes <= BUFFER_BYTES_MIN):
        return b"".join(sink.stream)
    return Packed(sink.stream, sink.buffers, sink.nbytes)


def pack_error(error: BaseException, bytes_max: int, *, dill: bool) -> bytes | Packed:
    """Return an exception packed, and loaded once to prove that it can be; raises as `pack` and loading do.

    Many exceptions can be pickled and not loaded: their constructor takes something else than their `args`.
    """
    packed = pack(error, bytes_max, dill=dill)
    stream, buffers = (packed, []) if isinstance(packed, bytes) else (b"".join(packed.stream), packed.buffers)
    if dill:
        import dill as loader

        again = loader.loads(stream)
    else:
        again = pickle.loads(stream, buffers=buffers)
    if not isinstance(again, BaseException):
        raise TypeError(f"it is loaded as {type(again).__name__}, which is no exception")
    return packed


def _pack_by_value(value: object, sink: _Sink, *, dill: bool) -> None:
    if dill:
        import dill as packer

        packer.dump(value, sink)
    else:
        import cloudpickle

        cloudpickle.Pickler(sink, _PROTOCOL, buffer_callback=sink.inside).dump(value)


class _Sink:
    """The file that a pickler writes to. Large bytes come as they are, so this is no copy of them."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.stream: list[bytes] = []
        self.buffers: list[memoryview] = []
        self.nbytes = 0

    def write(self, data: bytes) -> int:
        self._count(len(data))
        self.stream.append(data)
        return len(data)

    def inside(self, buffer: pickle.PickleBuffer) -> bool:
        """Say whether a buffer goes into the stream; those that do not are collected."""
        try:
            raw = buffer.raw()
        except BufferError:  # it has gaps: pickle says what it thinks of it
            return True
        if raw.nbytes < BUFFER_BYTES_MIN:
            return True
        self._count(raw.nbytes)
        self.buffers.append(raw)
        return False

    def _count(self, nbytes: int) -> None:
        self.nbytes += nbytes
        if self.nbytes > self._bytes_max:
            raise TooLargeError(f"it has more than {self._bytes_max} bytes when packed")
