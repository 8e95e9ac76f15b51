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
    """A new generation. `moved` and `lower_bound` count the shards that changed hands, over all datasets."""

    members: list[str]
    joined: list[str] = []
    left: list[str] = []
    moved: Count = 0
    lower_bound: Count = 0


class CheckpointAnnounced(Announcement, frozen=True, kw_only=True, tag="checkpoint"):
    """A checkpoint was committed."""

    checkpoint: CheckpointSummary


class Tick(Announcement, frozen=True, kw_only=True, tag="tick"):
    """Sent every second, so that a gap shows in quiet times too. It repeats the last seq."""


Broadcast = EpochStarted | MembershipChanged | CheckpointAnnounced | Tick
