"""A request of a past generation, or of a term that never was, changes nothing; PROTOCOL.md says which check it."""

from __future__ import annotations

from pathlib import Path

import pytest

import strata_zmq.protocol
from strata_zmq.protocol import messages as wire

DOCUMENT = Path(strata_zmq.protocol.__file__).parent / "PROTOCOL.md"
FENCED = {
    "arrive": wire.Arrive(name="step", step=1),
    "checkpoint_begin": wire.CheckpointBegin(step=7),
    "advance_epoch": wire.AdvanceEpoch(epoch=0),
    "restore": wire.Restore(checkpoint_id="c", ledger=b'{"epoch": 0, "commit_index": 0, "datasets": {}}'),
}
FREE = {
    "checkpoint_arrive": wire.CheckpointArrive(checkpoint_id="c", index_key="k", digest="d", size_bytes=1),
    "checkpoint_failed": wire.CheckpointFailed(checkpoint_id="c", code="storage", message="m"),
    "register_dataset": wire.RegisterDataset(dataset_id="more", total_samples=1, shard_size=1),
    "heartbeat": wire.Heartbeat(),
    "await_generation": wire.AwaitGeneration(),
    "get_shards": wire.GetShards(dataset_id="data"),
    "latest_checkpoint": wire.LatestCheckpoint(),
    "resume_from": wire.ResumeFrom(),
    "get_status": wire.GetStatus(),
    "get_view": wire.GetView(),
    "get_sight": wire.GetSight(),
}


@pytest.fixture
def moved_on(make_job):
    """Two members that have adopted generation 1, in generation 2; a commit point has come since."""
    job = make_job(initial_workers=2)
    job.dataset()
    w0, w1 = job.workers("w0", "w1")
    job.writer()
    job.worker("w2").commit(generation=2)
    w0.commit(generation=2)
    w1.commit(generation=2).got(wire.Released)
    # Nobody remembers what came before: a restore would go back.
    job.lose(w0)
    job.lose(w1)
    for worker in (w0, w1):
        worker.register(incarnation=f"new life of {worker.name}").got(wire.Registered)
    job.supervisor().ask(wire.ReportLost(worker_id="w2", pid=1000)).got(wire.Done)
    return job, w0


def test_the_document_names_every_request_that_checks_its_generation() -> None:
    body = DOCUMENT.read_text().split("| request | a header's `generation`", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("|").split("|") for line in body.splitlines()[2:]]
    checked = {name for row in rows if "generation_changed" in row[1] for name in row[0].replace("`", "").split()}
    assert checked == set(FENCED)


@pytest.mark.parametrize("generation", [1, 2, 9])
@pytest.mark.parametrize("name", FENCED)
def test_a_write_of_another_generation_is_refused_and_changes_nothing(moved_on, name: str, generation: int) -> None:
    job, w0 = moved_on
    assert job.history.generation > 2
    w0.generation = generation
    before = job.history.to_snapshot()
    w0.ask(FENCED[name]).refused("generation_changed", f"is {job.history.generation} now")
    assert job.history.to_snapshot() == before


@pytest.mark.parametrize("name", FENCED)
def test_the_same_write_of_the_current_generation_is_taken(moved_on, name: str) -> None:
    job, w0 = moved_on
    w0.generation = job.history.generation
    call = w0.ask(FENCED[name])
    assert call.waits or type(call.replies[0]) is not wire.ErrorReply


@pytest.mark.parametrize("name", ["advance_epoch", "restore"])
def test_who_names_no_generation_is_taken_at_its_word(moved_on, name: str) -> None:
    _, w0 = moved_on
    w0.generation = 0
    call = w0.ask(FENCED[name])
    assert call.waits or type(call.replies[0]) is not wire.ErrorReply


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_depend_on_the_membership_is_not_asked_for_it(moved_on, name: str) -> None:
    job, w0 = moved_on
    answers = []
    for generation in (1, job.history.generation):
        w0.generation = generation
        call = w0.ask(FREE[name])
        answers.append([(type(reply), getattr(reply, "code", "")) for reply in call.replies])
    assert answers[0] == answers[1]
    assert answers[0][0][1] != "generation_changed"


def test_a_late_copy_of_a_restore_does_not_undo_what_came_after_it(moved_on) -> None:
    job, w0 = moved_on
    w0.generation = job.history.generation
    w0.ask(FENCED["restore"]).got(wire.Restored)
    again = w0.ask(FENCED["restore"]).got(wire.Restored)
    assert again.rewound, "history stands there: nothing to go back"
    w1 = next(client for client in job.clients.values() if client.name == "w1")
    for worker in (w0, w1):
        worker.commit(generation=job.history.generation)
    assert job.history.commit_index == 1
    before = job.history.to_snapshot()
    assert not w0.ask(FENCED["restore"]).got(wire.Restored).rewound
    assert job.history.to_snapshot() == before


def test_a_copy_of_a_wait_for_the_next_epoch_goes_on_waiting_in_the_next_generation(trio) -> None:
    job, w0, w1, w2 = trio
    first = w0.advance()
    job.lose(w2)
    assert first.waits
    again = w0.ask(first.request)
    assert again.waits
    w1.join()
    w1.advance()
    assert again.got(wire.EpochAdvanced).epoch == 1


@pytest.mark.parametrize("term", [2, 99, 2**62])
def test_a_term_that_never_was_is_told_to_say_hello(trio, term: int) -> None:
    job, w0, *_ = trio
    before = job.history.to_snapshot()
    w0.ask(wire.Arrive(name="step", step=1, term=term)).refused("unknown_session", f"term {term}", "term 1", "hello")
    w0.ask(wire.Deregister(term=term)).refused("unknown_session")
    assert job.history.to_snapshot() == before


def test_a_term_of_the_past_belongs_to_a_session_that_is_gone(trio) -> None:
    job, w0, *_ = trio
    job.restart()
    w0.ask(wire.Arrive(name="step", step=1)).refused("unknown_session", "term 2")
