"""Arrays of any library as host memory, and back: one array at a time, bit by bit; knows no tree and no storage.

NumPy is always understood, and what offers `__array__` or DLPack on the CPU. PyTorch is understood when the program has
already imported it: saving never imports it.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.domain.manifest import tensor_dtype
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Leaf", "as_leaf", "bytes_leaf", "restored"]

_TORCH_PLAIN = frozenset(
    {
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    }
)
# NumPy has no name for these: their bits travel as unsigned integers of the same size.
_TORCH_BITS = {
    "bfloat16": ("int16", "uint16"),
    "float8_e4m3fn": ("uint8", "uint8"),
    "float8_e4m3fnuz": ("uint8", "uint8"),
    "float8_e5m2": ("uint8", "uint8"),
    "float8_e5m2fnuz": ("uint8", "uint8"),
    "float8_e8m0fnu": ("uint8", "uint8"),
}


_DLPACK_CPU = 1


@dataclass(frozen=True, slots=True)
class Leaf:
    """One array that is to be saved. `read` gives its present content in host memory, any strides, dtype and shape as
    stated; with `on_device` it copies from there, so it is called once, when there is a place for the bytes. A part of
    a larger array has that one's `global_shape`, and in `global_offsets` its first element's place in it.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    tag: str
    read: Callable[[], NDArray[Any]]
    on_device: bool = False
    global_shape: tuple[int, ...] | None = None
    global_offsets: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes once it is contiguous."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def as_leaf(path: str, value: object) -> Leaf | None:
    """Return `value` as a leaf if it is an array of some kind, else None.

    Raises InvalidArgumentError for arrays whose bits cannot be kept (objects, records, masks, sparse layouts).
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _torch_leaf(path, value, torch)
    if isinstance(value, Sharded):
        return _sharded_leaf(path, value)
    if isinstance(value, np.generic):
        return _numpy_leaf(path, np.asarray(value), "scalar")
    if isinstance(value, np.ndarray):
        if type(value) not in {np.ndarray, np.memmap}:
            raise InvalidArgumentError(
                f"{path} is a {type(value).__name__}, of which only the numbers could be kept: "
                "save numpy.asarray(...) of it, and what it adds (a mask, for example) beside it"
            )
        return _numpy_leaf(path, value, "numpy")
    if hasattr(value, "__cuda_array_interface__") and callable(getattr(value, "get", None)):
        return _device_leaf(path, value)
    if hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except Exception as error:
            raise InvalidArgumentError(
                f"{path} is a {type(value).__name__} whose __array__ failed ({error}): convert it to a NumPy array"
            ) from error
        return _numpy_leaf(path, np.asarray(array), "numpy")
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return _dlpack_leaf(path, value)
    return None


def bytes_leaf(path: str, value: bytes) -> Leaf:
    """Return long byte strings as a leaf, so that they travel as bytes."""
    return _numpy_leaf(path, np.frombuffer(value, np.uint8), "bytes")


def restored(array: NDArray[Any], tag: str, path: str, *, as_numpy: bool) -> Any:
    """Return `array`, which owns its memory, as what it was when it was saved.

    With `as_numpy` torch tensors come back as NumPy arrays (bfloat16 and float8 as unsigned integers of their bits).
    Raises InvalidArgumentError for a torch tensor where torch is not installed.
    """
    if tag == "numpy":
        return array
    if tag == "scalar":
        return array[()]
    if tag == "bytes":
        return array.tobytes()
    kind, _, name = tag.partition(":")
    if kind != "torch" or (name not in _TORCH_PLAIN and name not in _TORCH_BITS):
        raise InvalidArgumentError(f"{path} was saved as {tag[:48]!a}, which this release cannot restore")
    if as_numpy:
        return array
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise InvalidArgumentError(
            f"{path} is a torch tensor and torch is not installed: install strata-zmq[torch], or load as_numpy=True"
        ) from None
    bits = _TORCH_BITS.get(name)
    if bits is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(bits[0])).view(getattr(torch, name))


def _numpy_leaf(path: str, array: NDArray[Any], tag: str) -> Leaf:
    dtype = array.dtype
    if dtype.hasobject:
        raise InvalidArgumentError(f"{path} is an array of Python objects: save lists, dicts or arrays of numbers")
    if dtype.itemsize == 0 or dtype.fields is not None or dtype.kind == "V":
        raise InvalidArgumentError(
            f"{path} has the dtype {dtype}, which has no portable name: save its fields one by one, "
            "or its bits as .view() of unsigned integers"
        )
    return Leaf(path, tensor_dtype(path, dtype.str).str, array.shape, tag, lambda: array)


def _device_leaf(path: str, value: Any) -> Leaf:
    """Return an array of a CUDA library with a `get()` to the host, such as CuPy."""
    return Leaf(
        path,
        tensor_dtype(path, np.dtype(value.dtype).str).str,
        tuple(value.shape),
        "numpy",
        lambda: np.asarray(value.get()),
        on_device=True,
    )


def _dlpack_leaf(path: str, value: Any) -> Leaf:
    """Return an array that offers nothing but DLPack, on the CPU."""
    device = value.__dlpack_device__()[0]
    if int(device) != _DLPACK_CPU:
        raise InvalidArgumentError(
            f"{path} is a {type(value).__name__} on a device that DLPack calls {int(device)}: save a copy on the host"
        )
    try:
        array = np.from_dlpack(value)
    except Exception as error:
        raise InvalidArgumentError(
            f"{path} is a {type(value).__name__} whose DLPack failed ({error}): convert it to a NumPy array"
        ) from error
    return _numpy_leaf(path, array, "numpy")


def _sharded_leaf(path: str, value: Sharded) -> Leaf:
    leaf = as_leaf(path, value.array)
    if leaf is None or isinstance(value.array, Sharded):
        raise InvalidArgumentError(f"{path} is Sharded of a {type(value.array).__name__}: give it an array")
    if leaf.global_shape is not None:
        raise InvalidArgumentError(
            f"{path} is Sharded of a distributed tensor, which knows its place: save it as it is"
        )
    return replace(leaf, global_shape=value.global_shape, global_offsets=value.offsets)


def _distributed_leaf(path: str, tensor: Any, torch: Any) -> Leaf:
    """Return this rank's part of a DTensor, with its place in the whole."""
    leaf = _torch_leaf(path, tensor.to_local(), torch)
    whole = tuple(map(int, tensor.shape))
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None or any(place.is_partial() for place in tensor.placements):
        raise InvalidArgumentError(
            f"{path} is a distributed tensor that is partial, or on a mesh without this rank: redistribute it first"
        )
    offsets, shape = [0] * len(whole), list(whole)
    for at, place, count in zip(coordinate, tensor.placements, tensor.device_mesh.shape, strict=True):
        if place.is_shard():
            # As torch.chunk cuts: equal parts, the last ones shorter or empty.
            length = shape[place.dim]
            part = -(-length // count)
            begin = min(at * part, length)
            offsets[place.dim] += begin
            shape[place.dim] = min(part, length - begin)
    if leaf.shape != tuple(shape):
        raise InvalidArgumentError(
            f"{path} is a distributed tensor whose part has the shape {leaf.shape} where {tuple(shape)} was expected: "
            "save Sharded(its .to_local(), global_shape, offsets)"
        )
    return leaf if leaf.shape == whole else replace(leaf, global_shape=whole, global_offsets=tuple(offsets))


def _torch_leaf(path: str, tensor: Any, torch: Any) -> Leaf:
    name = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise InvalidArgumentError(
            f"{path} is a torch tensor that is sparse, quantised or without data: save its dense parts instead"
        )
    if hasattr(tensor, "full_tensor"):
        return _distributed_leaf(path, tensor, torch)
    if name not in _TORCH_PLAIN and name not in _TORCH_BITS:
        raise InvalidArgumentError(f"{path} is a torch tensor of {name}, which is not stored: save a .view() of it")

    def read() -> NDArray[Any]:
        host = tensor.detach().cpu().resolve_conj().resolve_neg()
        if name in _TORCH_BITS:
            through, bits = _TORCH_BITS[name]
            host = host.view(getattr(torch, through))
            return np.asarray(host.numpy()).view(bits)
        return np.asarray(host.numpy())

    dtype = np.dtype(_TORCH_BITS[name][1] if name in _TORCH_BITS else name)
    return Leaf(path, dtype.str, tuple(tensor.shape), f"torch:{name}", read, on_device=tensor.device.type != "cpu")
