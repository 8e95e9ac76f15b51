"""How long a barrier takes from the last arrival to the last release, timed at the workers' sockets.

The subject is the real coordinator with its journal on disk (a release is durable before it is sent); the limit is a
ROUTER loop that only counts and replies. Both are served by the same sockets in this process, one per worker. All
but one worker arrive and are known to have been taken before the last one arrives and the clock starts.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from strata_zmq.bench.floors import Floor, ToLimit
from strata_zmq.bench.loads.coordinator import coordinator_process
from strata_zmq.bench.loads.process import child_process
from strata_zmq.bench.loads.relays import relays
from strata_zmq.bench.loads.session import asked, checked, connected, joined
from strata_zmq.bench.model import Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.peer_process import peer_process
from strata_zmq.bench.timing import MILLISECONDS
from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.codec import encode
from strata_zmq.protocol.messages import Arrive, GetStatus, Heartbeat, Hello, Released, Status, Welcome
from strata_zmq.transport.sockets import raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import zmq

    from strata_zmq.bench.loads.process import Child
    from strata_zmq.bench.loads.session import Sockets, Worker
    from strata_zmq.bench.model import Measure

__all__ = ["SUITE"]

FLOORS = {100: "barrier.100", 1000: "barrier.1000"}
_HOST_WORKERS = 8
_HOLD_S = 0.004
"""Longer than an agent holds an arrival."""
_ARRIVAL_BYTES = 48
"""About what a real arrival has on the wire."""
_PROBES = 2
"""Questions asked and answered before the last arrival: by the second answer the server has taken all arrivals."""


def _cases(settings: Settings) -> Iterator[Case]:
    for workers in (8, 100, settings.pick(250, 1000)):
        # Hundreds of barriers over all rounds: a p99 of one hundred would be its second largest.
        barriers = settings.pick(20, 40)
        floor_id = FLOORS.get(workers)
        yield Case(
            name="last arrival to last release",
            size=f"{workers:,} workers",
            unit="ms",
            better="lower",
            subject=_strata(settings.scratch, workers, barriers),
            limit=_bare(workers, barriers),
            peers=(
                _peer("torch TCPStore.barrier", "peer_torch_barrier", workers, barriers),
                _peer("Redis (script + push)", "peer_redis_barrier", workers, barriers),
            ),
            floor=Floor(floor_id, (ToLimit(1.5, "p99 <= 1.5x a bare barrier", "p99"),)) if floor_id else None,
            rounds=settings.pick(5, 9),
            notes=(
                "binds: one send and one read for every worker, on either side of the comparison",
                "the coordinator's release also waits for one flush of its journal, and tells the arrivals' order",
            ),
        )
    workers = settings.pick(64, 1000)
    barriers = settings.pick(20, 40)
    hosts = workers // _HOST_WORKERS
    asks = ToLimit(0.5, "p99 <= 0.5x the flat barrier", "p99")
    yield Case(
        name="last arrival to last release, behind agents",
        size=f"{workers:,} workers, {hosts} agents",
        unit="ms",
        better="lower",
        subject=_agents(settings.scratch, workers, hosts, barriers),
        limit=_strata(settings.scratch, workers, barriers),
        floor=Floor("barrier.agents", (asks,)) if workers == 1000 else None,
        rounds=settings.pick(5, 9),
        notes=(
            "timed at the workers' sockets, with the agents' hop; the limit is the same coordinator without agents",
            "binds: the agents' sends, one a worker, which happen side by side on real hosts and share the cores here",
        ),
    )


SUITE = Suite("barrier", "How long from the last arrival to the last release?", _cases)


def _strata(scratch: Path, workers: int, barriers: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with (
            coordinator_process(scratch, workers) as server,
            connected(server.ready["control"], workers) as sockets,
        ):
            members, steps = joined(sockets), count(1)
            yield lambda: _measured(server, lambda: [_strata_barrier(members, next(steps)) for _ in range(barriers)])

    return Contender("strata coordinator", opened)


def _agents(scratch: Path, workers: int, hosts: int, barriers: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with (
            coordinator_process(scratch, workers) as server,
            relays(server.ready["control"], hosts) as endpoints,
            connected(endpoints, workers) as sockets,
            connected(server.ready["control"], 1) as observer,
        ):
            members, steps = joined(sockets), count(1)
            (welcome,) = asked(observer, [Hello(seq=1)], Welcome)
            status = GetStatus(seq=2, session=welcome.session)

            def arrived() -> None:
                # An agent holds arrivals for a moment, and a question to one agent tells nothing of the others.
                known: list[object] = []
                while known != [workers - 1]:
                    sleep(_HOLD_S)
                    known = [barrier["arrived"] for barrier in asked(observer, [status], Status)[0].barriers]

            yield lambda: _measured(
                server, lambda: [_strata_barrier(members, next(steps), arrived) for _ in range(barriers)]
            )

    return Contender("strata coordinator and agents", opened)


def _bare(workers: int, barriers: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with (
            child_process("strata_zmq.bench.loads.bare_barrier", "--expected", str(workers)) as server,
            connected(server.ready["control"], workers) as sockets,
        ):
            bodies = [b"." * _ARRIVAL_BYTES] * workers
            arrived = partial(_probe, sockets[-1], b"?")
            yield lambda: _measured(server, lambda: [_barrier(sockets, bodies, arrived)[0] for _ in range(barriers)])

    return Contender("bare barrier", opened)


def _peer(name: str, module: str, workers: int, barriers: int) -> Contender:
    @contextmanager
    def opened() -> Iterator[Measure]:
        raise_file_limit(4 * workers + 512)  # a peer inherits it
        with peer_process(module, workers=workers) as peer:

            def measure() -> Sample:
                start = perf_counter()
                latencies = [second * MILLISECONDS for second in peer.call("barriers", count=barriers)["latencies"]]
                return Sample(median(latencies), wall_s=perf_counter() - start, latencies=latencies)

            yield measure

    return Contender(name, opened)


def _measured(server: Child, run: Callable[[], list[float]]) -> Sample:
    cpu, start = server.cpu_seconds(), perf_counter()
    latencies = run()
    wall_s, cpu_s = perf_counter() - start, server.cpu_seconds() - cpu
    return Sample(median(latencies), wall_s=wall_s, cpu_s=cpu_s, latencies=latencies)


def _strata_barrier(
    members: list[Worker[zmq.Socket[bytes]]], step: int, arrived: Callable[[], None] | None = None
) -> float:
    """Run one barrier through the coordinator, check what came back, and return its milliseconds.

    `arrived` returns when all arrivals but the last are known; by default the last worker asks.
    """
    bodies = [
        encode(Arrive(seq=step, session=member.session, generation=member.generation, name="bench", step=step))
        for member in members
    ]
    last = members[-1]
    probe = encode(Heartbeat(seq=0, session=last.session, generation=last.generation, state="TRAINING"))
    sockets = [member.socket for member in members]
    milliseconds, replies = _barrier(sockets, bodies, arrived or partial(_probe, last.socket, probe))
    if any(checked(reply, Released).step != step for reply in (replies[0], replies[-1])):
        raise ProtocolError(f"a release of another barrier than step {step} came back")
    return milliseconds


def _probe(last: zmq.Socket[bytes], question: bytes) -> None:
    for _ in range(_PROBES):
        last.send(question)
        last.recv()


def _barrier(sockets: Sockets, bodies: list[bytes], arrived: Callable[[], None]) -> tuple[float, list[bytes]]:
    """Let everybody arrive, the last one last; return its milliseconds and every worker's release."""
    for socket, body in zip(sockets[:-1], bodies, strict=False):
        socket.send(body)
    arrived()
    start = perf_counter()
    sockets[-1].send(bodies[-1])
    replies = [socket.recv() for socket in sockets]
    return (perf_counter() - start) * MILLISECONDS, replies
