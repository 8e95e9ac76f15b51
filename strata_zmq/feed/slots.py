"""How one slot of a ring is laid out: a bounded header that describes the arrays behind it.

Knows nothing about waiting, signalling or processes. A ring's segment begins with two queues of slot numbers (free,
ready), and then the slots follow. A slot is HEADER_BYTES of header and then `slot_bytes` of
payload, both whole pages. The header is a fixed prefix (magic, length, sequence number) and a MessagePack array;
what a consumer reads there is checked against the slot's bounds before a single view is made.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from strata_zmq.errors import InvalidArgumentError, ProtocolError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

    from strata_zmq.feed.segment import MemfdSegment

__all__ = [
    "ARRAYS_MAX",
    "DTYPES",
    "HEADER_BYTES",
    "NOTE_BYTES_MAX",
    "ArraySpec",
    "Geometry",
    "SlotDescription",
    "batch_bytes",
    "native_dtype",
    "read_header",
    "spec_for",
    "view",
    "write_header",
]

HEADER_BYTES = 32 * 1024
NOTE_BYTES_MAX = 16 * 1024
ARRAYS_MAX = 64
SLOTS_MAX = 4096
NDIM_MAX = 32
NAME_BYTES_MAX = 64
# Each array starts on its own boundary; 256 bytes is also what CUDA's allocators keep to.
ALIGN_BYTES = 256
DTYPES: frozenset[str] = frozenset(
    np.dtype(name).str
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
)
_PREFIX = struct.Struct("=4sIQ")  # magic, bytes of the body, sequence number
_MAGIC = b"SLOT"


class ArraySpec(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One array of a slot: `offset` is in bytes from the payload's start, `dtype` is NumPy's string, C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """The array's size in bytes."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


