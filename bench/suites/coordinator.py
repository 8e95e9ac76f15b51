"""What requests cost the coordinator and how long they take, through the real process, beside bare loops and peers.

The subject is `python -m strata_zmq.coordinator` with its journal on disk; each connection is a registered worker. The
limit is a ROUTER loop that polls, drains and sends back, in a process of its own. Load comes from this process, as
prepared bytes on plain sockets.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from strata_zmq.bench.floors import Absolute, Extra, Floor, ToLimit, ToPeer, Where
from strata_zmq.bench.loads.coordinator import coordinator_process
from strata_zmq.bench.loads.journaled import Arrivals
from strata_zmq.bench.loads.offered import Answered, open_loop, pipeline, repeated
from strata_zmq.bench.loads.process import child_process
from strata_zmq.bench.loads.session import asked, checked, joined
from strata_zmq.bench.loads.wire import wired
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.bench.statistics import percentile
from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.codec import encode
from strata_zmq.protocol.messages import GetStatus, Heartbeat, HeartbeatAck, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strata_zmq.bench.loads.offered import Requests
    from strata_zmq.bench.loads.process import Child
    from strata_zmq.bench.loads.wire import Wires
    from strata_zmq.bench.model import Measure
    from strata_zmq.bench.peer_process import PeerProcess

    Load = Callable[[Child, Wires, Requests], tuple[Sample, list[bytes]]]

__all__ = ["SUITE"]

CONNECTIONS, WINDOW = 16, 256
GRPC_WINDOW = 32
"""gRPC's Python server refuses calls when a thousand wait for it."""
CROWD = 100
ETCD_CONNECTIONS = 10
"""What serves etcd best: it is twice as fast as with one put in flight on each of a hundred."""
RECORD_BYTES = 48
"""About what a release takes in the journal."""
RATE = 10_000.0
BUSY_MIN = 0.95
GRPC, ETCD = "gRPC server (Python, asyncio)", "etcd put"

_BUSY = (
    Where(Extra("loop_busy", BUSY_MIN, "higher", f"the server is >= {BUSY_MIN:.0%} busy")),
    Where(Extra("loop_busy", BUSY_MIN, "higher", f"the echo is >= {BUSY_MIN:.0%} busy", of="limit")),
)
_OFFERED = (
    Where(Extra("offered_share", 0.98, "higher", "the rate was really offered")),
    Where(Extra("offered_share", 0.98, "higher", "the echo was offered it, too", of="limit")),
)


def _cases(settings: Settings) -> Iterator[Case]:
    yield from _heartbeats(settings)
    yield from _latencies(settings)
    yield from _plain_requests(settings)
    yield _journaled(settings)


SUITE = Suite("coordinator", "What does a request cost the coordinator, and how long does it take?", _cases)


def _heartbeats(settings: Settings) -> Iterator[Case]:
    duration_s, rounds = _duration_s(settings), settings.pick(5, 9)
    size = f"{CONNECTIONS} workers x {WINDOW} in flight"
    by_cpu = partial(_saturated, window=WINDOW, duration_s=duration_s, value=_cpu_us)
    by_rate = partial(_saturated, window=WINDOW, duration_s=duration_s, value=_rate)
    yield Case(
        name="server CPU time per heartbeat",
        size=size,
        unit="us",
        better="lower",
        rounds=rounds,
        floor=Floor("control.heartbeat", (ToLimit(2.0, "<= 2x the bare echo"), *_BUSY)),
        subject=_strata(settings, CONNECTIONS, by_cpu),
        limit=_bare_echo(CONNECTIONS, by_cpu),
        notes=("binds: the server's loop; busy is its thread's time on a core or in wait for one, over wall time",),
    )
    yield Case(
        name="heartbeats answered",
        size=size,
        unit="heartbeats/s",
        better="higher",
        rounds=rounds,
        floor=Floor("control.rps", (Absolute(50_000.0, ">= 50,000 heartbeats/s"),)),
        subject=_strata(settings, CONNECTIONS, by_rate),
        limit=_bare_echo(CONNECTIONS, by_rate),
        notes=("binds: the server's loop, one thread; its I/O thread and the load share the other core",),
    )


