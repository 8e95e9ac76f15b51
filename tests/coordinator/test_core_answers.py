"""What one peer asks for costs a step a bounded amount of work, and keeps nobody else waiting."""

from __future__ import annotations

import msgspec
import pytest

from strata_zmq.coordinator.core import answers, restores, status, view
from strata_zmq.coordinator.core.connections import child_connection
from strata_zmq.coordinator.core.effects import Fanout
from strata_zmq.coordinator.folding import Folding
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_downward, encode

SHARDS = 30_000
ANSWERS_A_STEP = answers.COST_MAX // (SHARDS + answers.REQUEST_COST) + 1


@pytest.fixture
def crowd(make_job):
    """A job of 300 workers."""
    job = make_job(initial_workers=300)
    clients = [job.client("worker") for _ in range(300)]
    requests = [
        client.event(wire.RegisterWorker(worker_id=f"worker-{number}", incarnation="life", pid=1))
        for number, client in enumerate(clients)
    ]
    job.step(*requests)
    return job, clients


@pytest.fixture
def rich(make_job):
    """A job whose only worker owns all shards of a large dataset."""
    job = make_job()
    job.dataset(total=SHARDS, shard_size=1)
    (worker,) = job.workers("w0")
    return job, worker


@pytest.mark.parametrize(
    ("request_", "module", "made"), [(wire.GetStatus(), status, "Status"), (wire.GetView(), view, "View")]
)
def test_a_snapshot_is_made_once_a_step_however_many_ask_for_it(crowd, monkeypatch, request_, module, made) -> None:
    """A frame of 40 KB holds 1,400 GET_STATUS, each of which looked at every worker."""
    job, clients = crowd
    built = 0
    kind = getattr(module, made)

    def counted(**fields):
        nonlocal built
        built += 1
        return kind(**fields)

    monkeypatch.setattr(module, made, counted)
    asked = [client.event(request_) for client in clients for _ in range(4)]
    effects = job.step(*asked)
    assert built == 1
    (fanout,) = effects.outbox
    assert isinstance(fanout, Fanout)
    assert [seq for _, _, seq in fanout.recipients] == [event.message.seq for event in asked]
    calls = [clients[number // 4].calls[event.message.seq] for number, event in enumerate(asked)]
    assert {type(call.got(kind)) for call in calls} == {kind}


def test_the_children_of_one_agent_are_sent_one_body(crowd) -> None:
    job, _ = crowd
    agent = b"\0abcd"
    recipients = [(child_connection(agent, number), 1, number) for number in range(1400)]
    template = job.status()
    folding = Folding(job.core.admit, job.core.reject)
    body = encode(template)
    folding.share(body[:20], body[20:], recipients)
    ((_, frame),) = folding.take()
    assert len(frame) < len(body) + 1400 * 32
    (shared,) = decode_downward(frame).shared
    assert len(shared.addressees) == 1400


def test_a_step_spends_a_bounded_amount_on_large_answers_and_the_others_come_in_their_order(rich) -> None:
    job, worker = rich
    events = [worker.event(wire.GetShards(dataset_id="data")) for _ in range(50)]
    calls = [worker.calls[event.message.seq] for event in events]
    answered = []
    job.step(*events, worker.event(wire.Heartbeat()))
    assert type(worker.calls[max(worker.calls)].replies[0]) is wire.HeartbeatAck, "what is cheap does not wait"
    while job.core.postponed:
        answered.append(sum(not call.waits for call in calls))
        assert [call.waits for call in calls] == [False] * answered[-1] + [True] * (50 - answered[-1])
        job.step()
    steps = [after - before for before, after in zip([0, *answered], [*answered, 50], strict=True)]
    assert max(steps) <= ANSWERS_A_STEP
    assert {len(call.got(wire.Shards).shards) for call in calls} == {SHARDS}


@pytest.mark.parametrize("request_", [wire.ResumeFrom(), wire.GetShards(dataset_id="data", epoch=7)])
def test_every_answer_that_grows_with_the_shards_is_counted(rich, request_) -> None:
    job, worker = rich
    effects = job.step(*(worker.event(request_) for _ in range(50)))
    assert len(effects.sends) <= ANSWERS_A_STEP


def test_a_checkpoint_that_opens_costs_what_its_ledger_takes_and_few_are_open_at_once(rich, monkeypatch) -> None:
    """Each keeps a ledger and journals it: 1,400 of them in one frame would have been a gigabyte."""
    job, worker = rich
    job.writer()
    ranges = [job.seen(shard, 0, 1) for shard in range(0, 1000, 2)]
    worker.commit(*ranges).got(wire.Released)
    ledger = len(job.history.ledger_state())
    monkeypatch.setattr(answers, "COST_MAX", ledger // 10)
    job.step()
    events = [worker.event(wire.CheckpointBegin(step=step, generation=1)) for step in range(40)]
    effects = job.step(*events)
    assert len(effects.records) == 1
    while job.core.postponed:
        assert len(job.step().records) <= 2
    calls = [worker.calls[event.message.seq] for event in events]
    for call in calls[:32]:
        call.got(wire.CheckpointOpened)
    for call in calls[32:]:
        call.refused("resource_exhausted", "32 checkpoints are open", "give it up")
    oldest = next(iter(job.history.open_checkpoints))
    worker.ask(wire.CheckpointFailed(checkpoint_id=oldest, code="storage", message="m")).got(wire.Done)
    worker.begin(step=99).got(wire.CheckpointOpened)


def test_a_ledger_that_claims_more_shards_than_are_registered_is_refused_before_it_is_unfolded(
    rich, monkeypatch
) -> None:
    _, worker = rich
    monkeypatch.setattr(restores.EpochLedger, "from_state", lambda state: pytest.fail("unfolded"))
    ledger = {"total_samples": 10**6, "shard_size": 1, "cursors": [10**6, 0], "workers": {}}
    dataset = {"total_samples": 10**6, "shard_size": 1, "shuffle": True, "seed": 42, "ledger": ledger}
    for name, code in (("data", "invalid_argument"), ("other", "not_found")):
        position = {"epoch": 0, "commit_index": 0, "datasets": {name: dataset}}
        worker.ask(wire.Restore(checkpoint_id="c", ledger=msgspec.json.encode(position))).refused(code, name)


def test_restores_are_counted(rich) -> None:
    job, worker = rich
    position = job.history.ledger_state()
    effects = job.step(*(worker.event(wire.Restore(checkpoint_id="c", ledger=position)) for _ in range(50)))
    assert len(effects.sends) <= answers.COST_MAX // (SHARDS // 2 + answers.REQUEST_COST) + 1


def test_lists_of_members_and_checkpoints_are_counted(crowd, monkeypatch) -> None:
    job, clients = crowd
    monkeypatch.setattr(answers, "COST_MAX", 1000)
    job.step()
    member = clients[0]
    effects = job.step(*(member.event(wire.AwaitGeneration()) for _ in range(50)))
    assert len(effects.sends) == 4  # 100 each, and 150 for 300 names
    kept = [wire.CheckpointSummary(f"c{number}", number, 0, 1, 0.0) for number in range(80)]
    job.writer("writer", *kept)
    while job.core.postponed:
        job.step()
    asker = job.client()
    effects = job.step(*(asker.event(wire.LatestCheckpoint(limit=100)) for _ in range(50)))
    assert len(effects.sends) == 2  # 100 each, and 5 for each of 80 checkpoints


def test_a_connection_of_its_own_pays_for_its_copies_of_a_snapshot(crowd) -> None:
    job, clients = crowd
    effects = job.step(*(clients[0].event(wire.GetStatus()) for _ in range(3000)))
    assert len(effects.sends) <= answers.COST_MAX // (answers.REQUEST_COST + 30) + 1
    assert job.core.postponed


def test_peers_take_turns(rich) -> None:
    job, worker = rich
    others = [job.client() for _ in range(3)]
    request = wire.GetShards(dataset_id="data", worker_id="w0")
    job.step(*(worker.event(request) for _ in range(100)))
    events = [other.event(request) for other in others]
    job.step(*events)
    job.step()
    job.step()
    assert [other.calls[event.message.seq].waits for other, event in zip(others, events, strict=True)] == [False] * 3
    assert job.core.postponed


@pytest.mark.parametrize("limit", ["WAITING_PEER_MAX", "WAITING_MAX"])
def test_who_asks_for_too_much_is_told_the_limit(rich, monkeypatch, limit: str) -> None:
    job, worker = rich
    monkeypatch.setattr(answers, limit, 10)
    events = [worker.event(wire.GetShards(dataset_id="data")) for _ in range(ANSWERS_A_STEP + 15)]
    job.step(*events)
    refused = [worker.calls[event.message.seq] for event in events][ANSWERS_A_STEP + 10 :]
    for call in refused:
        call.refused("resource_exhausted", "10", "large answers")


def test_what_waits_is_decided_when_its_turn_comes(trio, monkeypatch) -> None:
    """Who has left meanwhile is told so, and who said hello in another role is told nothing of what it asked before."""
    job, *workers = trio
    monkeypatch.setattr(answers, "COST_MAX", 1)
    job.step()
    events = [worker.event(wire.ResumeFrom()) for worker in workers]
    _, w1, w2 = workers
    job.step(*events, w1.event(wire.Hello(role="client")), w2.event(wire.Deregister()))
    while job.core.postponed:
        job.step()
    first, second, third = (one.calls[event.message.seq] for one, event in zip(workers, events, strict=True))
    first.got(wire.Resume)
    assert second.waits
    third.refused("stale_generation")