class SlotDescription(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a slot says of itself: its arrays, and a note (at most NOTE_BYTES_MAX) that only its two ends understand."""

    arrays: tuple[ArraySpec, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Geometry:
    """A ring's shape: how many slots, and how many payload bytes each can hold (rounded up to whole pages)."""

    slots: int
    slot_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= SLOTS_MAX:
            raise InvalidArgumentError(f"ring slots: 1 to {SLOTS_MAX}, got {self.slots}")
        if self.slot_bytes < 1:
            raise InvalidArgumentError(f"ring slot_bytes: at least 1, got {self.slot_bytes}")
        object.__setattr__(self, "slot_bytes", _whole_pages(self.slot_bytes))

    @property
    def queues_bytes(self) -> int:
        """Bytes of the two queues before the first slot."""
        return _whole_pages(2 * self.slots * np.dtype(np.uint32).itemsize)

    @property
    def stride(self) -> int:
        """Bytes from one slot to the next."""
        return HEADER_BYTES + self.slot_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole ring."""
        return self.queues_bytes + self.slots * self.stride

    def queues(self, segment: MemfdSegment) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the queues of free and of ready slots, each of length `slots`."""
        both = segment.array(np.uint32, (2, self.slots))
        return both[0], both[1]

    def places(self, segment: MemfdSegment) -> list[tuple[memoryview, NDArray[np.uint8]]]:
        """Return each slot's header bytes and payload bytes."""
        starts = [self.queues_bytes + index * self.stride for index in range(self.slots)]
        whole = segment.view
        return [
            (
                whole[start : start + HEADER_BYTES],
                segment.array(np.uint8, (self.slot_bytes,), start + HEADER_BYTES),
            )
            for start in starts
        ]


def native_dtype(name: str, dtype: DTypeLike) -> np.dtype[Any]:
    """Return `dtype` in this machine's byte order; InvalidArgumentError for one that cannot be shared."""
    kind = np.dtype(dtype)
    native = kind.newbyteorder("=") if kind.names is None else kind
    if native.str not in DTYPES:
        allowed = ", ".join(sorted(np.dtype(each).name for each in DTYPES))
        raise InvalidArgumentError(f"array {name!r}: dtype {kind} cannot travel in a slot; use one of {allowed}")
    return native


def spec_for(name: str, dtype: DTypeLike, shape: tuple[int, ...], used: int, slot_bytes: int) -> ArraySpec:
    """Place an array behind the `used` bytes of a slot; ResourceExhaustedError names both sizes if it does not fit."""
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
        raise InvalidArgumentError(f"array name: 1 to {NAME_BYTES_MAX} bytes, got {name!r}")
    if len(shape) > NDIM_MAX or min(shape, default=0) < 0:
        raise InvalidArgumentError(f"array {name!r}: at most {NDIM_MAX} dimensions, none negative, got {shape}")
    spec = ArraySpec(name, native_dtype(name, dtype).str, tuple(int(n) for n in shape), _aligned(used))
    if spec.offset + spec.nbytes > slot_bytes:
        raise ResourceExhaustedError(
            f"array {name!r} of shape {shape} ends at byte {spec.offset + spec.nbytes} of a slot that holds "
            f"{slot_bytes}; raise slot_bytes or make the batch smaller"
        )
    return spec


def view(payload: NDArray[np.uint8], spec: ArraySpec) -> NDArray[Any]:
    """Return the array that `spec` describes inside `payload`, without a copy."""
    return payload[spec.offset : spec.offset + spec.nbytes].view(spec.dtype).reshape(spec.shape)


def batch_bytes(rows: int, arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> int:
    """Return the payload bytes of `rows` rows of arrays that are given as name -> (dtype, shape of one row)."""
    used = 0
    for name, (dtype, row) in arrays.items():
        used = _aligned(used) + native_dtype(name, dtype).itemsize * math.prod(row) * rows
    return max(used, 1)


def write_header(header: memoryview, sequence: int, description: SlotDescription) -> None:
    """Describe a slot; what does not fit the header is an InvalidArgumentError."""
    if len(description.note) > NOTE_BYTES_MAX:
        raise InvalidArgumentError(f"slot note: at most {NOTE_BYTES_MAX} bytes, got {len(description.note)}")
    if len(description.arrays) > ARRAYS_MAX:
        raise InvalidArgumentError(f"slot: at most {ARRAYS_MAX} arrays, got {len(description.arrays)}")
    body = msgspec.msgpack.encode(description)
    end = _PREFIX.size + len(body)
    if end > HEADER_BYTES:
        raise InvalidArgumentError(f"slot header: at most {HEADER_BYTES} bytes, this description needs {end}")
    header[: _PREFIX.size] = _PREFIX.pack(_MAGIC, len(body), sequence)
    header[_PREFIX.size : end] = body


def read_header(header: memoryview, sequence: int, slot_bytes: int) -> SlotDescription:
    """Return a slot's checked description; ProtocolError for anything a correct producer would not have written."""
    magic, body_bytes, found = _PREFIX.unpack_from(header)
    if magic != _MAGIC or body_bytes > HEADER_BYTES - _PREFIX.size:
        raise ProtocolError(f"slot {sequence}: the header is damaged")
    if found != sequence:
        raise ProtocolError(f"slot {sequence}: the header carries sequence number {found}; two producers?")
    # Copied first: the producer could still change what is being checked.
    body = bytes(header[_PREFIX.size : _PREFIX.size + body_bytes])
    try:
        description = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"slot {sequence}: the header cannot be decoded ({error})") from error
    if len(description.arrays) > ARRAYS_MAX or len({spec.name for spec in description.arrays}) < len(
        description.arrays
    ):
        raise ProtocolError(f"slot {sequence}: more than {ARRAYS_MAX} arrays, or two of one name")
    for spec in description.arrays:
        if (
            spec.dtype not in DTYPES
            or len(spec.shape) > NDIM_MAX
            or min(spec.shape, default=0) < 0
            or spec.offset < 0
            or spec.offset % ALIGN_BYTES
            or spec.offset + spec.nbytes > slot_bytes
        ):
            raise ProtocolError(f"slot {sequence}: array {spec.name!r} lies outside the slot's {slot_bytes} bytes")
    return description


_DECODER = msgspec.msgpack.Decoder(SlotDescription)


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN_BYTES) * ALIGN_BYTES
