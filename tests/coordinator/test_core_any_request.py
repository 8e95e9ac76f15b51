"""Whatever well-formed requests anybody sends, in whatever order, each is answered or waits; the core never raises."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq.protocol import messages as wire

NUMBERS = st.sampled_from([0, 1, 2, 3, 10, 2**31, 2**32, 2**62])
SECONDS = st.sampled_from([0.0, 0.25, 1.0, 86_400.0])
NAMES = st.sampled_from(["w0", "w1", "w2", "stranger", "w" * 128, "x" * 256, "two words", "..", "\0"])
DATASETS = st.sampled_from(["data", "more", "stranger", "d" * 256])
CHECKPOINTS = st.sampled_from(
    ["step-000000000001-g1-t1", "step-000000000001-g2-t1", "step-000000000002-g2-t1", "c", "-t", "step--g-t9"]
)
TEXTS = st.sampled_from(["", "text", "ü" * 100])
METADATA = st.sampled_from([{}, {"key": "value"}, {"k": "v" * 2000}])
SUMMARIES = st.builds(
    wire.CheckpointSummary, CHECKPOINTS, NUMBERS, NUMBERS, NUMBERS, st.floats(allow_nan=False), world_size=NUMBERS
)
WRITERS = st.builds(wire.WriterInfo, NAMES, NAMES, TEXTS, TEXTS, boot_id=TEXTS, fd_path=TEXTS)
RANGES = st.builds(wire.SeenRange, DATASETS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.binary(min_size=8, max_size=8))
GENERATIONS = st.sampled_from([0, 1, 2, 3, 2**62])

REQUESTS = st.one_of(
    st.builds(
        wire.Hello,
        proto_min=st.integers(0, 2),
        proto_max=st.integers(0, 2),
        role=st.sampled_from(["worker", "writer", "client", "supervisor"]),
        token=TEXTS,
    ),
    st.builds(
        wire.RegisterWorker,
        worker_id=NAMES,
        incarnation=st.sampled_from(["life-1", "life-2"]),
        pid=NUMBERS,
        metadata=METADATA,
        memory_bytes=NUMBERS,
    ),
    st.builds(wire.AwaitGeneration, after=GENERATIONS, timeout_s=SECONDS),
    st.builds(wire.Deregister),
    st.builds(
        wire.Heartbeat,
        state=st.sampled_from(["UNKNOWN", "FAILED", "TRAINING", "IDLE"]),
        step=NUMBERS,
        resources=st.sampled_from([None, wire.Resources(cpu_percent=float("nan"))]),
        progress=NUMBERS,
        commands_seen=NUMBERS,
    ),
    st.builds(
        wire.Arrive,
        generation=GENERATIONS,
        name=NAMES,
        step=NUMBERS,
        expected=st.integers(0, 4),
        timeout_s=SECONDS,
        commit=st.booleans(),
        ranges=st.lists(RANGES, max_size=2),
    ),
    st.builds(
        wire.RegisterDataset,
        dataset_id=DATASETS,
        total_samples=st.sampled_from([-1, 0, 1, 100, 2**62, 2**64 - 1]),
        shard_size=st.sampled_from([-1, 0, 1, 10, 2**62, 2**64 - 1]),
        seed=st.sampled_from([-1, 0, 2**63 - 1]),
        path=st.sampled_from(["", "/data", "..", "\0"]),
        metadata=METADATA,
    ),
    st.builds(
        wire.GetShards,
        dataset_id=DATASETS,
        worker_id=st.sampled_from(["", "w0", "stranger"]),
        epoch=st.sampled_from([-1, 0, 1, 2**62]),
    ),
    st.builds(wire.AdvanceEpoch, epoch=NUMBERS, timeout_s=SECONDS),
    st.builds(
        wire.CheckpointBegin,
        generation=GENERATIONS,
        step=NUMBERS,
        epoch=NUMBERS,
        metadata=METADATA,
        metrics=st.sampled_from([{}, {"loss": 0.5}, {"loss": math.nan}, {"": 1.0}]),
    ),
    st.builds(wire.CheckpointStaged, checkpoint_id=CHECKPOINTS, writer_id=NAMES),
    st.builds(
        wire.CheckpointArrive,
        checkpoint_id=CHECKPOINTS,
        index_key=TEXTS,
        digest=TEXTS,
        size_bytes=NUMBERS,
        refs=st.lists(CHECKPOINTS, max_size=2),
        worker_id=st.sampled_from(["", "w0", "w1", "stranger"]),
        rank=st.integers(-1, 3),
    ),
    st.builds(wire.Restore, checkpoint_id=CHECKPOINTS, ledger=st.sampled_from([b"", b"{}", b"\xff"])),
    st.builds(wire.LatestCheckpoint, limit=st.integers(1, 3)),
    st.builds(wire.RegisterWriter, writer=WRITERS, head_term=NUMBERS, checkpoints=st.lists(SUMMARIES, max_size=2)),
    st.builds(wire.CheckpointCommitted, checkpoint=SUMMARIES, retained=st.lists(CHECKPOINTS, max_size=2)),
    st.builds(
        wire.CheckpointFailed,
        checkpoint_id=CHECKPOINTS,
        code=st.sampled_from(["storage", "superseded", "x"]),
        message=TEXTS,
    ),
    st.builds(wire.ReportLost, worker_id=NAMES, pid=NUMBERS),
    st.builds(wire.ResumeFrom),
    st.builds(
        wire.SendCommand,
        command=st.sampled_from(["checkpoint", "drain", "stop", "dump_stacks"]),
        workers=st.lists(NAMES, max_size=2),
    ),
    st.builds(wire.GetStatus),
    st.builds(wire.GetView),
    st.builds(wire.GetSight, renew=st.booleans()),
)
STEPS = st.lists(st.tuples(st.integers(0, 4), REQUESTS, st.sampled_from([0.0, 0.0, 0.25, 10.0])), max_size=40)


@pytest.fixture(scope="module")
def begin(make_job):
    """`begin()` gives a job in full swing and the connections that speak in it."""

    def started() -> tuple[Any, list[Any]]:
        job = make_job(initial_workers=2, commit_retry_s=0.25)
        job.dataset(total=100, shard_size=10)
        workers = job.workers("w0", "w1")
        return job, [*workers, job.writer("w2"), job.client(), job.supervisor()]

    return started


@settings(max_examples=150)
@given(steps=STEPS)
def test_no_request_is_ever_more_than_an_answer_or_a_wait(begin, steps) -> None:
    job, clients = begin()
    for who, request, pause in steps:
        client = clients[who]
        if type(request) is wire.Hello:
            answer = client.hello(
                proto_min=request.proto_min, proto_max=request.proto_max, role=request.role, token=request.token
            )
            assert len(answer.replies) == 1
        else:
            call = client.ask(request)
            assert len(call.replies) <= 1
            assert call.replies or type(request) in {
                wire.AwaitGeneration,
                wire.Arrive,
                wire.AdvanceEpoch,
                wire.CheckpointArrive,
            }
        job.wait(pause)
    assert job.status().term == job.history.term
