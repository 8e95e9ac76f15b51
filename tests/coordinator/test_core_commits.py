"""Commit points: one barrier moves every rank's data position, and a broken or refused one moves nobody's."""

from __future__ import annotations

import numpy as np
import pytest

from strata_zmq.domain.checksum import dataset_checksum
from strata_zmq.protocol import messages as wire


@pytest.fixture
def pair(make_job):
    """A job of two members, and a dataset of 95 samples in 10 shards, the last of them short."""
    job = make_job(initial_workers=2)
    w0, w1 = job.workers("w0", "w1")
    assert job.dataset(total=95, shard_size=10) == 10
    return job, w0, w1


def test_a_released_commit_point_moves_the_position_of_all_ranks_at_once(pair) -> None:
    job, w0, w1 = pair
    mine, theirs = w0.shards().shards[0], w1.shards().shards[0]
    waiting = w0.commit(job.seen(mine, 0, 4))
    assert waiting.waits
    assert job.history.datasets["data"].remaining == 95
    last = w1.commit(job.seen(theirs, 0, 3))
    for call in (waiting, last):
        released = call.got(wire.Released)
        assert (released.commit_index, released.remaining) == (1, {"data": 88})
    assert w0.shards().cursors[0] == 4
    assert w1.shards().cursors[0] == 3
    assert w1.shards().remaining == 88


def test_a_commit_point_may_carry_nothing(pair) -> None:
    job, w0, w1 = pair
    w0.commit()
    assert w1.commit().got(wire.Released).commit_index == 1
    assert job.history.datasets["data"].remaining == 95


def test_commit_points_are_counted_and_come_in_their_order(pair) -> None:
    job, w0, w1 = pair
    for expected in (1, 2, 3):
        w0.commit()
        assert w1.commit().got(wire.Released).commit_index == expected
    w0.commit(step=3).got(wire.Released)
    w0.commit(step=5).refused("stale_generation", "commit point 5 is not due", "3")
    assert job.history.commit_index == 3


def test_a_broken_commit_point_moves_nothing(pair) -> None:
    job, w0, w1 = pair
    waiting = w0.commit(job.seen(w0.shards().shards[0], 0, 4))
    before = len(job.records)
    job.lose(w1)
    waiting.refused("barrier_broken")
    assert job.history.datasets["data"].remaining == 95
    assert [type(record).__name__ for record in job.records[before:]] == ["GenerationChanged"]


def test_a_commit_point_takes_the_whole_generation(pair) -> None:
    _, w0, _ = pair
    w0.commit(expected=1).refused("invalid_argument", "whole generation", "expected=0")


def test_two_commit_points_cannot_be_open_at_a_time(pair) -> None:
    job, w0, w1 = pair
    seen = job.seen(w0.shards().shards[0], 0, 4)
    waiting = w0.commit(seen)
    for worker in (w0, w1):
        worker.arrive("other", 1, commit=True).refused("invalid_argument", "'other'", "'commit'")
    w1.commit().got(wire.Released)
    assert waiting.got(wire.Released).remaining == {"data": 91}


def test_an_arrival_that_is_sent_again_counts_its_samples_once(pair) -> None:
    job, w0, w1 = pair
    seen = job.seen(w0.shards().shards[0], 0, 4)
    for _ in range(3):
        w0.commit(seen)
    assert w1.commit().got(wire.Released).remaining == {"data": 91}
    for _ in range(2):
        assert w0.commit(seen, step=1).got(wire.Released).remaining == {"data": 91}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"dataset_id": "nowhere"}, "not_found", ["'nowhere'", "register"]),
        ({"epoch": 1}, "stale_generation", ["epoch 1", "current epoch is 0"]),
        ({"shard": 10}, "invalid_argument", ["shard is 10", "0 to 9"]),
        ({"start": 1}, "invalid_argument", ["start at 0"]),
        ({"start": 2, "stop": 2}, "invalid_argument", ["start < stop"]),
        ({"stop": 11}, "invalid_argument", ["stop <= 10"]),
        ({"start": 2**62, "stop": 2**62}, "invalid_argument", ["start < stop"]),
    ],
    ids=["unknown dataset", "another epoch", "no such shard", "gap", "empty", "beyond the shard", "huge"],
)
def test_a_range_that_cannot_be_is_refused_by_name_and_records_nothing(pair, change, code, words) -> None:
    job, w0, _ = pair
    good = job.seen(w0.shards().shards[0], 0, 4)
    fields = {name: change.get(name, getattr(good, name)) for name in good.__struct_fields__}
    before = len(job.records)
    w0.commit(wire.SeenRange(**fields)).refused(code, *words)
    assert len(job.records) == before
    assert job.status().barriers == []


