"""A checkpoint's records as bytes: self-checking JSON, and back. It knows what a record holds, never where it lies.

Each record is stored as two lines: a header `{"kind": ..., "format": ..., "digest": ...}` and the body, whose
BLAKE2b-256 the header carries. So a record that was cut off, damaged or taken for another kind is told from a good one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from strata_zmq.domain.manifest import ChunkRecord, Head, HeadEntry, Manifest, RankEntry, RankIndex, Span, TensorRecord
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FORMAT",
    "decode_head",
    "decode_manifest",
    "decode_rank_index",
    "encode_head",
    "encode_manifest",
    "encode_rank_index",
]

FORMAT = 2
"""What is written. Format 1 is read, too: it lacks the fields that have a default."""

_FORMATS_READ = (1, 2)

R = TypeVar("R")


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
                "global_shape": tensor.global_shape,
                "global_offsets": tensor.global_offsets,
            }
            for tensor in index.tensors
        ],
        "chunks": [
            [chunk.key, chunk.digest, chunk.nbytes, chunk.offset, chunk.codec, chunk.stored] for chunk in index.chunks
        ],
        "rng": index.rng,
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
                    dtype=tensor["dtype"],
                    shape=tuple(_list(tensor["shape"])),
                    tag=tensor["tag"],
                    spans=tuple(Span(*_list(span)) for span in _list(tensor["spans"])),
                    global_shape=_place(tensor.get("global_shape")),
                    global_offsets=_place(tensor.get("global_offsets")),
                )
                for tensor in _list(body["tensors"])
            ),
            chunks=tuple(ChunkRecord(*_list(chunk)) for chunk in _list(body["chunks"])),
            rng=body.get("rng"),
        )

    return _open("rank-index", data, name, build)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the stored form of a manifest; InvalidArgumentError where its ledger is no JSON value."""
    body = asdict(manifest)
    body["metadata"], body["metrics"] = dict(manifest.metadata), dict(manifest.metrics)
    return _seal("manifest", body)


def decode_manifest(data: bytes, name: str) -> Manifest:
    """Return the manifest in `data`; CheckpointCorruptError, which calls it `name`, where there is no valid one."""

    def build(body: dict[str, Any]) -> Manifest:
        ranks = tuple(RankEntry(**_with_tuples(entry, "refs")) for entry in _list(body.pop("ranks")))
        return Manifest(ranks=ranks, **body)

    return _open("manifest", data, name, build)


def encode_head(head: Head) -> bytes:
    """Return the stored form of HEAD."""
    return _seal("head", asdict(head))


def decode_head(data: bytes, name: str) -> Head:
    """Return the HEAD in `data`; CheckpointCorruptError, which calls it `name`, where there is no valid one."""

    def build(body: dict[str, Any]) -> Head:
        retained = tuple(HeadEntry(**_with_tuples(entry, "refs")) for entry in _list(body.pop("retained")))
        return Head(retained=retained, **_with_tuples(body, "pins", "kept", "retired"))

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
    if version not in _FORMATS_READ:
        raise CheckpointCorruptError(
            f"{name} has format {ascii(version)[:20]}, this release reads {' and '.join(map(str, _FORMATS_READ))}: use "
            "the release that wrote it"
        )
    body = rest[:-1]
    if not rest.endswith(b"\n") or _body_digest(body) != digest:
        raise CheckpointCorruptError(f"{name} ({len(data)} bytes) does not match its digest: cut off or damaged")
    try:
        return build(json.loads(body))
    except (InvalidArgumentError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointCorruptError(f"{name} is whole but is no valid {kind}: {error!r}") from None


def _with_tuples(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return `body` with the lists under `names`, where they are, as tuples."""
    return {**body, **{name: tuple(_list(body[name])) for name in names if name in body}}


def _place(value: object) -> tuple[int, ...] | None:
    return None if value is None else tuple(_list(value))


def _body_digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=32).hexdigest()


def _list(value: object) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"{ascii(value)[:48]} is no list")
    return value
