"""How fast batches get from one process to another, every cache line of them read on arrival.

The producer copies each batch from a source of its own into the transport; sources and ring are larger than the
caches together could hold. The limit is one memcpy over the same footprint in this process alone.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter, process_time, sleep, thread_time
from typing import TYPE_CHECKING

import numpy as np
import zmq

from strata_zmq.bench.environment import last_level_cache_bytes
from strata_zmq.bench.floors import Floor, ToLimit, ToPeer
from strata_zmq.bench.loads.batches import fill_queue, mark, sources
from strata_zmq.bench.loads.process import child_process, cpu_seconds
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.errors import DeadlineExceededError, ProtocolError
from strata_zmq.feed.peer import Peer
from strata_zmq.feed.ring import Ring
from strata_zmq.transport.sockets import STREAM, bind, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from strata_zmq.bench.loads.batches import Batch
    from strata_zmq.bench.loads.process import Child
    from strata_zmq.bench.model import Measure
    from strata_zmq.feed.ring import RingConsumer

__all__ = ["SUITE"]

BATCH = 1 << 20
CACHES = 4
"""The footprint is this many times the last-level cache, so that no transport lives off it."""
FOOTPRINT_DEFAULT, FOOTPRINT_MAX = 128 << 20, 512 << 20
QUEUE_BATCHES = 8
_CACHE_LINE_WORDS = 8
_IDLE_S = 0.2
_TIMEOUT_S = 30.0


def _cases(settings: Settings) -> Iterator[Case]:
    cache = last_level_cache_bytes()
    footprint = min(CACHES * cache, FOOTPRINT_MAX) if cache else FOOTPRINT_DEFAULT
    slots = footprint // BATCH
    batches = settings.pick(256, 2048)
    floor = Floor(
        "feed.ring",
        (
            ToPeer("ZeroMQ ipc, copies", 5.0, ">= 5x ZeroMQ ipc with copies"),
            ToPeer("multiprocessing.Queue", 10.0, ">= 10x multiprocessing.Queue"),
            ToLimit(0.6, ">= 60 % of memcpy"),
        ),
    )
    yield Case(
        name="1 MiB batches between two processes, every cache line read",
        size=f"{slots:,} slots, {batches:,} batches a round",
        unit="GB/s",
        better="higher",
        subject=Contender("strata ring", partial(_ring, slots, batches)),
        limit=Contender("memcpy, one thread", partial(_memcpy, slots, batches)),
        peers=(
            Contender("ZeroMQ ipc, copies", partial(_zmq, slots, batches)),
            Contender("multiprocessing.Queue", partial(_queue, slots, batches)),
        ),
        # Without a known cache, or with one too large for the footprint, the row would show less than the floor asks.
        floor=floor if cache and footprint >= CACHES * cache else None,
        rounds=settings.pick(6, 9),
    )


SUITE = Suite("feed", "How fast do batches get from one process to another?", _cases)


@contextmanager
def _ring(slots: int, batches: int) -> Iterator[Measure]:
    ours, theirs = socket.socketpair()
    arguments = ("ring", "--number", str(slots), "--batch-bytes", str(BATCH), "--socket-fd", str(theirs.fileno()))
    with (
        ours,
        theirs,
        Ring.create("strata-bench", slots, BATCH) as ring,
        child_process("strata_zmq.bench.loads.batches", *arguments, pass_fds=(theirs.fileno(),)) as child,
        Peer.of("producer", child.pid) as peer,
    ):
        consumer = ring.consumer(peer)
        idle = {"idle_consumer_cpu": _idle_consumer(consumer)}
        ring.send(ours)

        def take(sequence: int) -> None:
            with consumer.receive(_TIMEOUT_S) as slot:
                _read(slot.arrays["batch"], sequence, slots)

        stream = _Stream(take, child, slots)
        stream.settle()
        yield lambda: stream.round(batches, idle | {"idle_producer_cpu": stream.idle_producer()})


@contextmanager
def _zmq(slots: int, batches: int) -> Iterator[Measure]:
    with tempfile.TemporaryDirectory(prefix="strata-bench-") as folder:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            pull = open_socket(context, zmq.PULL, STREAM)
            pull.setsockopt(zmq.RCVTIMEO, int(_TIMEOUT_S * 1000))
            endpoint = bind(pull, f"ipc://{Path(folder) / 'feed'}")
            arguments = ("zmq", "--number", str(slots), "--batch-bytes", str(BATCH), "--endpoint", endpoint)
            with child_process("strata_zmq.bench.loads.batches", *arguments) as child:

                def take(sequence: int) -> None:
                    _read(np.frombuffer(pull.recv(), np.uint8), sequence, slots)

                stream = _Stream(take, child, slots)
                stream.settle()
                yield lambda: stream.round(batches)
        finally:
            context.destroy(linger=0)


@contextmanager
def _queue(slots: int, batches: int) -> Iterator[Measure]:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.queues.Queue[Batch] = context.Queue(QUEUE_BATCHES)
    process = context.Process(target=fill_queue, args=(queue, os.getpid(), slots, BATCH), daemon=True)
    process.start()
    try:
        assert process.pid is not None  # noqa: S101 - it has been started
        child = _Pid(process.pid)
        stream = _Stream(lambda sequence: _read(queue.get(timeout=_TIMEOUT_S), sequence, slots), child, QUEUE_BATCHES)
        stream.settle()
        yield lambda: stream.round(batches)
    finally:
        process.terminate()
        process.join()
        process.close()
        queue.close()
        queue.join_thread()


@contextmanager
def _memcpy(slots: int, batches: int) -> Iterator[Measure]:
    made = sources(slots, BATCH)
    target = np.zeros((slots, BATCH), dtype=np.uint8)

    def measure() -> Sample:
        cpu, start = process_time(), perf_counter()
        for sequence in range(batches):
            np.copyto(target[sequence % slots], made[sequence % slots])
        wall_s = perf_counter() - start
        return Sample(_rate(batches, wall_s), wall_s=wall_s, cpu_s=process_time() - cpu)

    yield measure


class _Pid:
    """A process that was not started by `child_process`, as far as a stream asks."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)


