"""The job as its broadcasts tell it: members, generation, epoch and the latest checkpoint, kept true through any loss.

It takes broadcasts and snapshots in any order and says when it needs a snapshot; it asks for nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from strata_zmq.domain.membership import membership_digest
from strata_zmq.protocol import messages as wire

__all__ = ["Cluster", "ClusterView"]

_HELD_MAX = 256
_NEXT_TO_NOTHING = -1


@dataclass(frozen=True, slots=True)
class Cluster:
    """The job's state at one broadcast. `members` are in rank order; without `formed` they wait for a quorum.

    `commit_index` is that of the latest snapshot: commit points are not broadcast.
    """

    term: int
    generation: int
    epoch: int
    formed: bool
    members: tuple[str, ...]
    latest_checkpoint: wire.CheckpointSummary | None
    commit_index: int

    @classmethod
    def of(cls, view: wire.View) -> Cluster:
        """Return the state that a snapshot tells."""
        return cls(
            term=view.term,
            generation=view.generation,
            epoch=view.epoch,
            formed=view.formed,
            members=tuple(view.members),
            latest_checkpoint=view.checkpoints[0] if view.checkpoints else None,
            commit_index=view.commit_index,
        )

    @property
    def digest(self) -> int:
        """What the coordinator's broadcasts say of this state."""
        return membership_digest(self.generation, self.epoch, self.formed, self.members)


class ClusterView:
    """Follows the broadcasts: a snapshot first, then every broadcast after it, without a gap.

    Broadcasts are numbered within a term. One that comes too early is held until those before it, or a snapshot, fill
    the gap; a digest that differs makes the state void.
    """

    def __init__(self) -> None:
        self._term = 0
        self._seq = _NEXT_TO_NOTHING
        """The broadcast that `_cluster` stands at; -1 while there is no state of the present term."""
        self._newest = 0
        """The highest number that was heard of in this term."""
        self._held: dict[int, wire.Broadcast] = {}
        self._cluster: Cluster | None = None
        self.gaps = 0
        """How many times something was missed."""

    @property
    def cluster(self) -> Cluster | None:
        """The state as it is known, which may be behind while `needs_snapshot`; None before the first snapshot."""
        return self._cluster

    @property
    def needs_snapshot(self) -> bool:
        """Whether only a VIEW, or a late broadcast, can bring the state up to date."""
        return self._seq < self._newest

    def begin(self, term: int, seq: int) -> None:
        """Hear from WELCOME that the broadcasts of `term` stand at `seq`."""
        if self._enter(term):
            self._hear_of(seq)

    def listen(self, broadcast: wire.Broadcast) -> None:
        """Take a broadcast; one that is known already changes nothing."""
        if not self._enter(broadcast.term):
            return
        if isinstance(broadcast, wire.Tick):
            self._hear_of(broadcast.seq)
            if broadcast.seq == self._seq:
                self._compare(broadcast.digest)
        elif broadcast.seq > self._seq:
            self._held[broadcast.seq] = broadcast
            while len(self._held) > _HELD_MAX:
                del self._held[max(self._held)]
            self._advance()
            self._hear_of(broadcast.seq)

    def take(self, view: wire.View) -> None:
        """Take a snapshot; one that is older than what is known changes nothing."""
        if not self._enter(view.term) or view.broadcast_seq < self._seq:
            return
        self._cluster = Cluster.of(view)
        self._seq = view.broadcast_seq
        self._newest = max(self._newest, self._seq)
        self._advance()

    def _enter(self, term: int) -> bool:
        """Go on to a higher term, where numbers begin anew; False for a word from an earlier one."""
        if term > self._term:
            self._term, self._seq, self._newest = term, _NEXT_TO_NOTHING, 0
            self._held.clear()
        return term == self._term

    def _hear_of(self, seq: int) -> None:
        if seq > max(self._newest, self._seq) and self._seq != _NEXT_TO_NOTHING:
            self.gaps += 1
        self._newest = max(self._newest, seq)

    def _advance(self) -> None:
        """Apply what follows without a gap."""
        while self._seq != _NEXT_TO_NOTHING and (broadcast := self._held.pop(self._seq + 1, None)) is not None:
            self._seq += 1
            self._newest = max(self._newest, self._seq)
            self._apply(broadcast)
        for seq in [seq for seq in self._held if seq <= self._seq]:
            del self._held[seq]

    def _apply(self, broadcast: wire.Broadcast) -> None:
        cluster = self._cluster
        if cluster is None:
            return
        cluster = replace(cluster, generation=broadcast.generation)
        if isinstance(broadcast, wire.EpochStarted):
            self._cluster = replace(cluster, epoch=broadcast.epoch)
        elif isinstance(broadcast, wire.CheckpointAnnounced):
            self._cluster = replace(cluster, latest_checkpoint=broadcast.checkpoint)
        elif isinstance(broadcast, wire.MembershipChanged):
            members = broadcast.members
            if not members:
                gone = set(broadcast.left)
                members = [member for member in cluster.members if member not in gone] + broadcast.joined
            self._cluster = replace(cluster, epoch=broadcast.epoch, formed=broadcast.formed, members=tuple(members))
            self._compare(broadcast.digest)

    def _compare(self, digest: int) -> None:
        if self._cluster is not None and self._cluster.digest != digest:
            # Something was missed that no number told of: begin anew.
            self.gaps += 1
            self._newest = max(self._newest, self._seq, 0)
            self._seq = _NEXT_TO_NOTHING