def _latencies(settings: Settings) -> Iterator[Case]:
    for name, share in (("median", 0.5), ("99th percentile", 0.99)):
        load = partial(_at_rate, count=settings.pick(2_500, 15_000), share=share)
        yield Case(
            name=f"latency of a heartbeat, {name}",
            size=f"{CONNECTIONS} workers, {RATE:,.0f}/s offered",
            unit="us",
            better="lower",
            rounds=settings.pick(5, 9),
            floor=Floor("control.latency", (ToLimit(2.0, f"{name} <= 2x the bare echo"), *_OFFERED)),
            subject=_strata(settings, CONNECTIONS, load),
            limit=_bare_echo(CONNECTIONS, load),
            notes=("binds: three threads that wake one another, on both sides of the comparison",),
        )


def _plain_requests(settings: Settings) -> Iterator[Case]:
    request = encode(_heartbeat(session=1 << 32, generation=1))
    reply = encode(HeartbeatAck(job="default", term=1, generation=1, session=1 << 32, seq=4, server_time=1.5))
    for workers, window in ((CONNECTIONS, GRPC_WINDOW), (CROWD, 1)):
        load = partial(_saturated, window=window, duration_s=_duration_s(settings), value=_rate)
        pipelined = window > 1
        yield Case(
            name="plain requests answered",
            size=f"{workers} workers x {window} in flight",
            unit="requests/s",
            better="higher",
            rounds=settings.pick(5, 9),
            floor=Floor("control.grpc", (ToPeer(GRPC, 10.0, ">= 10x gRPC (Python, asyncio)"),)) if pipelined else None,
            subject=_strata(settings, workers, load),
            limit=_bare_echo(workers, load),
            peers=(_grpc(workers, window, len(request), len(reply), _duration_s(settings)),),
            notes=(
                f"a heartbeat of {len(request)} bytes; gRPC answers as many bytes from a handler that does nothing",
                "both are driven by prepared frames on plain sockets"
                if pipelined
                else "binds: system calls of both sides, one write and one read for every request and reply",
            ),
        )


def _journaled(settings: Settings) -> Case:
    duration_s = _duration_s(settings)
    durable = partial(_saturated, window=1, duration_s=duration_s, value=_rate)
    return Case(
        name="journaled requests answered",
        size=f"{CROWD} workers x 1 in flight",
        unit="requests/s",
        better="higher",
        rounds=settings.pick(5, 9),
        floor=Floor("control.journaled", (Absolute(10_000.0, ">= 10,000 journaled requests/s"),)),
        subject=Contender("strata coordinator", lambda: _releases(settings, durable)),
        limit=Contender("bare echo, one transaction a batch", lambda: _durable_echo(settings, durable)),
        peers=(_etcd(settings, duration_s),),
        notes=(
            "each request is released from a barrier of its own: one record, on disk before its reply",
            "binds: the server's loop, which encodes a record, waits for the disk once a batch, and answers",
            f"etcd: one member, fsync on, {CROWD} puts of {RECORD_BYTES} bytes in flight on {ETCD_CONNECTIONS} sockets",
        ),
    )


def _strata(settings: Settings, workers: int, load: Load) -> Contender:
    return Contender("strata coordinator", lambda: _coordinator(settings.scratch, workers, load))


def _bare_echo(workers: int, load: Load) -> Contender:
    return Contender("bare pyzmq echo", lambda: _echo(workers, load))


@contextmanager
def _coordinator(scratch: Path, workers: int, load: Load) -> Iterator[Measure]:
    with coordinator_process(scratch, workers) as server, wired(server.ready["control"], workers) as wires:
        requests = repeated([encode(_heartbeat(worker.session, worker.generation)) for worker in joined(wires)])

        def measure() -> Sample:
            sample, last = load(server, wires, requests)
            for body in last:
                checked(body, HeartbeatAck)
            return sample

        yield measure


@contextmanager
def _echo(workers: int, load: Load, *arguments: str) -> Iterator[Measure]:
    with (
        child_process("strata_zmq.bench.loads.echo", *arguments) as server,
        wired(server.ready["control"], workers) as wires,
    ):
        requests = repeated([encode(_heartbeat(session=1 << 32, generation=1))] * workers)
        yield lambda: load(server, wires, requests)[0]


