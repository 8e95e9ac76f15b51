"""Arrays that a caller gave to be filled: their memory, and whether it fits what is stored. It reads nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.arrays import as_leaf
from strata_zmq.checkpoint.reshard import Box
from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from strata_zmq.checkpoint.arrays import Leaf
    from strata_zmq.domain.manifest import TensorRecord

__all__ = ["Place", "place_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """Memory to fill. `part`: which box of a whole array of shape `whole` it is, where it was given as a Sharded."""

    memory: NDArray[Any]
    part: Box | None = None
    whole: tuple[int, ...] | None = None


def place_of(path: str, value: Any, tensor: TensorRecord, *, as_numpy: bool) -> Place | None:
    """Return the memory of `value`, which is to take `tensor`; None for what has none of its own (a scalar, bytes).

    Raises InvalidArgumentError where dtype or shape differ, or the memory cannot be written from here.
    """
    if tensor.tag in {"scalar", "bytes"}:
        return None
    if isinstance(value, Sharded):
        memory, _ = _memory(f"{path}.array", value.array, tensor, as_numpy=as_numpy)
        return Place(memory, Box(value.offsets, memory.shape), value.global_shape)
    memory, leaf = _memory(path, value, tensor, as_numpy=as_numpy)
    if leaf.global_shape is None or leaf.global_offsets is None:
        return Place(memory)
    return Place(memory, Box(leaf.global_offsets, memory.shape), leaf.global_shape)


def _memory(path: str, value: Any, tensor: TensorRecord, *, as_numpy: bool) -> tuple[NDArray[Any], Leaf]:
    torch = sys.modules.get("torch")
    is_tensor = torch is not None and isinstance(value, torch.Tensor)
    if not is_tensor and not isinstance(value, np.ndarray):
        raise InvalidArgumentError(
            f"{path} is a {type(value).__name__}, which cannot be filled in place: give a NumPy array or a torch "
            "tensor in host memory, or None to have it made"
        )
    leaf = as_leaf(path, value)
    if leaf is None:
        raise InvalidArgumentError(f"{path} is a {type(value).__name__}, which is not stored: give None")
    memory = leaf.read()
    bits = tensor.tag.startswith("torch:") and leaf.tag != tensor.tag and not _same_numbers(tensor)
    if leaf.dtype != tensor.dtype or (leaf.tag.startswith("torch:") and not _same_tag(leaf.tag, tensor)):
        raise InvalidArgumentError(f"{path} is of {_kind(leaf.tag, leaf.dtype)}, {tensor.path} of {_described(tensor)}")
    if bits and not as_numpy:
        raise InvalidArgumentError(
            f"{path} is of {leaf.dtype}, {tensor.path} of {_described(tensor)}: load as_numpy=True to have its bits"
        )
    local = value.to_local() if hasattr(value, "to_local") else value  # of a distributed tensor, this rank's part
    if is_tensor and memory.size and memory.ctypes.data != local.data_ptr():
        raise InvalidArgumentError(f"{path} lies on {value.device}: give a tensor in host memory, or None to copy from")
    if not memory.flags.writeable:
        raise InvalidArgumentError(f"{path} is read-only: give an array that can be written")
    return memory, leaf


def _same_tag(tag: str, tensor: TensorRecord) -> bool:
    """Say whether a torch tensor with `tag` holds what `tensor` does, given that the NumPy dtypes are equal."""
    if tensor.tag.startswith("torch:"):
        return tag == tensor.tag
    return np.dtype(tensor.dtype).name == tag.removeprefix("torch:")


def _same_numbers(tensor: TensorRecord) -> bool:
    """Say whether NumPy has the numbers of a stored torch tensor, not only their bits."""
    return np.dtype(tensor.dtype).name == tensor.tag.removeprefix("torch:")


def _described(tensor: TensorRecord) -> str:
    return _kind(tensor.tag, tensor.dtype)


def _kind(tag: str, dtype: str) -> str:
    return tag.replace("torch:", "torch.") if tag.startswith("torch:") else dtype
