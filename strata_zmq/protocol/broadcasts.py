"""What the coordinator announces on PUB."""

from __future__ import annotations

import msgspec

from strata_zmq.protocol.fields import CheckpointSummary, Count

__all__ = ["Announcement", "Broadcast", "CheckpointAnnounced", "EpochStarted", "MembershipChanged", "Tick"]


class Announcement(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What every broadcast begins with; `seq` rises by one per broadcast of a term, so that a gap shows."""

    job: str = ""
    term: Count = 0
    generation: Count = 0
    seq: Count = 0


class EpochStarted(Announcement, frozen=True, kw_only=True, tag="epoch"):
    """The epoch rose."""

    epoch: Count


class MembershipChanged(Announcement, frozen=True, kw_only=True, tag="rebalance"):
    """A new generation, or one that is broken (`formed` false). Shards are counted over all datasets.

    `members` is empty where it would have more than 1,000 names: the members after are those before without `left`,
    followed by `joined`. `digest` is of the state after this broadcast.
    """

    members: list[str]
    joined: list[str] = []
    left: list[str] = []
    moved: Count = 0
    lower_bound: Count = 0
    epoch: Count = 0
    formed: bool = True
    world_size: Count = 0
    digest: Count = 0


class CheckpointAnnounced(Announcement, frozen=True, kw_only=True, tag="checkpoint"):
    """A checkpoint was committed."""

    checkpoint: CheckpointSummary


class Tick(Announcement, frozen=True, kw_only=True, tag="tick"):
    """Sent every second, so that a gap shows in quiet times too. It repeats the last seq; `digest` is of the state."""

    digest: Count = 0


Broadcast = EpochStarted | MembershipChanged | CheckpointAnnounced | Tick
