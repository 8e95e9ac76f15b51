"""Micro-benchmarks of the hot functions of the feed: `pytest tests/feed/test_bench_ring.py --benchmark-enable`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from strata_zmq.feed import Peer, Ring
from strata_zmq.feed.messages import Answer, Request, decode_answer, encode_frame, loader_frames

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("kibibytes", [4, 1024])
def test_a_batch_through_the_ring(benchmark: BenchmarkFixture, kibibytes: int):
    """One reserve, copy, commit, receive and release within one process, against the copy alone below."""
    values = np.arange(kibibytes * 128, dtype=np.int64)
    with Ring.create("strata-bench", 4, values.nbytes) as ring, Peer.of("bench", os.getpid()) as peer:
        producer, consumer = ring.producer(peer), ring.consumer(peer)

        def once() -> int:
            slot = producer.reserve()
            slot.put("x", values)
            slot.commit()
            with consumer.receive() as got:
                return int(got.arrays["x"][-1])

        assert benchmark(once) == values[-1]


@pytest.mark.parametrize("kibibytes", [4, 1024])
def test_the_copy_alone(benchmark: BenchmarkFixture, kibibytes: int):
    """The limit of the one above."""
    values = np.arange(kibibytes * 128, dtype=np.int64)
    target = np.empty_like(values)
    benchmark(np.copyto, target, values)
    assert target[-1] == values[-1]


def test_a_request_and_its_answer(benchmark: BenchmarkFixture):
    """Encoding, framing and decoding of what travels beside a batch of 256 samples."""
    indices = np.arange(256)
    frames = loader_frames()

    def once() -> Answer:
        frames.feed(encode_frame(Request(7, 0, indices.tobytes())))
        request = frames.pop()
        assert isinstance(request, Request)
        return decode_answer(msgspec.msgpack.encode(Answer(request.serial, request.era)))

    assert benchmark(once) == Answer(7, 0)
