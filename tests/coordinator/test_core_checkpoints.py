"""Checkpoints: committed when every rank is durable, by one writer after another, and given up with a reason."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire


def test_every_rank_is_given_the_same_checkpoint_and_its_own_rank(saving) -> None:
    job, workers, _ = saving
    told = [worker.begin().got(wire.CheckpointOpened) for worker in workers]
    assert len({one.checkpoint_id for one in told}) == 1
    assert [one.rank for one in told] == [0, 1, 2]
    assert {one.world_size for one in told} == {3}
    assert [writer.writer_id for writer in told[0].writers] == ["writer"]
    assert job.status().open_checkpoints == [told[0].checkpoint_id]


def test_without_a_storage_writer_a_save_is_refused_with_the_way_out(trio) -> None:
    _, w0, _, _ = trio
    w0.begin().refused("unavailable", "step 10", "strata writer")


def test_a_checkpoint_is_committed_only_when_every_rank_is_durable(saving) -> None:
    job, workers, writer = saving
    name = job.opened(workers)
    waiting = [worker.durable(name) for worker in workers[:2]]
    assert writer.asked_to_commit() is None
    waiting.append(workers[2].durable(name))
    order = writer.asked_to_commit()
    assert (order.checkpoint_id, order.step, order.world_size, order.keep_count) == (name, 10, 3, 5)
    assert [(rank.rank, rank.worker_id) for rank in order.ranks] == [(0, "w0"), (1, "w1"), (2, "w2")]
    assert order.term == job.history.term
    assert all(call.waits for call in waiting)

    writer.confirm(job.summary(name)).got(wire.Done)

    assert [call.got(wire.CheckpointDurable).checkpoint_id for call in waiting] == [name] * 3
    assert [one.checkpoint_id for one in job.status().checkpoints] == [name]
    assert job.announced[-1].checkpoint.checkpoint_id == name
    assert job.status().open_checkpoints == []


def test_a_manifest_carries_the_data_position_of_its_commit_point(saving) -> None:
    job, workers, writer = saving
    job.dataset()
    for worker in workers:
        worker.commit(job.seen(worker.shards().shards[0], 0, 4))
    name = job.opened(workers)
    for worker in workers:
        worker.commit(job.seen(worker.shards().shards[0], 4, 6))
        worker.durable(name)
    order = writer.asked_to_commit()
    assert b'"commit_index":1' in order.ledger
    assert b'"data"' in order.ledger


def test_a_rank_that_arrives_again_is_counted_once_and_answered_on_its_last_question(saving) -> None:
    job, workers, writer = saving
    name = job.opened(workers)
    first = workers[0].durable(name)
    again = workers[0].durable(name, digest="other")
    assert len([record for record in job.records if type(record).__name__ == "RankArrived"]) == 1
    for worker in workers[1:]:
        worker.durable(name)
    assert writer.asked_to_commit().ranks[0].digest == "digest"
    writer.confirm(job.summary(name))
    again.got(wire.CheckpointDurable)
    assert first.waits


def test_a_rank_that_missed_the_answer_gets_it_when_it_asks_again(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    assert workers[0].durable(name).got(wire.CheckpointDurable).checkpoint_id == name


def test_a_rank_that_missed_the_answer_gets_it_although_the_checkpoint_was_retired_since(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    later = job.all_durable(workers, step=11)
    writer.confirm(job.summary(later, 11), later)
    assert [one.checkpoint_id for one in job.status().checkpoints] == [later]
    workers[0].durable(name).got(wire.CheckpointDurable)


def test_a_confirmation_that_comes_again_late_does_not_bring_a_retired_checkpoint_back(saving) -> None:
    job, workers, writer = saving
    names = []
    for step in (10, 11):
        names.append(job.all_durable(workers, step))
        writer.confirm(job.summary(names[-1], step), names[-1])
    writer.confirm(job.summary(names[0], 10), names[0]).got(wire.Done)
    assert [one.checkpoint_id for one in job.status().checkpoints] == [names[1]]
    assert job.status().counters["checkpoints_committed"] == 2


def test_the_same_step_of_one_generation_is_saved_once(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    workers[0].begin().refused("already_exists", "step 10", "save another step")


def test_a_save_that_one_rank_has_gone_past_is_given_up_and_says_who_it_was(saving) -> None:
    job, workers, writer = saving
    first = workers[0].begin(10).got(wire.CheckpointOpened).checkpoint_id
    workers[1].begin(10)
    waits = workers[0].durable(first)
    later = workers[2].begin(11).got(wire.CheckpointOpened).checkpoint_id
    waits.refused("superseded", "rank 2 (w2)", "step 11", "every rank has to save the same steps")
    workers[1].durable(first).refused("superseded", "step-000000000010", "save a later step")
    assert job.status().open_checkpoints == [later]
    job.all_durable(workers, step=11)
    writer.confirm(job.summary(later, 11))
    assert [one.checkpoint_id for one in job.status().checkpoints] == [later]


def test_ranks_that_save_the_same_steps_at_different_times_all_have_them(saving) -> None:
    job, workers, _ = saving
    names = {}
    for worker in workers:
        for step in (10, 11, 12):
            names[step] = worker.begin(step).got(wire.CheckpointOpened).checkpoint_id
    workers[0].begin(10).got(wire.CheckpointOpened)
    assert job.status().open_checkpoints == list(names.values())


def test_what_was_begun_before_a_restart_is_not_taken_for_left_out(saving) -> None:
    """Who has begun it is known only to the coordinator's earlier life: the time limit decides."""
    job, workers, writer = saving
    first = job.opened(workers, 10)
    job.restart()
    for client in (*workers, writer):
        client.hello()
    writer.offer()
    for worker in workers:
        worker.register()
    later = workers[0].begin(11).got(wire.CheckpointOpened).checkpoint_id
    assert job.status().open_checkpoints == [first, later]


