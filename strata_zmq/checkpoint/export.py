"""A checkpoint's arrays as one file that other programs read: safetensors. It knows that format and no other.

The file is 8 bytes of length, a JSON header of names, types and places, and the arrays one after the other, without a
gap (https://github.com/huggingface/safetensors). Arrays are read straight into the file's memory; the file appears
under its name once it is whole and on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.gathering import Gathering, box_of, read_indexes, whole_of
from strata_zmq.checkpoint.reading import MEMORY_BUDGET_BYTES, Budget
from strata_zmq.checkpoint.reshard import Box
from strata_zmq.checkpoint.selecting import chosen, names_of
from strata_zmq.checkpoint.tree import rebuild
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import HeadEntry, Manifest, RankIndex, TensorRecord

__all__ = ["ExportReport", "export_safetensors"]

_HEADER_MAX = 100_000_000
_ALIGNMENT = 8
_TYPES = {
    "|b1": "BOOL",
    "|u1": "U8",
    "|i1": "I8",
    "<u2": "U16",
    "<i2": "I16",
    "<f2": "F16",
    "<u4": "U32",
    "<i4": "I32",
    "<f4": "F32",
    "<u8": "U64",
    "<i8": "I64",
    "<f8": "F64",
    "<c8": "C64",
}
_TORCH_TYPES = {
    "torch:bfloat16": "BF16",
    "torch:float8_e4m3fn": "F8_E4M3",
    "torch:float8_e5m2": "F8_E5M2",
    "torch:float8_e8m0fnu": "F8_E8M0",
}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote: the file, how many arrays with how many bytes, and what it left out because it is none."""

    path: Path
    arrays: int
    bytes: int
    left_out: tuple[str, ...]


async def export_safetensors(
    store: CheckpointStore,
    entry: HeadEntry,
    path: str | os.PathLike[str],
    *,
    rank: int | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
    memory_budget_bytes: int = MEMORY_BUDGET_BYTES,
) -> ExportReport:
    """Write a checkpoint's arrays to `path`: parts that ranks saved are joined; with `rank`, that one's own are taken.

    An array is called by its keys, joined by dots. Raises AlreadyExistsError where the file is there, and
    InvalidArgumentError for arrays that the format does not know, and for those that cannot be joined for certain.
    """
    target = Path(path)
    if not overwrite and await asyncio.to_thread(target.exists):
        raise AlreadyExistsError(f"{target} is there already: choose another name, or overwrite it on purpose")
    budget = Budget(memory_budget_bytes)
    manifest = await store.read_manifest(entry)
    if rank is None:
        indexes = await read_indexes(store, manifest)
    else:
        indexes = [await store.read_rank_index(manifest, rank)]
    gathering = Gathering({index.rank: index for index in indexes})
    tensors, left_out = _wanted(indexes, names, entry.checkpoint_id)
    header, places = _header(manifest, tensors, joined=rank is None)
    size = len(header) + sum(nbytes for _, _, nbytes in places)
    try:
        with _file(target, size) as memory:
            memory[: len(header)] = np.frombuffer(header, np.uint8)
            for (_, (owner, tensor)), (begin, shape, nbytes) in zip(tensors, places, strict=True):
                place = memory[len(header) + begin : len(header) + begin + nbytes]
                array = place.view(tensor.dtype).reshape(shape) if nbytes else np.empty(shape, tensor.dtype)
                if rank is None:
                    gathering.want(tensor.path, array, Box((0,) * len(shape), shape))
                else:
                    gathering.want(tensor.path, array, box_of(tensor), only=owner)
            await gathering.read(store, budget)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{target} cannot be written: {error.strerror or error}; free space, or choose another"
        ) from error
    return ExportReport(target, len(tensors), size - len(header), left_out)


def _wanted(
    indexes: Sequence[RankIndex], names: Sequence[str] | None, checkpoint_id: str
) -> tuple[list[tuple[str, tuple[int, TensorRecord]]], tuple[str, ...]]:
    """Return the arrays by name, each with the first rank that has it, and the names of byte strings."""
    found: dict[str, tuple[int, TensorRecord]] = {}
    left_out: set[str] = set()
    for index in indexes:
        rebuild(index.skeleton, [None] * len(index.tensors), f"rank {index.rank} of {checkpoint_id}")
        skeleton = index.skeleton if names is None else chosen(index.skeleton, names)
        for number, name in names_of(skeleton).items():
            tensor = index.tensors[number]
            if tensor.tag == "bytes":
                left_out.add(name)
                continue
            known = found.setdefault(name, (index.rank, tensor))
            if known[1].path != tensor.path:
                raise InvalidArgumentError(
                    f"{known[1].path} and {tensor.path} would both be called {name!r}: export one of them, by names"
                )
    if not found:
        raise InvalidArgumentError(f"there is no array to export in {checkpoint_id}")
    # Large elements first, so that every array begins at a multiple of its own.
    order = sorted(found.items(), key=lambda item: (-np.dtype(item[1][1].dtype).itemsize, item[0]))
    return order, tuple(sorted(left_out))


def _header(
    manifest: Manifest, tensors: Sequence[tuple[str, tuple[int, TensorRecord]]], *, joined: bool
) -> tuple[bytes, list[tuple[int, tuple[int, ...], int]]]:
    """Return the file's beginning, and for each array its place behind it, its shape and its size."""
    told: dict[str, Any] = {
        "__metadata__": {
            "format": "strata",
            "checkpoint_id": manifest.checkpoint_id,
            "step": str(manifest.step),
            "epoch": str(manifest.epoch),
        }
    }
    places: list[tuple[int, tuple[int, ...], int]] = []
    begin = 0
    for name, (_, tensor) in tensors:
        shape = whole_of(tensor) if joined else tensor.shape
        nbytes = math.prod(shape) * np.dtype(tensor.dtype).itemsize
        told[name] = {
            "dtype": _type_of(name, tensor),
            "shape": list(shape),
            "data_offsets": [begin, begin + nbytes],
        }
        places.append((begin, shape, nbytes))
        begin += nbytes
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _HEADER_MAX:
        raise InvalidArgumentError(
            f"the header has {len(text)} bytes, the format allows {_HEADER_MAX}: export by names"
        )
    return len(text).to_bytes(8, "little") + text, places


def _type_of(name: str, tensor: TensorRecord) -> str:
    found = _TORCH_TYPES.get(tensor.tag)
    if found is None and not tensor.tag.startswith("torch:float8"):
        found = _TYPES.get(tensor.dtype)
    if found is None:
        raise InvalidArgumentError(
            f"{name} is {tensor.tag.removeprefix('torch:') if ':' in tensor.tag else tensor.dtype}, which safetensors "
            "does not know: leave it out by names"
        )
    return found


@contextlib.contextmanager
def _file(target: Path, size: int) -> Iterator[NDArray[np.uint8]]:
    """Give the memory of a new file of `size` bytes, which takes its name once all went well."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb+") as file:
            # A full disk is told here, and not by a signal when the memory is touched.
            os.posix_fallocate(file.fileno(), 0, size)
            # It is closed with the last array in it, and not before.
            mapped = mmap.mmap(file.fileno(), size)
            yield np.frombuffer(mapped, np.uint8)
            mapped.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)
