"""A thousand jobs under storms of faults: in every step of every one, every promise holds, and all recover."""

from __future__ import annotations

import pytest
from simulator import simulate

SEEDS = 1000
AT_ONCE = 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_promise_holds_through_every_storm(first: int) -> None:
    """A failure names its seed; `scripts/simulate --seed N --verbose` tells its story again."""
    seen: dict[str, int] = {}
    for seed in range(first, first + AT_ONCE):
        for name, count in simulate(seed).counts.items():
            seen[name] = seen.get(name, 0) + count
    # A simulation in which something never happens proves nothing about it.
    assert min(seen.get(name, 0) for name in EVENTS) > 0, seen


def test_among_these_storms_are_some_in_which_a_writer_finishes_a_dead_workers_save() -> None:
    assert any(simulate(seed).counts.get("RankDrained") for seed in range(AT_ONCE))


EVENTS = (
    "BarrierReleased",
    "CheckpointAborted",
    "CheckpointBegan",
    "CheckpointTaken",
    "CheckpointsReconciled",
    "EpochBegan",
    "Folded",
    "GenerationBroken",
    "GenerationChanged",
    "HistoryRestored",
    "RankStaged",
)