def test_retention_is_what_the_writer_says_that_head_reaches(saving) -> None:
    job, workers, writer = saving
    names = []
    for step in (1, 2, 3):
        names.append(job.all_durable(workers, step))
        writer.confirm(job.summary(names[-1], step), *names[-2:])
    assert [one.step for one in job.status().checkpoints] == [3, 2]
    listed = job.client().ask(wire.LatestCheckpoint(limit=1)).got(wire.CheckpointTaken)
    assert [one.step for one in listed.checkpoints] == [3]


def test_another_writer_is_asked_when_the_first_is_lost(saving) -> None:
    job, workers, _first = saving
    other = job.writer("other")
    name = job.all_durable(workers)
    for _ in range(2):
        job.wait(4.0)
        other.heartbeat()
        for worker in workers:
            worker.heartbeat()
    assert job.status().writers == ["other"]
    assert other.asked_to_commit().checkpoint_id == name
    other.confirm(job.summary(name)).got(wire.Done)


def test_another_writer_is_asked_when_the_first_is_silent_and_then_the_first_again(make_job) -> None:
    job = make_job(commit_retry_s=2.0)
    (worker,) = job.workers("w0")
    writers = {name: job.writer(name) for name in ("a", "b")}
    job.all_durable([worker])
    asked = []
    for _ in range(3):
        asked += [key for key, writer in writers.items() if writer.asked_to_commit()]
        job.wait(2.0)
        for client in (worker, *writers.values()):
            client.heartbeat()
    assert asked == ["a", "b", "a"]


def test_a_commit_waits_for_a_writer_to_come(saving) -> None:
    job, workers, _ = saving
    name = job.opened(workers)
    for _ in range(2):
        job.wait(4.0)
        for worker in workers:
            worker.heartbeat()
    assert job.status().writers == []
    calls = [worker.durable(name) for worker in workers]
    assert all(call.waits for call in calls)
    assert job.writer("late").asked_to_commit().checkpoint_id == name


