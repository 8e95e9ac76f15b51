"""A checkpoint's ledger and its state are of one commit point, or the save is refused."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire


@pytest.fixture
def saving(trio):
    """Three members, and a storage writer."""
    job, *workers = trio
    job.writer()
    return job, workers


def test_a_save_whose_commit_point_is_past_is_refused_and_opens_nothing(saving) -> None:
    job, workers = saving
    for worker in workers:
        worker.arrive("commit", 1, commit=True)
    workers[0].begin(1, commit_index=0).refused("invalid_argument", "commit point 0", "ledger of 1")
    assert job.status().open_checkpoints == []


def test_a_rank_joins_a_checkpoint_only_with_the_state_of_its_commit_point(saving) -> None:
    _, workers = saving
    workers[0].begin(5, commit_index=0).got(wire.CheckpointOpened)
    for worker in workers:
        worker.arrive("commit", 1, commit=True)
    workers[1].begin(5, commit_index=0).got(wire.CheckpointOpened)
    workers[2].begin(5, commit_index=1).refused("invalid_argument", "commit point 1", "ledger of 0")
