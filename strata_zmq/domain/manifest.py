"""The records that make a checkpoint: chunk, rank index, manifest and HEAD, as values.

It knows what a valid record is, never how or where it is stored, what time it is, or how to put a model together again.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from strata_zmq.domain.names import check_metadata, check_name
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CHECKPOINT_ID_MAX",
    "METRICS_MAX",
    "ChunkRecord",
    "Codec",
    "Head",
    "HeadEntry",
    "Kind",
    "Manifest",
    "RankEntry",
    "RankIndex",
    "Span",
    "TensorRecord",
    "check_checkpoint_id",
    "check_metrics",
    "save_order",
    "save_term",
    "tensor_dtype",
]

CHECKPOINT_ID_MAX = 128
METRICS_MAX = 64
_COUNT_MAX = 2**62
_RANKS_MAX = 1_000_000
_RETAINED_MAX = 10_000
_DIMENSIONS_MAX = 64

Kind = Literal["FULL", "INCREMENTAL", "OPTIMIZER_ONLY", "MODEL_ONLY"]
"""What part of the training state a checkpoint holds."""

Codec = Literal["", "zstd"]
"""How a chunk's bytes are stored: as they are, or compressed."""

_CLUSTER_ID = re.compile(r"step-(\d+)-g(\d+)-t(\d+)")


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """One stored slice of a rank's bytes: the blake3 of its content in hexadecimal, its size, and where it lies.

    It is bytes [offset, offset + stored_bytes) of the object under `key`, which may hold others beside it. `digest` and
    `nbytes` are those of the bytes themselves, before a `codec` made `stored` of them (0: as many as there are).
    """

    key: str
    digest: str
    nbytes: int
    offset: int = 0
    codec: Codec = ""
    stored: int = 0

    def __post_init__(self) -> None:
        _text("chunk key", self.key)
        _digest("chunk digest", self.digest)
        _count("chunk size", self.nbytes, minimum=1)
        _count("chunk offset", self.offset)
        _count("stored size", self.stored)
        if self.codec not in get_args(Codec):
            raise InvalidArgumentError(f"codec is {ascii(self.codec)[:48]}: this release knows zstd")
        if not self.codec and self.stored not in {0, self.nbytes}:
            raise InvalidArgumentError(f"chunk {self.key} is not compressed, and {self.stored} of {self.nbytes} bytes")
        if self.codec and not self.stored:
            raise InvalidArgumentError(f"chunk {self.key} is compressed and does not say to how many bytes")

    @property
    def stored_bytes(self) -> int:
        """How many bytes of the object it takes."""
        return self.stored or self.nbytes


