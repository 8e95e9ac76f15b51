"""Owns the load that a server is offered: a pipeline that keeps it busy, and an open loop at a fixed rate.

Bodies are prepared beforehand and replies are only counted, so that one Python process can keep a server busy.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter
from typing import TYPE_CHECKING

import zmq

from strata_zmq.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .session import Sockets

__all__ = ["Answered", "open_loop", "pipeline"]

_POLL_MS = 1000
_SILENCE_S = 10.0
_BURST_MAX = 256


@dataclass(frozen=True, slots=True)
class Answered:
    """How many replies came within `wall_s`, what the server's CPU time for them was, and one reply per socket."""

    replies: int
    wall_s: float
    cpu_s: float
    last: list[bytes]


def pipeline(
    sockets: Sockets, bodies: Sequence[bytes], *, window: int, duration_s: float, server_cpu: Callable[[], float]
) -> Answered:
    """Keep `window` requests in flight on each socket for `duration_s`, then let the last ones come home.

    The clock starts when the first window has been answered, so that the server is in its stride.
    """
    poller, body_of = zmq.Poller(), dict(zip(sockets, bodies, strict=True))
    for socket, body in body_of.items():
        poller.register(socket, zmq.POLLIN)
        for _ in range(window):
            socket.send(body)
    last: dict[zmq.Socket[bytes], bytes] = {}
    _exchange(poller, body_of, last, lambda replies: replies >= window * len(sockets))
    cpu, started = server_cpu(), perf_counter()
    replies = _exchange(poller, body_of, last, lambda _: perf_counter() - started >= duration_s)
    wall_s, cpu_s = perf_counter() - started, server_cpu() - cpu
    _take_home(sockets, window)
    return Answered(replies, wall_s, cpu_s, [last[socket] for socket in sockets])


def open_loop(
    sockets: Sockets, bodies: Sequence[bytes], *, rate: float, count: int, server_cpu: Callable[[], float]
) -> tuple[list[float], Answered]:
    """Send `count` requests at `rate` a second, whatever comes back, and return each one's latency in seconds.

    A latency runs from the moment a request was due, not from when it could be sent, so a stall is charged to every
    request that it delayed. Replies on one connection keep their order.
    """
    turns, dues = cycle(range(len(sockets))), [deque[float]() for _ in sockets]
    latencies: list[float] = []
    last = [b""] * len(sockets)
    cpu, started = server_cpu(), perf_counter()
    sent, heard_at, sent_at = 0, started, started
    while len(latencies) < count:
        now = perf_counter()
        while sent < count and started + sent / rate <= now:
            turn = next(turns)
            dues[turn].append(started + sent / rate)
            sockets[turn].send(bodies[turn])
            sent, sent_at = sent + 1, now
        before = len(latencies)
        for place, socket in enumerate(sockets):
            while dues[place]:
                try:
                    last[place] = socket.recv(zmq.DONTWAIT)
                except zmq.Again:
                    break
                latencies.append(perf_counter() - dues[place].popleft())
        if len(latencies) > before:
            heard_at = perf_counter()
        elif perf_counter() - heard_at > _SILENCE_S:
            raise _silent(count - len(latencies))
        else:
            # Nothing to do for some microseconds: let the I/O thread have the core, but stay awake.
            os.sched_yield()
    return latencies, Answered(count, sent_at - started, server_cpu() - cpu, [body for body in last if body])


def _exchange(
    poller: zmq.Poller,
    body_of: dict[zmq.Socket[bytes], bytes],
    last: dict[zmq.Socket[bytes], bytes],
    ended: Callable[[int], bool],
) -> int:
    """Answer every reply with the next request until `ended(replies)`; return how many replies came."""
    replies, later, again = 0, int(zmq.DONTWAIT), zmq.Again
    while not ended(replies):
        ready = poller.poll(_POLL_MS)
        if not ready:
            raise _silent(replies)
        for socket, _ in ready:
            receive, send, body = socket.recv, socket.send, body_of[socket]
            reply = b""
            try:
                for _ in range(_BURST_MAX):
                    reply = receive(later)
                    send(body)
                    replies += 1
            except again:
                pass  # every reply that had come has been answered
            last[socket] = reply or last.get(socket, b"")
    return replies


def _take_home(sockets: Sockets, window: int) -> None:
    for socket in sockets:
        for _ in range(window):
            socket.recv()


def _silent(count: int) -> DeadlineExceededError:
    return DeadlineExceededError(f"the server under load fell silent at {count} requests", missing=("server",))
