"""A follower of the broadcasts ends in the true state, whatever got lost, doubled or reordered on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.membership import membership_digest
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.view import Cluster, ClusterView

NAMES = ["a", "b", "c", "d"]


class Truth:
    """The job itself: it changes, announces, and gives snapshots."""

    def __init__(self, names_max: int = 1000) -> None:
        self.term = 1
        self.seq = 0
        self.generation = self.epoch = 0
        self.formed = True
        self.members: list[str] = []
        self.checkpoint: wire.CheckpointSummary | None = None
        self._names_max = names_max

    @property
    def digest(self) -> int:
        return membership_digest(self.generation, self.epoch, self.formed, self.members)

    def change(self, what: str) -> wire.Broadcast | None:
        """Do something and announce it."""
        if what == "restart":
            self.term, self.seq = self.term + 1, 0
            return None
        if what == "unheard":  # a change that no broadcast tells of: only the digest shows it
            self.epoch += 1
            return None
        self.seq += 1
        if what == "epoch":
            self.epoch += 1
            return wire.EpochStarted(epoch=self.epoch, **self._header())
        if what == "checkpoint":
            self.checkpoint = wire.CheckpointSummary(f"c{self.term}-{self.seq}", self.seq, self.epoch, 1, 0.0)
            return wire.CheckpointAnnounced(checkpoint=self.checkpoint, **self._header())
        if what == "broken":
            self.formed, left, joined = False, self.members[:1], []
            self.members = self.members[1:]
        else:
            before = self.members
            left, joined = ([what], []) if what in before else ([], [what])
            self.members = [name for name in before if name not in left] + joined
            self.generation, self.formed = self.generation + 1, True
        return wire.MembershipChanged(
            members=list(self.members) if len(self.members) <= self._names_max else [],
            joined=joined,
            left=left,
            epoch=self.epoch,
            formed=self.formed,
            world_size=len(self.members),
            digest=self.digest,
            **self._header(),
        )

    def tick(self) -> wire.Tick:
        return wire.Tick(digest=self.digest, **self._header())

    def view(self) -> wire.View:
        return wire.View(
            term=self.term,
            generation=self.generation,
            broadcast_seq=self.seq,
            epoch=self.epoch,
            commit_index=0,
            formed=self.formed,
            members=list(self.members),
            checkpoints=[self.checkpoint] if self.checkpoint else [],
            digest=self.digest,
        )

    def _header(self) -> dict[str, Any]:
        return {"term": self.term, "generation": self.generation, "seq": self.seq}


CHANGES = st.sampled_from([*NAMES, "epoch", "checkpoint", "broken", "restart", "unheard"])
FATES = st.tuples(st.sampled_from(["lost", "heard", "doubled", "late"]), st.integers(0, 8))


@given(
    st.lists(st.tuples(CHANGES, FATES, FATES, FATES), max_size=40),
    st.sampled_from([0, 2, 1000]),
)
def test_any_sequence_of_broadcasts_and_snapshots_ends_in_the_true_state(
    story: list[tuple[str, Any, Any, Any]], names_max: int
) -> None:
    """Also with broadcasts that name only who came and went, and over restarts of the coordinator."""
    truth, view = Truth(names_max), ClusterView()
    late: list[tuple[int, Any]] = []

    def tell(message: Any, now: int, fate: tuple[str, int]) -> None:
        kind, delay = fate
        if message is not None and kind != "lost":
            late.append((now + (delay if kind == "late" else 0), message))
            if kind == "doubled":
                late.append((now + delay, message))

    def hear(now: float) -> None:
        for when, message in sorted(late, key=lambda entry: entry[0]):
            if when <= now:
                late.remove((when, message))
                view.take(message) if isinstance(message, wire.View) else view.listen(message)

    for now, (change, fate, tick_fate, view_fate) in enumerate(story):
        tell(truth.change(change), now, fate)
        tell(truth.tick(), now, tick_fate)
        if view.needs_snapshot:
            tell(truth.view(), now, view_fate)
        hear(now)
    hear(float("inf"))

    # The network is good again: one tick tells, one snapshot heals.
    view.listen(truth.tick())
    if view.needs_snapshot:
        view.take(truth.view())
        view.listen(truth.tick())
    assert not view.needs_snapshot
    if truth.seq or view.cluster is not None:
        assert view.cluster == Cluster.of(truth.view())


def following(*, members: list[str]) -> tuple[Truth, ClusterView]:
    truth, view = Truth(), ClusterView()
    for name in members:
        truth.change(name)
    view.take(truth.view())
    return truth, view


def test_it_needs_a_snapshot_to_begin_with() -> None:
    """What WELCOME tells of the broadcasts' number is enough to know that."""
    view = ClusterView()
    assert view.needs_snapshot
    assert view.cluster is None
    view.begin(3, 0)
    assert view.needs_snapshot