@dataclass(frozen=True, slots=True)
class Span:
    """`nbytes` bytes of chunk number `chunk`, from `offset` on."""

    chunk: int
    offset: int
    nbytes: int

    def __post_init__(self) -> None:
        _count("span chunk", self.chunk)
        _count("span offset", self.offset)
        _count("span size", self.nbytes, minimum=1)


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """One array: its path in the state tree, NumPy dtype string, shape, and the spans that hold its C-order bytes.

    `tag` tells what it was: "numpy", "scalar" (a NumPy scalar), "bytes", or "torch:" and the torch dtype's name. A part
    of a larger array has that one's `global_shape`, and in `global_offsets` the place of its first element in it.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    tag: str
    spans: tuple[Span, ...]
    global_shape: tuple[int, ...] | None = None
    global_offsets: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _text("tensor path", self.path)
        _text("tensor tag", self.tag)
        _text("tensor dtype", self.dtype)
        if len(self.shape) > _DIMENSIONS_MAX:
            raise InvalidArgumentError(
                f"tensor {self.path} has {len(self.shape)} dimensions, the limit is {_DIMENSIONS_MAX}: reshape it"
            )
        for length in self.shape:
            _count(f"shape of tensor {self.path}", length)
        held = sum(span.nbytes for span in self.spans)
        if held != self.nbytes:
            raise InvalidArgumentError(
                f"tensor {self.path} needs {self.nbytes} bytes, its spans hold {held}: the index is damaged"
            )
        _check_place(self.path, self.shape, self.global_shape, self.global_offsets)

    @property
    def nbytes(self) -> int:
        """Size in bytes, from dtype and shape."""
        return tensor_dtype(self.path, self.dtype).itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class RankIndex:
    """What one rank saved: a skeleton (the tree with references to tensors), the tensors, and their chunks.

    `rng` is a skeleton without tensors: the state of the process's random number generators.
    """

    rank: int
    skeleton: Any
    tensors: tuple[TensorRecord, ...]
    chunks: tuple[ChunkRecord, ...]
    rng: Any = None

    def __post_init__(self) -> None:
        _count("rank", self.rank, maximum=_RANKS_MAX)
        for tensor in self.tensors:
            for span in tensor.spans:
                if span.chunk >= len(self.chunks):
                    raise InvalidArgumentError(
                        f"tensor {tensor.path} refers to chunk {span.chunk} of {len(self.chunks)}"
                    )
                if span.offset + span.nbytes > self.chunks[span.chunk].nbytes:
                    raise InvalidArgumentError(f"tensor {tensor.path} reaches beyond the end of chunk {span.chunk}")

    @property
    def nbytes(self) -> int:
        """Bytes in all chunks."""
        return sum(chunk.nbytes for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class RankEntry:
    """Where a manifest finds one rank: its worker, the key and blake3 digest of its index, its bytes in chunks.

    `refs` are the other checkpoints in whose folders some of its chunks lie; `written_bytes` is what was new (-1: not
    told). `drained`: a storage writer finished it after the worker's death.
    """

    rank: int
    worker_id: str
    index_key: str
    digest: str
    size_bytes: int
    refs: tuple[str, ...] = ()
    written_bytes: int = -1
    drained: bool = False

    def __post_init__(self) -> None:
        _count("rank", self.rank, maximum=_RANKS_MAX)
        _text("worker_id", self.worker_id)
        _text("index_key", self.index_key)
        _digest("index digest", self.digest)
        _count("size_bytes", self.size_bytes)
        _count("written_bytes", self.written_bytes, minimum=-1)
        _ids("refs", self.refs)
        if type(self.drained) is not bool:
            raise InvalidArgumentError(f"drained is {ascii(self.drained)[:48]}: give true or false")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The index of one checkpoint.

    `term` and `generation` are those of its commit, `created_at` is in Unix seconds, `ranks` holds one entry per rank
    in rank order, `metadata` at most 64 texts of 1024 characters, and `ledger` the committed history at that point, any
    JSON value. `metrics` are at most 64 finite numbers by which a best checkpoint is chosen, `parent` is the checkpoint
    whose chunks could be referred to, and `lineage` marks the history that the ledger is of.
    """

    checkpoint_id: str
    step: int
    epoch: int
    term: int
    generation: int
    created_at: float
    ranks: tuple[RankEntry, ...]
    kind: Kind = "FULL"
    metadata: Mapping[str, str] = field(default_factory=dict)
    ledger: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str = ""
    lineage: int = 0

    def __post_init__(self) -> None:
        check_checkpoint_id(self.checkpoint_id)
        check_metrics(self.metrics)
        if self.parent:
            check_checkpoint_id(self.parent)
        for name in ("step", "epoch", "term", "generation", "lineage"):
            _count(name, getattr(self, name))
        _moment("created_at", self.created_at)
        _check_kind(self.kind)
        check_metadata("metadata", self.metadata)
        if not 1 <= len(self.ranks) <= _RANKS_MAX:
            raise InvalidArgumentError(f"{len(self.ranks)} ranks, the limits are 1 and {_RANKS_MAX}")
        if [entry.rank for entry in self.ranks] != list(range(len(self.ranks))):
            raise InvalidArgumentError(
                f"the ranks of {self.checkpoint_id} are not 0 to {len(self.ranks) - 1} in order, each once"
            )

    @property
    def world_size(self) -> int:
        """How many ranks saved."""
        return len(self.ranks)

    @property
    def size_bytes(self) -> int:
        """Bytes in all ranks' chunks."""
        return sum(entry.size_bytes for entry in self.ranks)

    @property
    def refs(self) -> tuple[str, ...]:
        """The other checkpoints in whose folders chunks of this one lie, in ascending order."""
        return tuple(sorted({ref for entry in self.ranks for ref in entry.refs}))


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """One committed checkpoint in HEAD: enough to list it, and to decide what stays, without opening its manifest."""

    checkpoint_id: str
    manifest_key: str
    digest: str
    step: int
    epoch: int
    generation: int
    world_size: int
    size_bytes: int
    created_at: float
    kind: Kind = "FULL"
    metrics: Mapping[str, float] = field(default_factory=dict)
    refs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_checkpoint_id(self.checkpoint_id)
        _check_kind(self.kind)
        check_metrics(self.metrics)
        _ids("refs", self.refs)
        _text("manifest_key", self.manifest_key)
        _digest("manifest digest", self.digest)
        for name in ("step", "epoch", "generation", "size_bytes"):
            _count(name, getattr(self, name))
        _count("world_size", self.world_size, minimum=1, maximum=_RANKS_MAX)
        _moment("created_at", self.created_at)