def test_a_commit_is_asked_for_again_after_a_restart(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    job.restart()
    for client in (*workers, writer):
        client.hello().got(wire.Welcome)
    for worker in workers:
        worker.register()
    writer.inbox.clear()
    writer.offer().got(wire.Registered)
    order = writer.asked_to_commit()
    assert (order.checkpoint_id, order.term) == (name, 2)
    waiting = workers[0].durable(name)
    writer.confirm(job.summary(name)).got(wire.Done)
    waiting.got(wire.CheckpointDurable)


def test_a_checkpoint_keeps_its_id_over_a_restart(saving) -> None:
    job, workers, writer = saving
    name = workers[0].begin().got(wire.CheckpointOpened).checkpoint_id
    job.restart()
    for client in (*workers, writer):
        client.hello().got(wire.Welcome)
    writer.offer().got(wire.Registered)
    for worker in workers:
        worker.register()
        assert worker.begin().got(wire.CheckpointOpened).checkpoint_id == name


def test_a_failure_of_one_rank_is_told_to_all_that_wait(saving) -> None:
    job, workers, _ = saving
    name = job.opened(workers)
    waiting = [worker.durable(name) for worker in workers[:2]]
    failure = wire.CheckpointFailed(checkpoint_id=name, code="storage", message="disk full")
    workers[2].ask(failure).got(wire.Done)
    for call in waiting:
        call.refused("storage", name, "rank 2 (w2)", "disk full")
    workers[2].durable(name).refused("not_found", name, "save again")
    workers[2].ask(failure).got(wire.Done)
    assert job.status().counters["checkpoints_aborted"] == 1
    job.opened(workers)


def test_a_failure_of_a_writer_is_told_to_all_ranks(saving) -> None:
    job, workers, writer = saving
    name = job.opened(workers)
    waiting = [worker.durable(name) for worker in workers]
    writer.ask(wire.CheckpointFailed(checkpoint_id=name, code="made_up", message="no idea")).got(wire.Done)
    for call in waiting:
        call.refused("internal", "made_up", "writer writer", "no idea")


def test_a_checkpoint_is_given_up_when_a_rank_leaves_before_its_bytes_are_durable(saving) -> None:
    job, workers, _ = saving
    name = job.opened(workers)
    waiting = [worker.durable(name) for worker in workers[:2]]
    job.lose(workers[2])
    for call in waiting:
        call.refused("peer_lost", "w2 left before")
    assert job.status().open_checkpoints == []


def test_a_rank_that_was_durable_before_it_left_does_not_hold_the_commit_back(saving) -> None:
    job, workers, writer = saving
    name = job.opened(workers)
    workers[2].durable(name)
    job.lose(workers[2])
    calls = [worker.durable(name) for worker in workers[:2]]
    assert len(writer.asked_to_commit().ranks) == 3
    writer.confirm(job.summary(name))
    for call in calls:
        call.got(wire.CheckpointDurable)


def test_a_checkpoint_that_does_not_become_durable_in_time_is_given_up_and_names_who_is_missing(make_job) -> None:
    job = make_job(initial_workers=2, checkpoint_timeout_s=6.0)
    w0, w1 = job.workers("w0", "w1")
    job.writer()
    name = job.opened([w0, w1])
    waiting = w0.durable(name)
    job.wait(5.75)
    assert waiting.waits
    job.wait(0.25)
    waiting.refused("deadline_exceeded", name, "6 s", "missing: w1")


def test_a_commit_that_no_writer_carries_out_in_time_is_given_up(make_job) -> None:
    job = make_job(checkpoint_timeout_s=6.0)
    (worker,) = job.workers("w0")
    job.writer()
    name = job.opened([worker])
    waiting = worker.durable(name)
    job.wait(6.0)
    waiting.refused("deadline_exceeded", "no storage writer committed it")


def test_a_stranger_to_a_checkpoint_takes_no_part_in_it(saving) -> None:
    job, workers, _ = saving
    name = job.opened(workers)
    late = job.worker("w3")
    late.join()
    late.durable(name).refused("not_found", "'w3'", "takes no part")
    late.ask(wire.CheckpointFailed(checkpoint_id=name, code="x", message="")).refused("not_found", "'w3'")
    late.begin(generation=1).refused("not_found", "'w3'", "takes no part")
    workers[0].begin(11).refused("generation_changed", "step 11", "joined: w3")
    assert job.status().open_checkpoints == [name]


def test_a_checkpoint_that_is_not_open_is_refused_and_the_open_ones_named(saving) -> None:
    _, workers, _ = saving
    workers[0].durable("step-9").refused("not_found", "'step-9'", "none")


def test_metadata_outside_the_limits_is_refused(saving) -> None:
    _, workers, _ = saving
    workers[0].begin(metadata={"note": "x" * 1025}).refused("invalid_argument", "metadata")


def test_a_save_that_is_tried_again_has_the_whole_time_again(make_job) -> None:
    job = make_job(checkpoint_timeout_s=6.0)
    (worker,) = job.workers("w0")
    writer = job.writer()
    name = job.opened([worker])
    job.wait(5.0)
    worker.ask(wire.CheckpointFailed(checkpoint_id=name, code="storage", message="full")).got(wire.Done)
    again = worker.durable(job.opened([worker]))
    job.wait(5.75)
    for client in (worker, writer):
        client.heartbeat()
    assert again.waits
    job.wait(0.25)
    again.refused("deadline_exceeded")


def test_silent_writers_are_asked_in_turn(make_job) -> None:
    job = make_job(commit_retry_s=2.0)
    (worker,) = job.workers("w0")
    writers = {name: job.writer(name) for name in ("a", "b", "c")}
    worker.durable(job.opened([worker]))
    asked = []
    for _ in range(4):
        asked += [key for key, writer in writers.items() if writer.asked_to_commit()]
        job.wait(2.0)
        for client in (worker, *writers.values()):
            client.heartbeat()
    assert asked == ["a", "b", "c", "a"]


def test_times_that_people_read_are_unix_seconds(make_job) -> None:
    job = make_job(wall_offset_s=1_700_000_000.0)
    (worker,) = job.workers("w0")
    writer = job.writer()
    worker.durable(job.opened([worker]))
    now = 1_700_000_000.0 + job.now
    assert writer.asked_to_commit().created_at == now
    assert worker.heartbeat().got(wire.HeartbeatAck).server_time == now
    job.dataset()
    assert job.history.datasets["data"].added.at == now


@pytest.mark.parametrize("how", ["one is open", "one is committed"])
def test_a_writer_that_is_away_for_a_moment_is_waited_for_also_after_a_restart(saving, how: str) -> None:
    job, workers, writer = saving
    name = job.opened(workers)
    if how == "one is committed":
        for worker in workers:
            worker.durable(name)
        writer.confirm(job.summary(name))
    job.restart()
    for worker in workers:
        worker.hello().got(wire.Welcome)
        worker.register().got(wire.Registered)
    told = workers[0].begin(11).got(wire.CheckpointOpened)
    assert told.writers == []
    job.writer("back")
    assert [one.writer_id for one in workers[0].begin(11).got(wire.CheckpointOpened).writers] == ["back"]


def test_a_save_that_is_tried_again_is_committed_without_a_wait(saving) -> None:
    job, workers, writer = saving
    for _ in range(2):
        name = job.opened(workers)
        waiting = [worker.durable(name) for worker in workers]
        assert writer.asked_to_commit().checkpoint_id == name
        writer.ask(wire.CheckpointFailed(checkpoint_id=name, code="storage", message="full")).got(wire.Done)
        for call in waiting:
            call.refused("storage")
