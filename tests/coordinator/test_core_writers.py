"""Storage writers at the coordinator: who may register and confirm, and that the store is the truth."""

from __future__ import annotations

import pytest

from strata_zmq.protocol import messages as wire


def test_only_a_registered_writer_confirms_a_commit(saving) -> None:
    job, workers, _ = saving
    name = job.all_durable(workers)
    for stranger in (workers[0], job.client(), job.client("writer")):
        stranger.confirm(job.summary(name)).refused("invalid_argument", "storage writer")
    assert job.status().checkpoints == []


def test_a_writer_that_was_given_up_cannot_confirm_before_it_has_registered_again(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    for _ in range(2):
        job.wait(4.0)
        for worker in workers:
            worker.heartbeat()
    writer.confirm(job.summary(name)).refused("fenced", "'writer'", "register again")
    failure = wire.CheckpointFailed(checkpoint_id=name, code="storage", message="")
    writer.ask(failure).refused("fenced")
    writer.heartbeat().refused("fenced", "'writer'")
    assert job.status().open_checkpoints == [name]

    waiting = workers[0].durable(name)
    writer.offer(job.summary(name)).got(wire.Registered)

    waiting.got(wire.CheckpointDurable)
    assert [one.checkpoint_id for one in job.status().checkpoints] == [name]


def test_a_restarted_writer_takes_its_own_place_on_one_host(saving) -> None:
    job, workers, old = saving
    new = job.writer("writer")
    old.confirm(job.summary("any")).refused("fenced")
    name = job.all_durable(workers)
    assert old.asked_to_commit() is None
    assert new.asked_to_commit().checkpoint_id == name


@pytest.mark.parametrize(("theirs", "mine"), [("host-a", "host-b"), ("", "")])
def test_a_writers_name_is_not_taken_over_from_elsewhere(job, theirs: str, mine: str) -> None:
    job.writer("writer", boot_id=theirs)
    other = job.client("writer")
    other.name, other.incarnation = "writer", "another life"
    other.offer(boot_id=mine).refused("already_exists", "'writer'", "--writer-id")


def test_only_a_connection_that_said_it_is_a_writer_registers_as_one(job) -> None:
    client = job.client("worker")
    client.name = client.incarnation = "x"
    client.offer().refused("invalid_argument", "'worker'", "writer")


def test_a_writers_name_keeps_to_the_limits(job) -> None:
    client = job.client("writer")
    client.name, client.incarnation = "two words", "life"
    client.offer().refused("invalid_argument", "writer_id")


def test_the_store_is_the_truth_when_a_writer_registers(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    job.writer("other", job.summary("kept", 3), job.summary("newest", 4))
    assert [one.checkpoint_id for one in job.status().checkpoints] == ["newest", "kept"]
    before = len(job.records)
    job.writer("third", job.summary("kept", 3), job.summary("newest", 4))
    assert len(job.records) == before


def test_a_commit_that_the_store_knows_and_the_journal_does_not_is_told_to_its_ranks(saving) -> None:
    job, workers, _ = saving
    name = job.opened(workers)
    waiting = [worker.durable(name) for worker in workers]
    job.writer("other", job.summary(name))
    for call in waiting:
        assert call.got(wire.CheckpointDurable).checkpoint_id == name
    assert job.status().open_checkpoints == []


def test_a_commit_that_was_given_up_here_and_done_there_is_the_truth(saving) -> None:
    job, workers, writer = saving
    name = job.opened(workers)
    workers[0].ask(wire.CheckpointFailed(checkpoint_id=name, code="storage", message="late"))
    writer.confirm(job.summary(name)).got(wire.Done)
    assert [one.checkpoint_id for one in job.status().checkpoints] == [name]


def test_what_is_committed_is_there_after_a_restart(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    job.restart()
    assert [one.checkpoint_id for one in job.status().checkpoints] == [name]


def offer_of_head(job, head_term: int, *checkpoints: wire.CheckpointSummary):
    client = job.client("writer")
    info = wire.WriterInfo("fresh", "life", "ipc:///data", "ipc:///control", "boot")
    return client.ask(wire.RegisterWriter(writer=info, head_term=head_term, checkpoints=list(checkpoints)))


def test_a_new_journal_over_an_old_store_takes_a_term_above_its_fence(trio) -> None:
    job, w0, _, _ = trio
    old = job.summary("step-000000000010-g1-t41")
    told = offer_of_head(job, 41, old).got(wire.Registered)
    assert told.term == 42
    assert w0.begin().got(wire.CheckpointOpened).checkpoint_id == "step-000000000010-g1-t42"
    assert [one.checkpoint_id for one in job.status().checkpoints] == [old.checkpoint_id]
    job.restart()
    w0.hello().got(wire.Welcome)
    w0.register().got(wire.Registered)
    assert w0.begin().got(wire.CheckpointOpened).checkpoint_id == "step-000000000010-g1-t42"


def test_the_store_of_this_very_history_changes_no_term(saving) -> None:
    job, workers, writer = saving
    name = job.all_durable(workers)
    writer.confirm(job.summary(name))
    assert offer_of_head(job, 1, job.summary(name)).got(wire.Registered).term == 1


def test_a_fence_that_no_coordinator_can_have_set_is_refused(job) -> None:
    offer_of_head(job, 2**62).refused("invalid_argument", "head_term")
    assert job.history.term == 1


@pytest.mark.parametrize("name", ["step-000000000010-g1-tX", "step-000000000010-g1-", "step-000000000010-g1-t1t"])
def test_ids_in_the_store_that_this_coordinator_never_gave_are_left_alone(trio, name: str) -> None:
    job, w0, _, _ = trio
    job.writer("writer", job.summary(name))
    assert w0.begin().got(wire.CheckpointOpened).checkpoint_id.startswith("step-000000000010-g1-t")


def test_what_was_read_before_another_writers_commit_does_not_take_it_back(saving) -> None:
    job, workers, writer = saving
    late = job.writer("late")
    name = job.all_durable(workers)
    writer.confirm(job.summary(name), head_version=2).got(wire.Done)
    late.offer(job.summary("step-000000000001-g1-t1", 1), head_version=1).got(wire.Registered)
    assert list(job.history.checkpoints) == [name]
    late.offer(head_version=3).got(wire.Registered)
    assert list(job.history.checkpoints) == []
