"""The envelopes between a node agent and the coordinator: what several children on one host say, and are told, at once.

A child's own bytes travel unchanged. That the same answer goes to many children is said once: see `Shared`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from strata_zmq.protocol.fields import Count, Header

__all__ = ["FOLD_PARTS_MAX", "Addressee", "Fold", "Folded", "Part", "Shared"]

FOLD_PARTS_MAX = 4096


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One message of a child, or to a child: the frame that a connection of its own would carry."""

    child: Count
    body: bytes


class Addressee(msgspec.Struct, array_like=True, frozen=True):
    """Whom a shared answer goes to: a child, its session, and the request that is answered."""

    child: Count
    session: Count
    seq: Count


class Shared(msgspec.Struct, array_like=True, frozen=True):
    """An answer that differs in its session and its seq only.

    The bytes for each addressee are `head`, the two numbers as the shortest MessagePack integers, and `tail`.
    """

    head: bytes
    tail: bytes
    addressees: list[Addressee]


class Fold(Header, frozen=True, kw_only=True, tag="fold"):
    """What an agent's children said, each one's messages in their order. Each part is answered by itself."""

    parts: Annotated[list[Part], Meta(max_length=FOLD_PARTS_MAX)]


class Folded(Header, frozen=True, kw_only=True, tag="folded"):
    """What an agent's children are told. Nobody asked for it as a whole: `seq` is 0."""

    parts: list[Part] = []
    shared: list[Shared] = []
