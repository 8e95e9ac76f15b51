"""Sessions: who may speak at all, and that no request from anybody is ever more than an answer by name."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol import messages as wire

SUMMARY = wire.CheckpointSummary("c", 1, 0, 1, 0.0)
REQUESTS = [
    wire.RegisterWorker(worker_id="w0", incarnation="life"),
    wire.AwaitGeneration(),
    wire.Deregister(),
    wire.Heartbeat(),
    wire.Arrive(name="step", step=1),
    wire.RegisterDataset(dataset_id="", total_samples=0, shard_size=0),
    wire.GetShards(dataset_id="data"),
    wire.AdvanceEpoch(epoch=0),
    wire.CheckpointBegin(step=1),
    wire.CheckpointStaged(checkpoint_id="c", writer_id="s"),
    wire.CheckpointArrive(checkpoint_id="c", index_key="k", digest="d", size_bytes=1),
    wire.Restore(checkpoint_id="c", ledger=b""),
    wire.LatestCheckpoint(),
    wire.ResumeFrom(),
    wire.RegisterWriter(writer=wire.WriterInfo("s", "life", "ipc:///d", "ipc:///c")),
    wire.CheckpointCommitted(checkpoint=SUMMARY),
    wire.CheckpointFailed(checkpoint_id="c", code="storage", message="m"),
    wire.ReportLost(worker_id="w0", pid=1),
    wire.SendCommand(command="checkpoint"),
    wire.GetStatus(),
    wire.GetView(),
    wire.GetSight(),
    wire.ReportStacks(text="File x"),
]
ANSWERED = {
    wire.Heartbeat: wire.HeartbeatAck,
    wire.LatestCheckpoint: wire.CheckpointTaken,
    wire.GetStatus: wire.Status,
    wire.GetView: wire.View,
    wire.GetSight: wire.Sight,
}


def name(request) -> str:
    return request.__struct_config__.tag


def test_the_examples_here_cover_every_request() -> None:
    assert {type(request) for request in REQUESTS} | {wire.Hello} == set(get_args(wire.Request))


@pytest.mark.parametrize("request_", REQUESTS, ids=name)
def test_who_has_not_said_hello_is_told_to(job, request_) -> None:
    client = job.client()
    client.session = 12345
    client.ask(request_).refused("unknown_session", "12345", "term 1", "say hello")


@pytest.mark.parametrize("request_", REQUESTS, ids=name)
def test_a_session_of_the_life_before_is_told_to_say_hello_again(job, request_) -> None:
    client = job.client()
    job.restart()
    client.ask(request_).refused("unknown_session", "term 2", "say hello")


@pytest.mark.parametrize("request_", REQUESTS, ids=name)
def test_a_session_that_never_registered_gets_a_named_error_or_what_anybody_may_ask(job, request_) -> None:
    call = job.client().ask(request_)
    if type(request_) in ANSWERED:
        call.got(ANSWERED[type(request_)])
    else:
        error = call.got(wire.ErrorReply)
        assert error.code in {"invalid_argument", "stale_generation", "not_found"}
        assert error.message
    assert job.history.generation == 0


def test_hello_picks_the_version_and_tells_what_a_client_has_to_know(make_job) -> None:
    job = make_job(broadcast_endpoint="ipc:///pub", server_version="9", lease_s=12.0, heartbeat_s=2.0)
    client = job.client()
    welcome = client.ask(wire.Hello(proto_min=0, proto_max=7)).got(wire.Welcome)
    assert (welcome.proto, welcome.broadcast_endpoint, welcome.server_version) == (1, "ipc:///pub", "9")
    assert (welcome.lease_s, welcome.heartbeat_s, welcome.term) == (12.0, 2.0, 1)
    assert welcome.max_request_bytes == 65_536


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0), (5, 1)])
def test_a_version_that_is_not_spoken_here_is_refused_with_the_one_that_is(job, low: int, high: int) -> None:
    client = job.client()
    client.ask(wire.Hello(proto_min=low, proto_max=high)).refused("invalid_argument", f"{low} to {high}", "1")


def test_another_job_is_refused_by_name_and_no_job_is_any(job) -> None:
    client = job.client()
    client.ask(wire.Hello(job="other")).refused("invalid_argument", "'other'", "'job'")
    client.ask(wire.Hello(job="")).got(wire.Welcome)
    client.ask(wire.Hello(job="job")).got(wire.Welcome)


def test_hello_again_on_one_connection_keeps_the_session(trio) -> None:
    _, w0, _, _ = trio
    before = w0.session
    w0.hello().got(wire.Welcome)
    assert w0.session == before
    w0.heartbeat().got(wire.HeartbeatAck)


def test_hello_again_renews_the_lease_as_every_request_does(trio) -> None:
    job, w0, *others = trio
    for _ in range(4):
        job.wait(job.config.lease_s / 2)
        w0.hello().got(wire.Welcome)
        for other in others:
            other.heartbeat()
    assert job.history.member_ids == ("w0", "w1", "w2")


def test_hello_in_another_role_is_another_session(trio) -> None:
    _, w0, _, _ = trio
    before = w0.session
    w0.hello(role="client").got(wire.Welcome)
    assert w0.session != before
    w0.arrive().refused("stale_generation", "REGISTER_WORKER")


def test_a_session_belongs_to_its_connection(trio) -> None:
    job, w0, _, _ = trio
    thief = job.client()
    thief.session = w0.session
    thief.ask(wire.Deregister()).refused("unknown_session")
    assert "w0" in job.history.member_ids


def test_sessions_are_limited_in_number(make_job) -> None:
    job = make_job(sessions_max=2)
    first = job.client()
    job.client()
    with pytest.raises(AssertionError, match="2 sessions are open"):
        job.client()
    first.hello().got(wire.Welcome)


def test_a_silent_session_is_forgotten_in_the_end_and_told_to_say_hello(make_job) -> None:
    job = make_job(lease_s=1.0)
    silent, talking = job.client(), job.client()
    for _ in range(22):
        job.wait(1.0)
        talking.heartbeat()
    silent.ask(wire.GetStatus()).refused("unknown_session")
    talking.ask(wire.GetStatus()).got(wire.Status)


@pytest.mark.parametrize("state", ["UNKNOWN", "FAILED"])
def test_only_the_coordinator_decides_that_a_worker_is_unknown_or_has_failed(trio, state: str) -> None:
    job, w0, _, _ = trio
    w0.heartbeat(state=state).refused("invalid_argument", "'w0'", state, "TRAINING")
    w0.heartbeat(state="TRAINING", step=5).got(wire.HeartbeatAck)
    assert job.status().workers[0].state == "TRAINING"


def test_a_frame_that_could_not_be_read_is_answered_by_name_and_counted(job) -> None:
    client = job.client()
    error = job.core.reject(client.connection, ProtocolError("no array"), seq=7)
    assert (error.code, error.message, error.session, error.seq) == ("protocol", "no array", client.session, 7)
    assert job.core.reject(b"stranger", ProtocolError("no array")).session == 0
    assert job.status().counters["rejected.protocol"] == 2


def test_an_envelope_is_taken_from_an_agent_that_said_hello_and_from_nobody_else(job) -> None:
    agent, client = job.client("agent"), job.client()
    fold = wire.Fold(parts=[], seq=4)

    def admit(who, session: int):
        return job.core.admit(who.connection, msgspec.structs.replace(fold, session=session))

    assert admit(agent, agent.session) is None
    strange, wrong = admit(agent, 77), admit(client, client.session)
    assert (strange.code, strange.session, strange.seq) == ("unknown_session", 77, 4)
    assert wrong.code == "invalid_argument"
    assert "only an agent" in wrong.message


def test_errors_and_requests_are_counted(trio) -> None:
    job, w0, _, _ = trio
    before = job.status().counters
    w0.arrive(expected=9)
    after = job.status().counters
    assert after["errors.invalid_argument"] == before.get("errors.invalid_argument", 0) + 1
    assert after["requests"] > before["requests"]


def test_the_status_shows_what_is_known_of_every_worker(trio) -> None:
    job, w0, _, _ = trio
    resources = wire.Resources(cpu_percent=50.0, memory_bytes=7, gpu_percent=[1.0])
    w0.heartbeat(state="TRAINING", step=12, epoch=3, resources=resources)
    job.wait(1.5)
    row = job.status().workers[0]
    assert (row.worker_id, row.rank, row.state, row.step, row.epoch) == ("w0", 0, "TRAINING", 12, 3)
    assert (row.hostname, row.pid, row.heard_s, row.resources) == ("host", 1000, 1.5, resources)


def test_the_status_shows_who_waits_for_the_quorum_without_a_rank(make_job) -> None:
    job = make_job(initial_workers=2)
    job.worker("w0")
    status = job.status()
    assert (status.need, [row.rank for row in status.workers], status.generation) == (2, [-1], 0)


def test_the_status_shows_every_dataset(job) -> None:
    job.dataset(total=95, shard_size=10)
    (row,) = job.status().datasets
    assert row == {
        "dataset_id": "data",
        "total_samples": 95,
        "shard_size": 10,
        "total_shards": 10,
        "shuffle": True,
        "remaining": 95,
    }


def test_the_pulse_repeats_the_last_sequence_number(trio) -> None:
    job, *_ = trio
    pulse = job.core.pulse()
    assert (pulse.seq, pulse.term, pulse.generation) == (job.announced[-1].seq, 1, 1)


def test_messages_of_one_batch_are_taken_in_their_order(trio) -> None:
    job, *workers = trio
    events = [worker.event(wire.Arrive(name="step", step=1)) for worker in reversed(workers)]
    effects = job.step(*events)
    assert [type(reply) for _, reply in effects.sends] == [wire.Released] * 3
    assert effects.sends[0][1].participants == ["w2", "w1", "w0"]


def test_a_request_of_one_batch_that_fails_does_not_touch_the_others(trio) -> None:
    job, w0, w1, _ = trio
    events = [w0.event(wire.Arrive(name="step", step=1, expected=9)), w1.event(wire.Heartbeat())]
    effects = job.step(*events)
    assert [type(reply) for _, reply in effects.sends] == [wire.ErrorReply, wire.HeartbeatAck]


def test_two_lives_of_one_core_give_the_same_effects_for_the_same_events(make_job) -> None:
    """Determinism: nothing but the events and their times decides."""
    lives = []
    for _ in range(2):
        job = make_job(initial_workers=2)
        job.dataset(total=200, shard_size=7)
        w0, w1 = job.workers("w0", "w1")
        writer = job.writer()
        w0.commit(job.seen(w0.shards().shards[0], 0, 3))
        w1.commit()
        for worker in (w0, w1):
            worker.durable(worker.begin().got(wire.CheckpointOpened).checkpoint_id)
        job.lose(w1)
        job.wait(20.0)
        lives.append((job.history.to_snapshot(), job.announced, writer.inbox, w0.inbox))
    assert lives[0] == lives[1]


def test_a_step_without_events_decides_nothing(trio) -> None:
    job, *_ = trio
    effects = job.core.step([], job.now)
    assert (effects.records, effects.sends, effects.broadcasts) == ([], [], [])