@contextmanager
def _durable_echo(settings: Settings, load: Load) -> Iterator[Measure]:
    with (
        tempfile.TemporaryDirectory(prefix="echo-", dir=settings.scratch) as folder,
        _echo(CROWD, load, f"--journal={Path(folder) / 'echo.sqlite'}") as measure,
    ):
        yield measure


@contextmanager
def _releases(settings: Settings, load: Load) -> Iterator[Measure]:
    with coordinator_process(settings.scratch, CROWD) as server, wired(server.ready["control"], CROWD) as wires:
        workers = joined(wires)
        arrivals = Arrivals(workers)

        def measure() -> Sample:
            sample, last = load(server, wires, arrivals)
            arrivals.check(last)
            released = _released(wires, workers[0].session)
            if released != sum(arrivals.steps):
                raise ProtocolError(f"{sum(arrivals.steps)} requests were answered and {released} barriers released")
            return sample

        yield measure


def _grpc(workers: int, window: int, request_bytes: int, reply_bytes: int, duration_s: float) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with peer_process(
            "peer_grpc", connections=workers, window=window, request_bytes=request_bytes, reply_bytes=reply_bytes
        ) as peer:
            yield lambda: _peer_sample(peer, "requests", duration_s)

    return Contender(GRPC, opened)


def _etcd(settings: Settings, duration_s: float) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with (
            tempfile.TemporaryDirectory(prefix="etcd-", dir=settings.scratch) as folder,
            peer_process(
                "peer_etcd",
                folder=folder,
                connections=ETCD_CONNECTIONS,
                window=CROWD // ETCD_CONNECTIONS,
                value_bytes=RECORD_BYTES,
            ) as peer,
        ):
            yield lambda: _peer_sample(peer, "puts", duration_s)

    return Contender(ETCD, opened)


def _peer_sample(peer: PeerProcess, method: str, duration_s: float) -> Sample:
    """Return what the peer's server answered a second; its load's share of a core is told beside the server's."""
    found = peer.call(method, duration_s=duration_s)
    wall_s, cpu_s = found["wall_s"], found["cpu_s"]
    extras = {"server_cores": cpu_s / wall_s, "load_cores": found["load_cpu_s"] / wall_s}
    return Sample(found["replies"] / wall_s, wall_s=wall_s, cpu_s=cpu_s, extras=extras)


def _saturated(
    server: Child,
    wires: Wires,
    requests: Requests,
    *,
    window: int,
    duration_s: float,
    value: Callable[[Answered], float],
) -> tuple[Sample, list[bytes]]:
    found = pipeline(server, wires, requests, window=window, duration_s=duration_s)
    return Sample(value(found), wall_s=found.wall_s, cpu_s=found.cpu_s, extras=found.extras), found.last


def _at_rate(
    server: Child, wires: Wires, requests: Requests, *, count: int, share: float
) -> tuple[Sample, list[bytes]]:
    """Return the round's latency at `share` of the requests, beside the median and the 99th percentile."""
    seconds, sending_s, found = open_loop(server, wires, requests, rate=RATE, count=count)
    quantiles = {name: percentile(seconds, level) * 1e6 for name, level in (("p50_us", 0.5), ("p99_us", 0.99))}
    extras = {**found.extras, **quantiles, "offered_share": count / RATE / sending_s}
    value = percentile(seconds, share) * 1e6
    return Sample(value, wall_s=found.wall_s, cpu_s=found.cpu_s, extras=extras), found.last


def _heartbeat(session: int, generation: int) -> Heartbeat:
    return Heartbeat(seq=4, session=session, generation=generation, state="TRAINING", step=1)


def _released(wires: Wires, session: int) -> int:
    """Return how many barriers the coordinator says that it has released."""
    (status,) = asked(wires[:1], [GetStatus(seq=1, session=session)], Status)
    return status.counters["barriers_released"]


def _duration_s(settings: Settings) -> float:
    return 0.25 if settings.quick else 1.5


def _cpu_us(found: Answered) -> float:
    return found.cpu_s / found.replies * 1e6


def _rate(found: Answered) -> float:
    return found.replies / found.wall_s
