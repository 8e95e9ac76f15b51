"""Lineage: one number that tells a commit point's whole past, so that equal numbers of commit points are no excuse.

It knows no records and no messages: whoever keeps history chains it, whoever trains compares it.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["UNKNOWN", "lineage_after", "same_lineage"]

UNKNOWN = 0
"""The lineage of the beginning, and of what was kept before there were lineages."""


def lineage_after(before: int, *, term: int, generation: int, commit_index: int, checksum: int) -> int:
    """Return the lineage of the commit point that follows `before`; from 1 to 2^62 - 1.

    `checksum` is the sum of the checksums of all ranges that it counted. No generation comes twice in one journal, so
    two histories that have parted never meet again.
    """
    text = f"{before}|{term}|{generation}|{commit_index}|{checksum % 2**64}"
    digest = blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 2) or 1


def same_lineage(one: int, other: int) -> bool:
    """Whether two commit points of one number may be the same: nobody is accused of what is not known."""
    return one == other or UNKNOWN in {one, other}
