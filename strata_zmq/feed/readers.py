"""What a loader process reads with, described so that the description can travel without pickling.

Knows nothing about rings or processes. A description is small and typed; `open` turns it into a `Reader` in the
loader process, where the files and the user's code are.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec
import numpy as np

from strata_zmq.errors import InvalidArgumentError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "ArrayReader",
    "FactoryReader",
    "InPlaceReader",
    "Reader",
    "ReaderDescription",
    "decode_reader",
    "encode_reader",
]

# A row of an array: its dtype, and its shape without the leading sample axis.
Row = tuple[np.dtype[Any], tuple[int, ...]]


@runtime_checkable
class Reader(Protocol):
    """The two methods that a source of samples needs; it may block as long as it likes, the trainer goes on."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def read(self, indices: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        """Return arrays with one row per index, in the order of `indices`; each index is in [0, len(self))."""


@runtime_checkable
class InPlaceReader(Reader, Protocol):
    """A reader that knows its rows beforehand and writes them straight into the slot, without a copy."""

    def rows(self) -> Mapping[str, Row]:
        """Return, by array name, the dtype and the shape of one row."""

    def read_into(self, indices: NDArray[np.int64], out: Mapping[str, NDArray[Any]]) -> None:
        """Fill every array of `out`, which has the dtype and row shape of `rows` and one row per index."""


class ArrayReader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="arrays"):
    """Memory-mapped .npy files, by array name: `ArrayReader({"x": "images.npy", "y": "labels.npy"})`.

    All files have the same number of rows.
    """

    arrays: dict[str, str]

    def open(self) -> Reader:
        """Map the files; NotFoundError, StorageError and InvalidArgumentError name the array and the path."""
        if not self.arrays:
            raise InvalidArgumentError("ArrayReader: at least one array, such as {'x': 'x.npy'}")
        return _Arrays({name: _mapped(name, os.fspath(path)) for name, path in self.arrays.items()})


class FactoryReader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="factory"):
    """Any reader: `factory` is "package.module:callable", called in the loader process with `kwargs`.

    `kwargs` holds JSON types only. The callable returns an object with `__len__` and `read`.
    """

    factory: str
    kwargs: dict[str, Any] = {}

    def open(self) -> Reader:
        """Import and call the factory; InvalidArgumentError says what is wrong with its name or its result."""
        module_name, _, attribute = self.factory.partition(":")
        if not module_name or not attribute:
            raise InvalidArgumentError(f"reader factory: 'package.module:callable' is the form, got {self.factory!r}")
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
        except (ModuleNotFoundError, AttributeError) as error:
            raise NotFoundError(f"reader factory {self.factory!r}: {error}") from error
        reader = factory(**self.kwargs)
        if not isinstance(reader, Reader):
            raise InvalidArgumentError(
                f"reader factory {self.factory!r}: returned {type(reader).__name__}, which lacks __len__ or read"
            )
        return reader


ReaderDescription = ArrayReader | FactoryReader


def encode_reader(reader: ReaderDescription) -> bytes:
    """Return the description's bytes; InvalidArgumentError if it holds something that JSON has no type for."""
    try:
        return msgspec.json.encode(reader)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"reader: its description must be of JSON types ({error})") from error


def decode_reader(description: bytes) -> ReaderDescription:
    """Return what `encode_reader` described."""
    return _DECODER.decode(description)


_DECODER: msgspec.json.Decoder[ReaderDescription] = msgspec.json.Decoder(ArrayReader | FactoryReader)


class _Arrays:
    """The open form of ArrayReader."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidArgumentError(f"ArrayReader: all arrays need the same number of rows, got {lengths}")
        self._arrays = arrays
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def read(self, indices: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        return {name: np.take(array, indices, axis=0) for name, array in self._arrays.items()}

    def rows(self) -> dict[str, Row]:
        return {name: (array.dtype, array.shape[1:]) for name, array in self._arrays.items()}

    def read_into(self, indices: NDArray[np.int64], out: Mapping[str, NDArray[Any]]) -> None:
        for name, array in self._arrays.items():
            # mode="raise" would go through a buffer; the indices were checked against the length before.
            np.take(array, indices, axis=0, out=out[name], mode="clip")


def _mapped(name: str, path: str) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise NotFoundError(f"ArrayReader: array {name!r}: {path} does not exist") from error
    except OSError as error:
        raise StorageError(f"ArrayReader: array {name!r}: {path} cannot be read ({error})") from error
    except ValueError as error:
        raise InvalidArgumentError(f"ArrayReader: array {name!r}: {path} is no whole .npy file ({error})") from error
    if not isinstance(array, np.memmap) or array.ndim == 0:
        raise InvalidArgumentError(f"ArrayReader: array {name!r}: {path} must hold one array with a sample axis")
    return np.asarray(array)