@dataclass(frozen=True, slots=True)
class Head:
    """The one object whose advance commits: the fence, a counter of advances, and what is retained, oldest first.

    The fence (term, generation, step) is that of the last commit under a coordinator; a lower one is refused. Neither
    `pins` are ever dropped nor the `verified` one, the last that was read whole. `kept` are checkpoints that are not
    retained any more, in whose folders chunks of retained ones lie, and `retired` those that went last or were given
    up: none of them is ever committed again. The `nonce` makes the bytes of each advance its own: a store whose
    versions are digests could not tell two advances with equal bytes apart.
    """

    term: int = 0
    generation: int = 0
    step: int = 0
    version: int = 0
    retained: tuple[HeadEntry, ...] = ()
    nonce: str = ""
    pins: tuple[str, ...] = ()
    verified: str = ""
    kept: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _text("nonce", self.nonce)
        _ids("pins", self.pins)
        _ids("kept", self.kept)
        _ids("retired", self.retired)
        if self.verified:
            check_checkpoint_id(self.verified)
        for name in ("term", "generation", "step", "version"):
            _count(name, getattr(self, name))
        if len(self.retained) > _RETAINED_MAX:
            raise InvalidArgumentError(
                f"HEAD retains {len(self.retained)} checkpoints, the limit is {_RETAINED_MAX}: lower keep_count"
            )
        if len({entry.checkpoint_id for entry in self.retained}) != len(self.retained):
            raise InvalidArgumentError("HEAD names a checkpoint twice")

    @property
    def fence(self) -> tuple[int, int, int]:
        """(term, generation, step), compared from the left."""
        return self.term, self.generation, self.step

    @property
    def latest(self) -> HeadEntry | None:
        """The checkpoint that was committed last."""
        return self.retained[-1] if self.retained else None

    def find(self, checkpoint_id: str) -> HeadEntry | None:
        """Return the entry of a retained checkpoint."""
        return next((entry for entry in self.retained if entry.checkpoint_id == checkpoint_id), None)


def check_checkpoint_id(value: object) -> str:
    """Accept 1 to 128 characters of A-Z a-z 0-9 _ . - of which the first is no dot."""
    text = check_name("checkpoint_id", value, CHECKPOINT_ID_MAX)
    if text.startswith("."):
        raise InvalidArgumentError(f"checkpoint_id {text!r} begins with a dot: begin with a letter or a digit")
    return text