def test_broadcasts_go_on_where_the_snapshot_stands() -> None:
    """None that the snapshot has in it already counts twice."""
    truth, view = following(members=["a", "b"])
    known = [truth.change("c"), truth.change("epoch")]
    view.take(truth.view())
    for broadcast in (*known, truth.change("a"), *known, truth.change("checkpoint")):
        view.listen(broadcast)
    assert not view.needs_snapshot
    assert view.cluster == Cluster.of(truth.view())
    assert view.gaps == 0


@pytest.mark.parametrize("tells", ["tick", "broadcast"])
def test_a_gap_shows_and_is_filled_by_what_comes_late(tells: str) -> None:
    """Or by a snapshot, whichever is first; until then the last known state stays readable."""
    truth, view = following(members=["a"])
    before = view.cluster
    missed = truth.change("b")
    view.listen(truth.tick() if tells == "tick" else truth.change("epoch"))
    assert view.needs_snapshot
    assert view.gaps == 1
    assert view.cluster == before
    view.listen(missed)
    assert not view.needs_snapshot
    assert view.cluster == Cluster.of(truth.view())


def test_a_digest_that_differs_makes_the_state_void() -> None:
    """A change that no number tells of is found all the same."""
    truth, view = following(members=["a"])
    truth.change("unheard")
    view.listen(truth.tick())
    assert view.needs_snapshot
    view.take(truth.view())
    assert not view.needs_snapshot
    assert view.cluster == Cluster.of(truth.view())


def test_a_restart_voids_the_state_and_the_past_says_nothing() -> None:
    """Numbers begin anew in a term; a late word from the one before is not taken for news."""
    truth, view = following(members=["a"])
    old = truth.change("b")
    stale = truth.view()
    truth.change("restart")
    view.begin(truth.term, truth.seq)
    assert view.needs_snapshot
    view.listen(old)
    view.take(stale)
    assert view.needs_snapshot
    view.take(truth.view())
    assert view.cluster == Cluster.of(truth.view())


def test_an_old_snapshot_changes_nothing() -> None:
    """It was asked for before the broadcasts that have come since."""
    truth, view = following(members=["a"])
    old = truth.view()
    view.listen(truth.change("b"))
    view.take(old)
    assert not view.needs_snapshot
    assert view.cluster == Cluster.of(truth.view())


def test_what_waited_in_one_term_is_not_applied_in_the_next() -> None:
    """The same number means another broadcast there."""
    truth, view = following(members=["a"])
    truth.change("b")
    view.listen(truth.change("epoch"))
    held_at = truth.seq
    truth.change("restart")
    while truth.seq < held_at - 1:
        truth.change("checkpoint")
    view.take(truth.view())
    assert view.cluster == Cluster.of(truth.view())
    view.listen(truth.change("a"))
    assert view.cluster == Cluster.of(truth.view())
    assert not view.needs_snapshot


def test_what_waits_for_a_gap_is_bounded() -> None:
    """A follower that gets no snapshot for long holds so much and no more, and still ends in the true state."""
    truth, view = following(members=["a"])
    truth.change("epoch")
    for _ in range(1000):
        view.listen(truth.change("epoch"))
    assert len(view._held) <= 256
    view.take(truth.view())
    assert view.cluster == Cluster.of(truth.view())
    assert not view.needs_snapshot