class _Stream:
    """Batches in order from a producer that never stops; `buffered` of them may be waiting when a round begins."""

    def __init__(self, take: Callable[[int], None], producer: Child | _Pid, buffered: int) -> None:
        self._take, self._producer, self._buffered = take, producer, buffered
        self._sequence = count()

    def settle(self) -> None:
        """Take the first batches, after which every page on both sides has been touched."""
        self._drop(2 * self._buffered)

    def round(self, batches: int, extras: Mapping[str, float] | None = None) -> Sample:
        """Time `batches` batches; what was made while nobody looked is taken first, untimed."""
        self._drop(self._buffered)
        cpu, start = process_time() + self._producer.cpu_seconds(), perf_counter()
        self._drop(batches)
        wall_s = perf_counter() - start
        cpu_s = process_time() + self._producer.cpu_seconds() - cpu
        return Sample(_rate(batches, wall_s), wall_s=wall_s, cpu_s=cpu_s, extras=extras or {})

    def idle_producer(self) -> float:
        """Return the share of a core that the producer burns while everything is full."""
        sleep(_IDLE_S)
        cpu = self._producer.cpu_seconds()
        sleep(_IDLE_S)
        return (self._producer.cpu_seconds() - cpu) / _IDLE_S

    def _drop(self, batches: int) -> None:
        for _ in range(batches):
            self._take(next(self._sequence))


def _idle_consumer(consumer: RingConsumer) -> float:
    """Return the share of a core that the consumer burns while nothing comes."""
    cpu = thread_time()
    try:
        consumer.receive(_IDLE_S)
    except DeadlineExceededError:
        return (thread_time() - cpu) / _IDLE_S
    raise ProtocolError("a batch came before the producer had the ring")


def _read(batch: NDArray[np.uint8], sequence: int, number: int) -> None:
    """Load every cache line of `batch` and check that it is the one whose turn it is."""
    total = int(batch.view(np.uint64)[::_CACHE_LINE_WORDS].sum(dtype=np.uint64))
    word = mark(sequence, number) * 0x0101010101010101
    if total != word * (BATCH // (8 * _CACHE_LINE_WORDS)) % 2**64:
        raise ProtocolError(f"batch {sequence} is not the one that was sent")


def _rate(batches: int, wall_s: float) -> float:
    return batches * BATCH / wall_s / 1e9
