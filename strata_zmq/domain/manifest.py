"""The records that make a checkpoint: chunk, rank index, manifest and HEAD, as values and as self-checking JSON.

It knows what a valid record is, never where it is stored, what time it is, or how to put a model together again.

Each record is stored as two lines: a header `{"kind": ..., "format": ..., "digest": ...}` and the body, whose
BLAKE2b-256 the header carries. So a record that was cut off, damaged or taken for another kind is told from a good one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from strata_zmq.domain.names import check_metadata, check_name
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "CHECKPOINT_ID_MAX",
    "FORMAT",
    "ChunkRecord",
    "Head",
    "HeadEntry",
    "Kind",
    "Manifest",
    "RankEntry",
    "RankIndex",
    "Span",
    "TensorRecord",
    "check_checkpoint_id",
    "decode_head",
    "decode_manifest",
    "decode_rank_index",
    "encode_head",
    "encode_manifest",
    "encode_rank_index",
    "save_order",
    "save_term",
    "tensor_dtype",
]

FORMAT = 1
CHECKPOINT_ID_MAX = 128
_COUNT_MAX = 2**62
_RANKS_MAX = 1_000_000
_RETAINED_MAX = 10_000
_DIMENSIONS_MAX = 64

Kind = Literal["FULL", "INCREMENTAL", "OPTIMIZER_ONLY", "MODEL_ONLY"]
"""What part of the training state a checkpoint holds."""

R = TypeVar("R")

_CLUSTER_ID = re.compile(r"step-(\d+)-g(\d+)-t(\d+)")


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """One stored slice of a rank's bytes: its key, the blake3 of its content in hexadecimal, its size in bytes."""

    key: str
    digest: str
    nbytes: int

    def __post_init__(self) -> None:
        _text("chunk key", self.key)
        _digest("chunk digest", self.digest)
        _count("chunk size", self.nbytes, minimum=1)


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

    `tag` tells what it was: "numpy", "scalar" (a NumPy scalar), "bytes", or "torch:" and the torch dtype's name.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    tag: str
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        _text("tensor path", self.path)
        _text("tensor tag", self.tag)
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

    @property
    def nbytes(self) -> int:
        """Size in bytes, from dtype and shape."""
        return tensor_dtype(self.path, self.dtype).itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class RankIndex:
    """What one rank saved: a skeleton (the tree with references to tensors), the tensors, and their chunks."""

    rank: int
    skeleton: Any
    tensors: tuple[TensorRecord, ...]
    chunks: tuple[ChunkRecord, ...]

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
    """Where a manifest finds one rank: its worker, the key and blake3 digest of its index, its bytes in chunks."""

    rank: int
    worker_id: str
    index_key: str
    digest: str
    size_bytes: int

    def __post_init__(self) -> None:
        _count("rank", self.rank, maximum=_RANKS_MAX)
        _text("worker_id", self.worker_id)
        _text("index_key", self.index_key)
        _digest("index digest", self.digest)
        _count("size_bytes", self.size_bytes)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The index of one checkpoint.

    `term` and `generation` are those of its commit, `created_at` is in Unix seconds, `ranks` holds one entry per rank
    in rank order, `metadata` at most 64 texts of 1024 characters, and `ledger` the committed history at that point, any
    JSON value.
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

    def __post_init__(self) -> None:
        check_checkpoint_id(self.checkpoint_id)
        for name in ("step", "epoch", "term", "generation"):
            _count(name, getattr(self, name))
        _moment("created_at", self.created_at)
        if self.kind not in get_args(Kind):
            raise InvalidArgumentError(f"kind is {self.kind!r}: give one of {', '.join(get_args(Kind))}")
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


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """One committed checkpoint in HEAD: enough to list it without opening its manifest."""

    checkpoint_id: str
    manifest_key: str
    digest: str
    step: int
    epoch: int
    generation: int
    world_size: int
    size_bytes: int
    created_at: float

    def __post_init__(self) -> None:
        check_checkpoint_id(self.checkpoint_id)
        _text("manifest_key", self.manifest_key)
        _digest("manifest digest", self.digest)
        for name in ("step", "epoch", "generation", "size_bytes"):
            _count(name, getattr(self, name))
        _count("world_size", self.world_size, minimum=1, maximum=_RANKS_MAX)
        _moment("created_at", self.created_at)


