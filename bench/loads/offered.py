"""Owns the load that a server is offered: a pipeline that keeps it busy, and an open loop at a fixed rate.

Requests are prepared beforehand and replies are only counted, so that the load costs a fraction of what it asks for.
"""

from __future__ import annotations

import os
import select
from collections import deque
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from strata_zmq.errors import DeadlineExceededError

from .wire import framed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .process import Child
    from .wire import Wires

    Requests = Callable[[int, int], bytes]

__all__ = ["Answered", "open_loop", "pipeline", "repeated"]

_SILENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Answered:
    """How many replies came within `wall_s`, what they cost, and the last reply of every connection.

    `cpu_s` is the server's CPU time, `load_cpu_s` this process's, `loop_s` how long the server's loop was not idle.
    """

    replies: int
    wall_s: float
    cpu_s: float
    loop_s: float
    load_cpu_s: float
    last: list[bytes]

    @property
    def extras(self) -> dict[str, float]:
        """Shares of the wall clock: 1 is one core, for `loop_busy` the whole time."""
        return {
            "loop_busy": self.loop_s / self.wall_s,
            "server_cores": self.cpu_s / self.wall_s,
            "load_cores": self.load_cpu_s / self.wall_s,
        }


def repeated(bodies: Sequence[bytes]) -> Requests:
    """Return the requests of a load whose connection number `place` sends `bodies[place]` for ever."""
    frames = [framed(body) for body in bodies]
    return lambda place, count: frames[place] * count


def pipeline(server: Child, wires: Wires, requests: Requests, *, window: int, duration_s: float) -> Answered:
    """Keep `window` requests in flight on each connection for `duration_s`, then let the last ones come home.

    `requests(place, count)` returns the next `count` frames of connection number `place`. The clock starts when the
    first window has been answered, so that the server is in its stride.
    """
    load = _Load(wires, requests)
    in_flight = window * len(wires)
    try:
        for place, wire in enumerate(wires):
            wire.write(requests(place, window))
        warm = 0
        while warm < in_flight:
            warm += load.exchange()
        replies, meter = 0, _Meter(server)
        while meter.elapsed_s() < duration_s:
            replies += load.exchange()
        answered = meter.read(replies, load.last)
        left = in_flight
        while left:
            left -= load.exchange(again=False)
    finally:
        load.close()
    return answered


def open_loop(
    server: Child, wires: Wires, requests: Requests, *, rate: float, count: int
) -> tuple[list[float], float, Answered]:
    """Send `count` requests at `rate` a second, whatever comes back, and return each one's latency in seconds.

    The second value is how long it took to send them: `count / rate` seconds if the rate was really offered. A latency
    from the moment a request was due, not from when it could be sent, so a stall is charged to every request that it
    delayed. Replies on one connection keep their order.
    """
    turns, dues = cycle(range(len(wires))), [deque[float]() for _ in wires]
    latencies: list[float] = []
    load = _Load(wires, requests)
    try:
        meter, started = _Meter(server), perf_counter()
        sent, heard_at, sent_at = 0, started, started
        while len(latencies) < count:
            now = perf_counter()
            while sent < count and started + sent / rate <= now:
                turn = next(turns)
                dues[turn].append(started + sent / rate)
                wires[turn].write(requests(turn, 1))
                sent, sent_at = sent + 1, now
            before = len(latencies)
            for place, replies in load.taken(0):
                now = perf_counter()
                latencies += [now - dues[place].popleft() for _ in range(replies)]
            if len(latencies) > before:
                heard_at = now
            elif perf_counter() - heard_at > _SILENCE_S:
                raise _silent()
            else:
                # Nothing to do for some microseconds: let the server have the core, but stay awake.
                os.sched_yield()
        answered = meter.read(count, load.last)
    finally:
        load.close()
    return latencies, sent_at - started, answered


class _Meter:
    """What server and load have used since it was made."""

    def __init__(self, server: Child) -> None:
        self._server = server
        self._before = self._now()

    def elapsed_s(self) -> float:
        return perf_counter() - self._before[0]

    def read(self, replies: int, last: list[bytes]) -> Answered:
        wall_s, cpu_s, loop_s, load_s = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return Answered(replies, wall_s, cpu_s, loop_s, load_s, list(last))

    def _now(self) -> tuple[float, float, float, float]:
        server = self._server
        return perf_counter(), server.cpu_seconds(), server.loop_seconds(), process_time()


class _Load:
    """Connections, what they send, and the last reply on each."""

    def __init__(self, wires: Wires, requests: Requests) -> None:
        self._wires, self._requests = wires, requests
        self._place_of = {wire.socket.fileno(): place for place, wire in enumerate(wires)}
        self._epoll = select.epoll()
        for descriptor in self._place_of:
            self._epoll.register(descriptor, select.EPOLLIN)
        self.last = [b""] * len(wires)

    def close(self) -> None:
        self._epoll.close()

    def taken(self, timeout_s: float) -> list[tuple[int, int]]:
        """Return (place, replies) of the connections on which replies have come."""
        found = []
        for descriptor, _ in self._epoll.poll(timeout_s):
            place = self._place_of[descriptor]
            count, last = self._wires[place].take()
            if count:
                self.last[place] = last
                found.append((place, count))
        return found

    def exchange(self, *, again: bool = True) -> int:
        """Answer every reply that has come with the next request; return how many replies there were."""
        taken = self.taken(_SILENCE_S)
        if not taken:
            raise _silent()
        if again:
            for place, replies in taken:
                self._wires[place].write(self._requests(place, replies))
        return sum(replies for _, replies in taken)


def _silent() -> DeadlineExceededError:
    return DeadlineExceededError(f"the server under load was silent for {_SILENCE_S:g} s", missing=("server",))
