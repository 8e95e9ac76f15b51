"""Who comes together comes into one generation, and joining costs what has changed."""

from __future__ import annotations

import msgspec
import pytest

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.records import MemberRecord
from strata_zmq.protocol import messages as wire


def newcomers(job, *names: str):
    clients = []
    for name in names:
        client = job.client("worker")
        client.name, client.incarnation = name, f"life of {name}"
        clients.append(client)
    return clients


def registration(client, **fields):
    return client.event(
        wire.RegisterWorker(worker_id=client.name, incarnation=client.incarnation, pid=1000, hostname="host", **fields)
    )


def generations(job) -> list:
    return [record for record in job.records if type(record) is records.GenerationChanged]


def test_all_who_register_in_one_batch_come_into_one_generation(make_job) -> None:
    job = make_job()
    job.workers("w0")
    job.step(*(registration(one) for one in newcomers(job, "w3", "w1", "w2")))
    assert job.history.member_ids == ("w0", "w1", "w2", "w3")
    assert job.history.generation == 2


def test_newcomers_within_the_join_window_come_into_one_generation(make_job) -> None:
    job = make_job(join_window_s=1.0)
    job.workers("w0")
    job.worker("w1")
    job.wait(0.5)
    job.worker("w2")
    assert job.history.member_ids == ("w0",)
    job.wait(0.25)
    assert job.history.member_ids == ("w0",)
    job.wait(0.25)
    assert job.history.member_ids == ("w0", "w1", "w2")
    job.worker("w3")
    job.wait(1.0)
    assert (job.history.generation, job.history.member_ids[-1]) == (3, "w3")


def test_the_first_quorum_and_the_one_of_a_broken_generation_do_not_wait(make_job) -> None:
    job = make_job(join_window_s=10.0, initial_workers=2, min_workers=2)
    _, w1 = job.workers("w0", "w1")
    job.lose(w1)
    assert not job.history.formed
    job.worker("w2")
    assert job.history.member_ids == ("w0", "w2")


def test_who_waits_for_the_window_is_no_member_yet(make_job) -> None:
    job = make_job(join_window_s=10.0)
    job.workers("w0")
    newcomer = job.worker("w1")
    newcomer.arrive(generation=1).refused("stale_generation", "'w1' is not in generation 1 yet")
    assert newcomer.join().waits


def test_a_loss_takes_in_who_waits_for_the_window(make_job) -> None:
    job = make_job(join_window_s=10.0)
    _, w1 = job.workers("w0")[0], job.worker("w1")
    job.wait(3.0)
    assert job.history.member_ids == ("w0",)
    job.lose(w1)
    assert (job.history.member_ids, job.history.generation) == (("w0",), 1)
    job.worker("w2")
    job.supervisor().ask(wire.ReportLost(worker_id="w0", pid=1000)).got(wire.Done)
    assert (job.history.member_ids, job.history.generation) == (("w2",), 2)


def test_a_fixed_size_job_refuses_one_more_by_the_name_of_its_limit(make_job) -> None:
    job = make_job(initial_workers=2, min_workers=2, max_workers=2)
    _, w1 = job.workers("w0", "w1")
    (late,) = newcomers(job, "w2")
    late.register().refused("resource_exhausted", "fixed size", "max_workers is 2", "--fixed")
    job.lose(w1)
    waiting = job.status()
    assert (waiting.pending, waiting.need, waiting.have) == ("1 of 2 workers are registered", 2, 1)
    late.register().got(wire.Registered)
    assert job.history.member_ids == ("w0", "w2")
    assert job.status().pending == ""


def test_the_log_is_told_why_there_is_no_generation_for_longer_than_a_job_takes_to_begin(make_job) -> None:
    job = make_job(initial_workers=3, lease_s=60.0)
    for _ in range(36):
        job.now += 0.125
        assert job.step().notes == []
    notes = []
    for newcomer in newcomers(job, "w0", "w1", "w2"):
        for _ in range(12):
            job.now += 0.125
            notes += job.step().notes
        newcomer.register().got(wire.Registered)
    told = [f"no generation: {have} of 3 workers are registered" for have in range(3)]
    assert notes == told


def test_the_log_is_told_anew_when_a_generation_that_was_there_is_gone_again(make_job) -> None:
    job = make_job(initial_workers=2, min_workers=2, lease_s=60.0)
    job.worker("w0")
    notes = []

    def listen() -> None:
        for _ in range(48):
            job.now += 0.125
            notes.extend(job.step().notes)

    listen()
    w1 = job.worker("w1")
    listen()
    job.lose(w1)
    listen()
    assert notes == ["no generation: 1 of 2 workers are registered"] * 2


def test_a_join_is_journaled_as_its_difference(make_job) -> None:
    job = make_job()
    for number in range(50):
        job.worker(f"w{number}")
    assert [len(record.joined) for record in generations(job)] == [1] * 50
    assert max(len(msgspec.msgpack.encode(record)) for record in generations(job)) < 200


def test_what_a_member_says_anew_of_itself_is_journaled_with_the_next_generation(trio) -> None:
    job, w0, w1, _ = trio
    w1.register(hostname="elsewhere", pid=7).got(wire.Registered)
    w0.register().got(wire.Registered)
    assert job.history.members[1].pid == 1000
    job.worker("w3")
    assert [member.worker_id for member in generations(job)[-1].updated] == ["w1"]
    assert (job.history.members[1].hostname, job.history.members[1].pid) == ("elsewhere", 7)
    job.worker("w4")
    assert generations(job)[-1].updated == []


def test_a_member_that_said_it_anew_and_was_lost_is_not_updated(trio) -> None:
    job, _, w1, _ = trio
    w1.register(hostname="elsewhere").got(wire.Registered)
    job.lose(w1)
    assert generations(job)[-1].updated == []


def test_journals_of_the_first_release_are_read(make_job) -> None:
    """They hold every generation as a whole, and not who was lost."""
    job = make_job(initial_workers=2)
    job.dataset(total=90, shard_size=10)
    _, w1 = job.workers("w0", "w1")
    job.worker("w2")
    job.lose(w1)
    old = History()
    for record in job.records:
        if type(record) is not records.GenerationChanged:
            old.apply(record)
            continue
        kept = [one for one in old.members if one.worker_id not in record.left]
        joined = [member.worker_id for member in record.joined]
        whole = records.GenerationFormed(
            generation=record.generation, members=[*kept, *record.joined], joined=joined, left=record.left
        )
        old.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=records.Record))
    assert list(job.history.lost) == ["w1"]
    job.history.lost.clear()
    assert old.to_snapshot() == job.history.to_snapshot()


def test_a_snapshot_of_the_first_release_is_read(trio) -> None:
    job, *_ = trio
    state = msgspec.msgpack.decode(job.history.to_snapshot())
    for later in ("commands", "commands_issued", "lost", "stopped_generation", "stopped_runs"):
        del state[later]
    assert History.from_snapshot(msgspec.msgpack.encode(state)).member_ids == ("w0", "w1", "w2")


@pytest.mark.parametrize("count", [1000])
def test_a_thousand_may_come_one_by_one_before_the_first_quorum_with_one_record(make_job, count: int) -> None:
    job = make_job(initial_workers=count)
    before = len(job.records)
    job.step(*(registration(one) for one in newcomers(job, *(f"w{number}" for number in range(count)))))
    (formed,) = job.records[before:]
    assert type(formed.joined[0]) is MemberRecord
    assert [member.worker_id for member in formed.joined] == [f"w{number}" for number in range(count)]
