"""A rank that dies behind `checkpoint_staged`: its save is finished by the writer that has its bytes, or given up."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire

DRAIN_S = 6.0


@pytest.fixture
def staged(make_job):
    """Two ranks with an open checkpoint; w1 has staged, w0 is durable and waits."""
    job = make_job(initial_workers=2, drain_s=DRAIN_S)
    w0, w1 = job.workers("w0", "w1")
    writer = job.writer()
    name = job.opened([w0, w1])
    w1.staged(name).got(wire.Done)
    return job, w0, w1, writer, name, w0.durable(name)


def alive(job, *clients) -> None:
    for client in clients:
        client.heartbeat()
    job.wait(1.0)


def test_the_save_of_a_rank_that_died_when_it_had_staged_is_committed(staged) -> None:
    job, _, w1, writer, name, waiting = staged
    job.lose(w1)
    told = writer.drained(name, w1, 1, refs=["older"], written_bytes=7)
    order = writer.asked_to_commit()
    assert [(one.rank, one.worker_id, one.drained) for one in order.ranks] == [(0, "w0", False), (1, "w1", True)]
    assert (order.ranks[1].index_key, order.ranks[1].refs, order.ranks[1].written_bytes) == ("drained", ["older"], 7)
    writer.confirm(job.summary(name))
    for call in (waiting, told):
        assert call.got(wire.CheckpointDurable).checkpoint_id == name
    assert job.status().counters["ranks_drained"] == 1


def test_a_writer_may_finish_before_anybody_has_told_of_the_death(staged) -> None:
    _, _, w1, writer, name, _ = staged
    writer.drained(name, w1, 1)
    assert writer.asked_to_commit().ranks[1].drained


def test_a_rank_that_died_before_it_had_staged_ends_the_checkpoint_at_once(make_job) -> None:
    job = make_job(initial_workers=2, drain_s=DRAIN_S)
    w0, w1 = job.workers("w0", "w1")
    job.writer()
    name = job.opened([w0, w1])
    waiting = w0.durable(name)
    job.lose(w1)
    waiting.refused("peer_lost", "w1", "before its bytes were durable")


def test_what_no_writer_finishes_in_time_is_given_up_and_says_who_did_not(staged) -> None:
    job, w0, w1, writer, name, waiting = staged
    job.lose(w1)
    while not waiting.replies and job.now < 1100.0:
        alive(job, w0, writer)
    waiting.refused("peer_lost", "w1", "writer has not finished its save within 6 s")
    assert DRAIN_S <= job.now - 1000.0 <= DRAIN_S + 1.0
    writer.drained(name, w1, 1).refused("not_found", name)


def test_a_writer_that_has_begun_a_new_life_has_nothing_to_finish_and_is_not_waited_for(staged) -> None:
    job, w0, w1, _, _, waiting = staged
    job.lose(w1)
    job.writer("writer")
    alive(job, w0)
    waiting.refused("peer_lost", "w1", "writer writer, which had its bytes, is gone, too")


def test_only_the_writer_that_a_rank_has_named_speaks_for_it(staged) -> None:
    job, w0, w1, writer, name, _ = staged
    other = job.writer("other")
    other.drained(name, w1, 1).refused("invalid_argument", "rank 1 (w1)", "'other'")
    writer.drained(name, w0, 0).refused("invalid_argument", "rank 0 (w0)")
    writer.drained(name, w1, 0).refused("not_found", "'w1' is not rank 0")
    writer.drained(name, w1, 9).refused("not_found", "rank 9")
    w0.ask(
        wire.CheckpointArrive(checkpoint_id=name, index_key="k", digest="d", size_bytes=1, worker_id="w1", rank=1)
    ).refused("invalid_argument", "'w1'")
    assert writer.asked_to_commit() is None


def test_the_next_life_of_a_writer_does_not_speak_for_the_last_one(staged) -> None:
    job, _, w1, _, name, _ = staged
    job.writer("writer").drained(name, w1, 1).refused("invalid_argument", "rank 1 (w1)")


def test_who_has_staged_with_whom_is_known_after_a_restart_and_the_time_counts_anew(staged) -> None:
    job, w0, w1, writer, name, _ = staged
    job.lose(w1)
    job.wait(DRAIN_S - 1.0)
    job.restart()
    w0.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    writer.hello().got(wire.Welcome)
    writer.offer().got(wire.Registered)
    waiting = w0.durable(name)
    for _ in range(3):
        alive(job, w0, writer)
    assert waiting.waits
    writer.drained(name, w1, 1)
    assert writer.asked_to_commit().checkpoint_id == name


def test_the_next_life_of_a_rank_after_a_restart_is_not_taken_for_the_one_that_had_staged(staged) -> None:
    job, w0, w1, writer, name, _ = staged
    job.lose(w1)
    again = job.worker("w1")
    job.restart()
    for client in (w0, again, writer):
        client.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    again.register().got(wire.Registered)
    writer.offer().got(wire.Registered)
    waiting = w0.durable(name)
    began = job.now
    while not waiting.replies and job.now < began + 60.0:
        alive(job, w0, again, writer)
    waiting.refused("peer_lost", "w1", "within 6 s")


def test_the_rank_itself_may_come_last_when_it_was_not_dead_after_all(staged) -> None:
    job, _, w1, writer, name, waiting = staged
    told = writer.drained(name, w1, 1)
    own = w1.durable(name, digest="other")
    order = writer.asked_to_commit()
    assert (order.ranks[1].digest, order.ranks[1].drained) == ("digest", True)
    writer.confirm(job.summary(name))
    for call in (waiting, told, own):
        call.got(wire.CheckpointDurable)


def test_staging_with_an_unknown_writer_or_for_another_job_is_refused(staged) -> None:
    job, w0, _, _, name, _ = staged
    w0.staged(name, "nobody").refused("not_found", "'nobody'", "not registered")
    stranger = job.worker("w9")
    stranger.staged(name).refused("not_found", "'w9'", "no part")
    w0.staged("step-000000000001-g1-t1").got(wire.Done)
    job.client().ask(wire.CheckpointStaged(checkpoint_id=name, writer_id="writer")).refused("stale_generation")


@pytest.fixture
def two_staged(make_job):
    """One rank with two saves that are staged, the older with writer `one` and the newer with `two`; then it dies."""
    job = make_job(initial_workers=1, drain_s=DRAIN_S)
    (w0,) = job.workers("w0")
    one, two = job.writer("one"), job.writer("two")
    older, newer = job.opened([w0], 10), job.opened([w0], 11)
    w0.staged(older, "one").got(wire.Done)
    w0.staged(newer, "two").got(wire.Done)
    job.lose(w0)
    return job, w0, (one, two), older, newer


def ordered(*writers) -> list[str]:
    return [order.checkpoint_id for writer in writers for order in iter(writer.asked_to_commit, None)]


def test_saves_of_a_dead_rank_are_committed_in_their_order_though_the_newer_is_finished_first(two_staged) -> None:
    job, w0, (one, two), older, newer = two_staged
    two.drained(newer, w0, 0)
    assert ordered(one, two) == []
    one.drained(older, w0, 0)
    assert ordered(one, two) == [older]
    one.confirm(job.summary(older))
    assert ordered(one, two) == [newer]


def test_an_older_save_that_nobody_finishes_holds_the_newer_one_back_no_longer_than_it_is_waited_for(
    two_staged,
) -> None:
    job, w0, (one, two), _, newer = two_staged
    two.drained(newer, w0, 0)
    for _ in range(int(DRAIN_S)):
        assert ordered(one, two) == []
        alive(job, one, two)
    alive(job, one, two)
    assert ordered(one, two) == [newer]


def test_a_save_that_one_rank_leaves_out_is_left_out_by_all(make_job) -> None:
    """Also by those who begin it later, or after a restart: nobody waits for a rank that saves a newer step instead."""
    job = make_job(initial_workers=3)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    job.writer()
    name = job.opened([w0, w1])
    waiting = w0.durable(name)
    w1.ask(wire.CheckpointFailed(checkpoint_id=name, code="superseded", message="the storage is busy")).got(wire.Done)
    waiting.refused("superseded", "rank 1 (w1)", "busy")
    w2.begin().refused("superseded", "step 10", "save a later step")
    w0.durable(name).refused("superseded", "given up", "save a later step")
    job.restart()
    for worker in (w0, w2):
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
    w2.begin().refused("superseded", "step 10")
    w2.begin(11).got(wire.CheckpointOpened)


def test_a_checkpoint_may_refer_to_the_newest_one_and_keeps_it_while_it_is_open(saving) -> None:
    job, workers, writer = saving
    first = job.all_durable(workers, 10)
    assert writer.asked_to_commit().parent == ""
    writer.confirm(job.summary(first))

    second = job.opened(workers, 11)
    told = [worker.begin(11).got(wire.CheckpointOpened).parent for worker in workers]
    assert told == [first] * 3
    third = job.all_durable(workers, 12)
    order = writer.asked_to_commit()
    assert (order.checkpoint_id, order.parent, order.pinned) == (third, first, [first])
    writer.confirm(job.summary(third, 12), first, third)

    for worker in workers:
        worker.durable(second)
    order = writer.asked_to_commit()
    assert (order.checkpoint_id, order.parent, order.pinned) == (second, first, [])


def test_the_parent_of_an_open_checkpoint_is_the_same_after_a_restart(saving) -> None:
    job, workers, writer = saving
    first = job.all_durable(workers, 10)
    writer.confirm(job.summary(first))
    job.opened(workers, 11)
    third = job.all_durable(workers, 12)
    writer.confirm(job.summary(third, 12))
    job.restart()
    workers[0].hello().got(wire.Welcome)
    workers[0].register().got(wire.Registered)
    assert workers[0].begin(11).got(wire.CheckpointOpened).parent == first


def test_a_checkpoint_that_stays_for_good_refers_to_nothing(make_job) -> None:
    """The first one at or after each multiple of keep_every stands alone; those between refer to the one before."""
    job = make_job(retention=wire.RetentionRule(3, 100, "", "min", 0))
    (worker,) = job.workers("w0")
    writer = job.writer()
    parents, names = [], []
    for step in (90, 99, 105, 110, 200):
        opened = worker.begin(step).got(wire.CheckpointOpened)
        worker.durable(opened.checkpoint_id)
        writer.asked_to_commit()
        names.append(opened.checkpoint_id)
        writer.confirm(job.summary(names[-1], step), *names)
        parents.append(opened.parent)
    assert parents == ["", names[0], "", names[2], ""]


def test_metrics_and_retention_reach_the_writer(make_job) -> None:
    rule = wire.RetentionRule(3, 100, "loss", "max", 2)
    job = make_job(retention=rule)
    (worker,) = job.workers("w0")
    writer = job.writer()
    name = worker.begin(metrics={"loss": 0.25, "step": 3}).got(wire.CheckpointOpened).checkpoint_id
    worker.durable(name)
    order = writer.asked_to_commit()
    assert (order.metrics, order.retention, order.keep_count) == ({"loss": 0.25, "step": 3.0}, rule, 3)


@pytest.mark.parametrize("bad", [{"loss": float("nan")}, {"loss": float("inf")}, {"": 1.0}])
def test_metrics_that_could_not_be_compared_are_refused(saving, bad: dict[str, float]) -> None:
    _, workers, _ = saving
    workers[0].begin(metrics=bad).refused("invalid_argument", "metrics")


def test_a_full_save_that_refers_to_another_is_recorded_as_incremental(saving) -> None:
    job, workers, writer = saving
    for step, kind, want in ((10, "FULL", "INCREMENTAL"), (11, "MODEL_ONLY", "MODEL_ONLY")):
        (name,) = {worker.begin(step, kind=kind).got(wire.CheckpointOpened).checkpoint_id for worker in workers}
        for worker in workers:
            arrival = wire.CheckpointArrive(
                checkpoint_id=name, index_key="k", digest="d", size_bytes=1, refs=["older"] * (worker is workers[1])
            )
            worker.ask(arrival)
        assert writer.asked_to_commit().kind == want
        writer.confirm(job.summary(name, step))
