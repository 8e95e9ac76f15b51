"""Every request may come twice, as a copy or under another number, at once or late: it has its effect once."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from strata_zmq.protocol import messages as wire

NOTHING = b'{"epoch": 0, "commit_index": 0, "datasets": {}}'


@pytest.fixture
def scene(make_job):
    """A job in which every request has something to do: three members, a writer, a supervisor, an open checkpoint."""
    job = make_job(initial_workers=3)
    job.dataset(total=90, shard_size=10)
    w0, w1, w2 = job.workers("w0", "w1", "w2")
    writer = job.writer()
    name, *_ = (worker.begin(5).got(wire.CheckpointOpened).checkpoint_id for worker in (w0, w1, w2))
    newcomer = job.client("worker")
    newcomer.name = newcomer.incarnation = "w3"
    other = job.client("writer")
    who = {
        "w0": w0,
        "newcomer": newcomer,
        "writer": writer,
        "other": other,
        "client": job.client(),
        "supervisor": job.supervisor(),
    }
    return job, who, name


def requests(name: str) -> dict[str, tuple[str, Any]]:
    summary = wire.CheckpointSummary(name, 5, 0, 1, 0.0)
    return {
        "hello": ("client", wire.Hello()),
        "register_worker": ("newcomer", wire.RegisterWorker(worker_id="w3", incarnation="w3")),
        "await_generation": ("w0", wire.AwaitGeneration()),
        "await_the_next": ("w0", wire.AwaitGeneration(after=1, timeout_s=60.0)),
        "deregister": ("w0", wire.Deregister()),
        "heartbeat": ("w0", wire.Heartbeat(state="TRAINING", progress=3)),
        "arrive": ("w0", wire.Arrive(name="alone", step=1, expected=1)),
        "arrive_and_wait": ("w0", wire.Arrive(name="step", step=1)),
        "commit": ("w0", wire.Arrive(name="commit", step=1, commit=True)),
        "register_dataset": ("client", wire.RegisterDataset(dataset_id="more", total_samples=9, shard_size=3)),
        "get_shards": ("w0", wire.GetShards(dataset_id="data")),
        "advance_epoch": ("w0", wire.AdvanceEpoch(epoch=0)),
        "checkpoint_begin": ("w0", wire.CheckpointBegin(step=6)),
        "checkpoint_staged": ("w0", wire.CheckpointStaged(checkpoint_id=name, writer_id="writer")),
        "checkpoint_superseded": ("w0", wire.CheckpointFailed(checkpoint_id=name, code="superseded", message="busy")),
        "checkpoint_arrive": (
            "w0",
            wire.CheckpointArrive(checkpoint_id=name, index_key="k", digest="d", size_bytes=1),
        ),
        "checkpoint_committed": ("writer", wire.CheckpointCommitted(checkpoint=summary, retained=[name])),
        "checkpoint_failed": ("w0", wire.CheckpointFailed(checkpoint_id=name, code="storage", message="full")),
        "restore": ("w0", wire.Restore(checkpoint_id="none", ledger=NOTHING)),
        "latest_checkpoint": ("client", wire.LatestCheckpoint()),
        "resume_from": ("w0", wire.ResumeFrom()),
        "register_writer": (
            "other",
            wire.RegisterWriter(writer=wire.WriterInfo("other", "life", "ipc:///d", "ipc:///c"), checkpoints=[summary]),
        ),
        "report_lost": ("supervisor", wire.ReportLost(worker_id="w0", pid=1000)),
        "send_command": ("supervisor", wire.SendCommand(command="checkpoint")),
        "get_status": ("client", wire.GetStatus()),
        "get_view": ("client", wire.GetView()),
        "get_sight": ("client", wire.GetSight()),
        "report_stacks": ("w0", wire.ReportStacks(text="File x")),
    }


NAMES = list(requests("c"))


def test_every_kind_of_request_is_sent_twice_here() -> None:
    assert {type(message) for _, message in requests("c").values()} == set(get_args(wire.Request)) - {wire.Fold}


@pytest.mark.parametrize("copy", ["a copy", "another number"])
@pytest.mark.parametrize("when", ["at once", "later", "after a restart"])
@pytest.mark.parametrize("name", NAMES)
def test_a_request_that_comes_twice_has_one_effect(scene, name: str, when: str, copy: str) -> None:
    job, who, checkpoint = scene
    sender, message = requests(checkpoint)[name]
    client = who[sender]
    first = client.event(message)
    second = first if copy == "a copy" else client.event(message)
    job.step(first)
    if when == "later":
        job.wait(1.0)
    elif when == "after a restart":
        job.restart()
    after, announced = job.history.to_snapshot(), len(job.announced)
    effects = job.step(second)
    assert effects.records == []
    assert job.history.to_snapshot() == after
    assert len(job.announced) == announced


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_in_the_same_batch_has_one_effect(scene, name: str) -> None:
    job, who, checkpoint = scene
    sender, message = requests(checkpoint)[name]
    event = who[sender].event(message)
    records = len(job.step(event, event).records)
    again = job.step(event)
    assert again.records == []
    assert records <= 2