@dataclass(frozen=True, slots=True)
class Head:
    """The one object whose advance commits: the fence, a counter of advances, and what is retained, oldest first.

    The fence (term, generation, step) is that of the last commit under a coordinator; a lower one is refused.
    """

    term: int = 0
    generation: int = 0
    step: int = 0
    version: int = 0
    retained: tuple[HeadEntry, ...] = ()

    def __post_init__(self) -> None:
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


def encode_rank_index(index: RankIndex) -> bytes:
    """Return the stored form of a rank index."""
    body = {
        "rank": index.rank,
        "skeleton": index.skeleton,
        "tensors": [
            {
                "path": tensor.path,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "tag": tensor.tag,
                "spans": [[span.chunk, span.offset, span.nbytes] for span in tensor.spans],
            }
            for tensor in index.tensors
        ],
        "chunks": [[chunk.key, chunk.digest, chunk.nbytes] for chunk in index.chunks],
    }
    return _seal("rank-index", body)


def decode_rank_index(data: bytes, name: str) -> RankIndex:
    """Return the rank index in `data`; CheckpointCorruptError, which calls it `name`, where there is no valid one."""

    def build(body: dict[str, Any]) -> RankIndex:
        return RankIndex(
            rank=body["rank"],
            skeleton=body["skeleton"],
            tensors=tuple(
                TensorRecord(
                    path=tensor["path"],
                    dtype=_text("dtype", tensor["dtype"]),
                    shape=tuple(_list(tensor["shape"])),
                    tag=tensor["tag"],
                    spans=tuple(Span(*_list(span)) for span in _list(tensor["spans"])),
                )
                for tensor in _list(body["tensors"])
            ),
            chunks=tuple(ChunkRecord(*_list(chunk)) for chunk in _list(body["chunks"])),
        )

    return _open("rank-index", data, name, build)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the stored form of a manifest; InvalidArgumentError where its ledger is no JSON value."""
    body = asdict(manifest)
    body["metadata"] = dict(manifest.metadata)
    return _seal("manifest", body)


def decode_manifest(data: bytes, name: str) -> Manifest:
    """Return the manifest in `data`; CheckpointCorruptError, which calls it `name`, where there is no valid one."""

    def build(body: dict[str, Any]) -> Manifest:
        ranks = tuple(RankEntry(**entry) for entry in _list(body.pop("ranks")))
        return Manifest(ranks=ranks, **body)

    return _open("manifest", data, name, build)


def encode_head(head: Head) -> bytes:
    """Return the stored form of HEAD."""
    return _seal("head", asdict(head))


def decode_head(data: bytes, name: str) -> Head:
    """Return the HEAD in `data`; CheckpointCorruptError, which calls it `name`, where there is no valid one."""

    def build(body: dict[str, Any]) -> Head:
        retained = tuple(HeadEntry(**entry) for entry in _list(body.pop("retained")))
        return Head(retained=retained, **body)

    return _open("head", data, name, build)


def _seal(kind: str, body: object) -> bytes:
    try:
        # NaN is no JSON; a ledger that holds one would be read differently by other languages.
        text = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(
            f"{kind} cannot be written as JSON: {error}; use numbers, text, lists and mappings from text"
        ) from None
    header = {"kind": kind, "format": FORMAT, "digest": _body_digest(text)}
    return json.dumps(header, separators=(",", ":")).encode() + b"\n" + text + b"\n"


def _open(kind: str, data: bytes, name: str, build: Callable[[dict[str, Any]], R]) -> R:
    head, _, rest = data.partition(b"\n")
    try:
        header = json.loads(head)
        found, version, digest = header["kind"], header["format"], header["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointCorruptError(f"{name} ({len(data)} bytes) does not begin as a {kind} does") from None
    if found != kind:
        raise CheckpointCorruptError(f"{name} is a {ascii(found)[:48]}, not a {kind}")
    if version != FORMAT:
        raise CheckpointCorruptError(
            f"{name} has format {ascii(version)[:20]}, this release reads {FORMAT}: use the release that wrote it"
        )
    body = rest[:-1]
    if not rest.endswith(b"\n") or _body_digest(body) != digest:
        raise CheckpointCorruptError(f"{name} ({len(data)} bytes) does not match its digest: cut off or damaged")
    try:
        return build(json.loads(body))
    except (InvalidArgumentError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointCorruptError(f"{name} is whole but is no valid {kind}: {error!r}") from None


def _body_digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=32).hexdigest()


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


def _list(value: object) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"{ascii(value)[:48]} is no list")
    return value
