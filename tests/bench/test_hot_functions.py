"""Micro-benchmarks of the functions that run for every message, batch or change of membership.

An ordinary run calls each once and checks its result; `pytest tests/bench/test_hot_functions.py --benchmark-enable`
measures them.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from strata_zmq.coordinator.core.core import Core
from strata_zmq.coordinator.core.world import CoreConfig, Received
from strata_zmq.domain.checksum import checksum, dataset_checksum
from strata_zmq.domain.sharding import assign, reassign
from strata_zmq.protocol.codec import decode_reply, decode_request, encode
from strata_zmq.protocol.messages import Heartbeat, HeartbeatAck, Hello, RegisterWorker, Welcome

BATCH = 256
HEARTBEAT = Heartbeat(job="job", term=1, generation=1, session=1, seq=1, state="TRAINING", step=100, progress=100)
WORKERS = [f"worker-{place:05d}" for place in range(1000)]


def test_encode_a_heartbeat(benchmark: BenchmarkFixture) -> None:
    assert decode_request(benchmark(encode, HEARTBEAT)) == HEARTBEAT


def test_decode_a_heartbeat(benchmark: BenchmarkFixture) -> None:
    assert benchmark(decode_request, encode(HEARTBEAT)) == HEARTBEAT


def test_decode_a_reply(benchmark: BenchmarkFixture) -> None:
    reply = HeartbeatAck(job="job", term=1, generation=1, session=1, seq=1, server_time=1.5)
    assert benchmark(decode_reply, encode(reply)) == reply


@pytest.fixture
def core() -> tuple[Core, list[Received]]:
    """A core with one registered worker, and a drained batch of its heartbeats."""
    made = Core(CoreConfig())
    made.start(0.0)
    (_, welcome), *_ = made.step([Received(b"c", Hello(seq=1, role="worker"))], 0.0).sends
    assert isinstance(welcome, Welcome)
    session = welcome.session
    made.step([Received(b"c", RegisterWorker(seq=2, session=session, worker_id="w", incarnation="i"))], 0.0)
    beats = [
        Received(b"c", Heartbeat(seq=seq, session=session, state="TRAINING", step=1)) for seq in range(3, 3 + BATCH)
    ]
    return made, beats


def test_step_over_a_drained_batch_of_heartbeats(
    benchmark: BenchmarkFixture, core: tuple[Core, list[Received]]
) -> None:
    made, beats = core
    effects = benchmark(made.step, beats, 1.0)
    assert [reply.seq for _, reply in effects.sends] == [beat.message.seq for beat in beats]
    assert not effects.records


def test_assign_ten_thousand_shards(benchmark: BenchmarkFixture) -> None:
    counts = benchmark(assign, 10_000, WORKERS, seed=42).counts()
    assert counts.sum() == 10_000
    assert counts.max() - counts.min() <= 1


def test_reassign_after_a_leave(benchmark: BenchmarkFixture) -> None:
    before = assign(10_000, WORKERS, seed=42)
    _, movement = benchmark(reassign, before, WORKERS[:-1], seed=42)
    assert movement.moved == movement.lower_bound == 10


def test_checksum_of_a_batch_of_samples(benchmark: BenchmarkFixture) -> None:
    assert benchmark(checksum, np.arange(BATCH)) == dataset_checksum(BATCH)