def check_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Accept at most 64 finite numbers under names."""
    if len(metrics) > METRICS_MAX:
        raise InvalidArgumentError(f"metrics has {len(metrics)} entries, the limit is {METRICS_MAX}: give fewer")
    for name, value in metrics.items():
        check_name("metrics", name, CHECKPOINT_ID_MAX)
        if type(value) not in {float, int} or not math.isfinite(value):
            raise InvalidArgumentError(f"metrics[{name!r}] is {ascii(value)[:48]}: give a finite number")
    return dict(metrics)


def save_order(checkpoint_id: str) -> tuple[int, int] | None:
    """Return (generation, step) of a save under a coordinator, from the id that it gave; None for other ids.

    Such ids read `step-S-gG-tT`. Of two saves the lower can no longer be committed once the higher is.
    """
    match = _CLUSTER_ID.fullmatch(checkpoint_id)
    return (int(match[2]), int(match[1])) if match else None


def save_term(checkpoint_id: str) -> int | None:
    """Return the term in which a save under a coordinator was opened, from the id that it gave; None for other ids."""
    match = _CLUSTER_ID.fullmatch(checkpoint_id)
    return int(match[3]) if match else None


def tensor_dtype(path: str, text: str) -> np.dtype[Any]:
    """Return the dtype of a stored array; plain numbers, times and fixed-width text only, never objects."""
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, SyntaxError):
        raise InvalidArgumentError(f"tensor {path} has the unknown dtype {text[:48]!a}") from None
    if dtype.kind not in "biufcSUmM" or dtype.str != text:
        raise InvalidArgumentError(f"tensor {path} has the dtype {text[:48]!a}, which is not stored")
    return dtype


def _check_place(
    path: str, shape: tuple[int, ...], whole: tuple[int, ...] | None, offsets: tuple[int, ...] | None
) -> None:
    if whole is None and offsets is None:
        return
    if whole is None or offsets is None or not len(whole) == len(offsets) == len(shape):
        raise InvalidArgumentError(f"tensor {path} is a shard: give its global shape and offsets, as long as its shape")
    for length, begin, limit in zip(shape, offsets, whole, strict=True):
        _count(f"global offset of tensor {path}", begin)
        _count(f"global shape of tensor {path}", limit)
        if begin + length > limit:
            raise InvalidArgumentError(
                f"tensor {path} of shape {shape} at {offsets} reaches beyond its global shape {whole}"
            )


def _check_kind(kind: object) -> None:
    if kind not in get_args(Kind):
        raise InvalidArgumentError(f"kind is {ascii(kind)[:48]}: give one of {', '.join(get_args(Kind))}")


def _ids(name: str, ids: tuple[str, ...]) -> None:
    for one in ids:
        check_checkpoint_id(one)
    if len(set(ids)) != len(ids):
        raise InvalidArgumentError(f"{name} names a checkpoint twice")


def _count(name: str, value: object, *, minimum: int = 0, maximum: int = _COUNT_MAX) -> int:
    if type(value) is not int or not minimum <= value <= maximum:
        raise InvalidArgumentError(f"{name} is {ascii(value)[:48]}: give an integer from {minimum} to {maximum}")
    return value


def _moment(name: str, value: object) -> float:
    if type(value) not in {float, int} or not 0 <= value < 2**53:  # type: ignore[operator]
        raise InvalidArgumentError(f"{name} is {ascii(value)[:48]}: give seconds since 1970")
    return float(value)  # type: ignore[arg-type]


def _text(name: str, value: object) -> str:
    if type(value) is not str:
        raise InvalidArgumentError(f"{name} is {ascii(value)[:48]}: give text")
    return value


def _digest(name: str, value: object) -> str:
    text = _text(name, value)
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise InvalidArgumentError(f"{name} is {ascii(text)[:48]}: give 64 hexadecimal digits")
    return text
