"""torch's checkpoint Metadata as a plain tree, and back: names, sizes, and which part of which rank holds what.

It knows nothing of storage or processes. Nothing is pickled: what is no plain value is refused with its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError

__all__ = ["Place", "Places", "described", "rebuilt"]

FORMAT = 1

Key = tuple[str, tuple[int, ...] | None]
"""A full name and, for tensors, the offsets of the part in the whole."""


@dataclass(frozen=True, slots=True)
class Place:
    """Part number `part` among those that `rank` saved under a name."""

    rank: int
    part: int


@dataclass(slots=True)
class Places:
    """Where everything of a checkpoint lies."""

    found: dict[Key, Place] = field(default_factory=dict)

    def add(self, index: MetadataIndex, place: Place) -> None:
        """Note where `index` lies."""
        self.found[_key(index.fqn, index.offset)] = place

    def of(self, index: MetadataIndex) -> Place:
        """Return where `index` lies; CheckpointCorruptError where nobody wrote it."""
        key = _key(index.fqn, index.offset)
        if key not in self.found:
            raise CheckpointCorruptError(f"the checkpoint holds nothing for {index.fqn} at {key[1]}")
        return self.found[key]


def described(metadata: Metadata, places: Places) -> dict[str, Any]:
    """Return `metadata`, with the place of every part, as dicts, lists, tuples and plain values."""
    items: dict[str, Any] = {}
    for fqn, stored in metadata.state_dict_metadata.items():
        if isinstance(stored, BytesStorageMetadata):
            place = places.of(MetadataIndex(fqn))
            items[fqn] = {"kind": "bytes", "rank": place.rank, "part": place.part}
        else:
            items[fqn] = _tensor(fqn, stored, places)
    return {
        "format": FORMAT,
        "items": items,
        "planner_data": metadata.planner_data,
        "version": getattr(metadata, "version", None),
    }


def rebuilt(tree: Any, name: str) -> tuple[Metadata, Places]:
    """Return the Metadata that `described` made `tree` of, and where everything lies.

    Raises CheckpointCorruptError, which calls the checkpoint `name`, where `tree` is none.
    """
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise CheckpointCorruptError(f"{name} does not describe its torch state in format {FORMAT}, which is read here")
    places = Places()
    try:
        items = {fqn: _stored(fqn, item, places) for fqn, item in tree["items"].items()}
        version = {} if tree["version"] is None else {"version": tree["version"]}
        metadata = Metadata(items, tree["planner_data"], storage_meta=StorageMeta(checkpoint_id=name), **version)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointCorruptError(
            f"{name} does not describe its torch state as this release does: {error}"
        ) from None
    return metadata, places


def _tensor(fqn: str, stored: TensorStorageMetadata, places: Places) -> dict[str, Any]:
    if stored.properties.layout != torch.strided:
        raise InvalidArgumentError(f"{fqn} has the layout {stored.properties.layout}: save its dense parts instead")
    parts = []
    for chunk in stored.chunks:
        place = places.of(MetadataIndex(fqn, chunk.offsets))
        parts.append(
            {"offsets": list(chunk.offsets), "sizes": list(chunk.sizes), "rank": place.rank, "part": place.part}
        )
    return {
        "kind": "tensor",
        "dtype": str(stored.properties.dtype).removeprefix("torch."),
        "requires_grad": stored.properties.requires_grad,
        "size": list(stored.size),
        "parts": parts,
    }


def _stored(fqn: str, item: Any, places: Places) -> BytesStorageMetadata | TensorStorageMetadata:
    if item["kind"] == "bytes":
        places.add(MetadataIndex(fqn), Place(item["rank"], item["part"]))
        return BytesStorageMetadata()
    if item["kind"] != "tensor":
        raise ValueError(f"{fqn} is {ascii(item['kind'])[:20]}")
    dtype = getattr(torch, item["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{fqn} has the dtype {ascii(item['dtype'])[:20]}")
    chunks = []
    for part in item["parts"]:
        offsets = torch.Size(part["offsets"])
        places.add(MetadataIndex(fqn, offsets), Place(part["rank"], part["part"]))
        chunks.append(ChunkStorageMetadata(offsets=offsets, sizes=torch.Size(part["sizes"])))
    properties = TensorProperties(dtype=dtype, requires_grad=item["requires_grad"])
    return TensorStorageMetadata(properties=properties, size=torch.Size(item["size"]), chunks=chunks)


def _key(fqn: str, offset: Any) -> Key:
    return fqn, None if offset is None else tuple(offset)