def test_samples_that_are_committed_already_are_refused(pair) -> None:
    job, w0, w1 = pair
    shard = w0.shards().shards[0]
    w0.commit(job.seen(shard, 0, 4))
    w1.commit()
    w0.commit(job.seen(shard, 3, 6)).refused("stale_generation", "committed up to 4")
    assert w0.commit(job.seen(shard, 4, 6)).waits


def test_a_range_of_somebody_elses_shard_is_refused_and_the_owner_named(pair) -> None:
    job, w0, w1 = pair
    theirs = w1.shards().shards[0]
    w0.commit(job.seen(theirs, 0, 4)).refused("stale_generation", f"shard {theirs}", "'w1'", "'w0'")


def test_a_range_of_a_shard_that_nobody_owns_any_more_is_refused(pair) -> None:
    job, w0, w1 = pair
    done = w1.shards().shards[0]
    w0.commit()
    w1.commit(job.seen(done, 0, len(range(done * 10, min(done * 10 + 10, 95)))))
    job.lose(w1)
    w0.join().got(wire.Membership)
    w0.commit(wire.SeenRange("data", 0, done, 0, 1, bytes(8))).refused("stale_generation")


def test_one_shard_comes_once_in_a_commit_point(pair) -> None:
    job, w0, _ = pair
    shard = w0.shards().shards[0]
    w0.commit(job.seen(shard, 0, 4), job.seen(shard, 0, 4)).refused("invalid_argument", "at most one per shard")


def test_ranges_need_a_commit_point(pair) -> None:
    job, w0, _ = pair
    w0.arrive(ranges=[job.seen(0, 0, 1)]).refused("invalid_argument", "commit=true")


def test_an_epoch_that_rises_voids_the_commit_point_that_is_open(pair) -> None:
    job, w0, w1 = pair
    waiting = w0.commit(job.seen(w0.shards().shards[0], 0, 4))
    w0.advance()
    w1.advance().got(wire.EpochAdvanced)
    waiting.refused("stale_generation", "epoch", "1")
    w1.commit()
    assert w0.commit().got(wire.Released).remaining == {"data": 95}


def test_an_epoch_that_rises_leaves_plain_barriers_alone(pair) -> None:
    _, w0, w1 = pair
    waiting = w0.arrive()
    w0.advance()
    w1.advance().got(wire.EpochAdvanced)
    assert waiting.waits
    w1.arrive().got(wire.Released)


def test_every_sample_of_an_epoch_is_committed_exactly_once_although_a_member_was_lost(pair) -> None:
    job, w0, w1 = pair
    first = w1.shards().shards[0]
    w0.commit()
    w1.commit(job.seen(first, 0, 5 if first == 9 else 7)).got(wire.Released)
    w1.commit(job.seen(first, *((5, 5) if first == 9 else (7, 9)))) if first != 9 else None
    job.lose(w1)
    w0.join().got(wire.Membership)
    while (owned := w0.shards()).remaining:
        sizes = [min(10, 95 - shard * 10) for shard in owned.shards]
        ranges = [
            job.seen(shard, cursor, size)
            for shard, cursor, size in zip(owned.shards, owned.cursors, sizes, strict=True)
            if cursor < size
        ]
        w0.commit(*ranges).got(wire.Released)
    w0.advance().got(wire.EpochAdvanced)
    (certificate,) = job.history.certificates
    assert certificate.complete
    assert (certificate.samples, certificate.checksum) == (95, dataset_checksum(95))


def test_what_a_commit_point_moved_is_there_after_a_restart(pair) -> None:
    job, w0, w1 = pair
    shard = w0.shards().shards[0]
    w0.commit(job.seen(shard, 0, 4))
    w1.commit()
    job.restart()
    w0.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    told = w0.join().got(wire.Membership) if w0.generation < job.history.generation else None
    assert told is None
    assert w0.shards().cursors[0] == 4
    assert np.sum(w0.shards().cursors) == 4
    assert job.history.commit_index == 1
