"""What a coordinator's heartbeat costs and how long it takes, through the real process, beside a bare echo.

The subject is `python -m strata_zmq.coordinator` with its journal on disk; each connection is a registered worker. The
limit is a ROUTER loop that polls, drains and sends back, in a process of its own. Load comes from this process.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from strata_zmq.bench.floors import Absolute, Extra, Floor, ToLimit, Where
from strata_zmq.bench.loads.coordinator import coordinator_process
from strata_zmq.bench.loads.offered import Answered, open_loop, pipeline
from strata_zmq.bench.loads.process import child_process
from strata_zmq.bench.loads.session import checked, connected, joined
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.protocol.codec import encode
from strata_zmq.protocol.messages import Heartbeat, HeartbeatAck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from strata_zmq.bench.loads.session import Sockets
    from strata_zmq.bench.model import Measure

    Load = Callable[[Sockets, list[bytes], Callable[[], float]], tuple[Sample, list[bytes]]]

__all__ = ["SUITE"]

CONNECTIONS = 16
WINDOW = 64
RATE = 10_000.0
BUSY_MIN = 0.95


def _cases(settings: Settings) -> Iterator[Case]:
    rounds = settings.pick(5, 9)
    duration_s = 0.4 if settings.quick else 1.5
    size = f"{CONNECTIONS} workers x {WINDOW} in flight"
    by_cpu = partial(_saturated, duration_s=duration_s, value=_cpu_us)
    by_rate = partial(_saturated, duration_s=duration_s, value=_rate)
    by_latency = partial(_at_rate, count=settings.pick(4_000, 20_000))
    busy = [
        Where(Extra("server_busy", BUSY_MIN, "higher", f"the server is >= {BUSY_MIN:.0%} busy")),
        Where(Extra("server_busy", BUSY_MIN, "higher", f"the echo is >= {BUSY_MIN:.0%} busy", of="limit")),
    ]
    yield Case(
        name="server CPU time per heartbeat",
        size=size,
        unit="us",
        better="lower",
        rounds=rounds,
        floor=Floor("control.heartbeat", (ToLimit(2.0, "<= 2x the bare echo"), *busy)),
        subject=_strata(settings, by_cpu),
        limit=_bare_echo(by_cpu),
    )
    yield Case(
        name="heartbeats answered",
        size=size,
        unit="heartbeats/s",
        better="higher",
        rounds=rounds,
        floor=Floor("control.rps", (Absolute(50_000.0, ">= 50,000 heartbeats/s"),)),
        subject=_strata(settings, by_rate),
        limit=_bare_echo(by_rate),
    )
    yield Case(
        name="latency of a heartbeat",
        size=f"{CONNECTIONS} workers, {RATE:,.0f}/s offered",
        unit="us",
        better="lower",
        rounds=rounds,
        floor=Floor(
            "control.latency",
            (
                ToLimit(2.0, "p50 <= 2x the bare echo"),
                ToLimit(2.0, "p99 <= 2x the bare echo", "p99"),
                Where(Extra("offered_share", 0.98, "higher", "the rate was really offered")),
            ),
        ),
        subject=_strata(settings, by_latency),
        limit=_bare_echo(by_latency),
    )


SUITE = Suite("coordinator", "What does a heartbeat cost the coordinator, and how long does it take?", _cases)


def _strata(settings: Settings, load: Load) -> Contender:
    return Contender("strata coordinator", lambda: _coordinator(settings.scratch, load))


def _bare_echo(load: Load) -> Contender:
    return Contender("bare pyzmq echo", lambda: _echo(load))


@contextmanager
def _coordinator(scratch: Path, load: Load) -> Iterator[Measure]:
    with (
        coordinator_process(scratch, CONNECTIONS) as server,
        connected(server.ready["control"], CONNECTIONS) as sockets,
    ):
        bodies = [
            encode(Heartbeat(seq=4, session=worker.session, generation=worker.generation, state="TRAINING", step=1))
            for worker in joined(sockets)
        ]

        def measure() -> Sample:
            sample, last = load(sockets, bodies, server.cpu_seconds)
            for body in last:
                checked(body, HeartbeatAck)
            return sample

        yield measure


@contextmanager
def _echo(load: Load) -> Iterator[Measure]:
    body = encode(Heartbeat(seq=4, session=1 << 32, generation=1, state="TRAINING", step=1))
    with (
        child_process("strata_zmq.bench.loads.echo") as server,
        connected(server.ready["control"], CONNECTIONS) as sockets,
    ):
        yield lambda: load(sockets, [body] * CONNECTIONS, server.cpu_seconds)[0]


def _saturated(
    sockets: Sockets,
    bodies: list[bytes],
    server_cpu: Callable[[], float],
    *,
    duration_s: float,
    value: Callable[[Answered], float],
) -> tuple[Sample, list[bytes]]:
    found = pipeline(sockets, bodies, window=WINDOW, duration_s=duration_s, server_cpu=server_cpu)
    extras = {"server_busy": found.cpu_s / found.wall_s}
    return Sample(value(found), wall_s=found.wall_s, cpu_s=found.cpu_s, extras=extras), found.last


def _at_rate(
    sockets: Sockets, bodies: list[bytes], server_cpu: Callable[[], float], *, count: int
) -> tuple[Sample, list[bytes]]:
    seconds, found = open_loop(sockets, bodies, rate=RATE, count=count, server_cpu=server_cpu)
    latencies = [latency * 1e6 for latency in seconds]
    extras = {"offered_share": count / RATE / found.wall_s}
    sample = Sample(median(latencies), wall_s=found.wall_s, cpu_s=found.cpu_s, latencies=latencies, extras=extras)
    return sample, found.last


def _cpu_us(found: Answered) -> float:
    return found.cpu_s / found.replies * 1e6


def _rate(found: Answered) -> float:
    return found.replies / found.wall_s
