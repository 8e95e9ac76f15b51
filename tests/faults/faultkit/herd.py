"""Very many workers in one process, each on a socket of its own: they register, stay, and are as patient as real ones.

They train nothing. Each is a conversation as in a worker; here one loop moves the bytes of all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import pytest
import zmq

from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_reply, encode
from strata_zmq.transport.sockets import REPLIES, connect, open_socket, raise_file_limit
from strata_zmq.workers.conversation import Conversation

__all__ = ["Herd"]

_TURN_MS = 10


class Herd:
    """`count` workers named worker-0, worker-1, ... that stay with the coordinator at `url` while `run_until` runs."""

    def __init__(self, url: str, count: int) -> None:
        raise_file_limit(4 * count + 1024)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, count + 64)
        self._poller = zmq.Poller()
        self._workers: dict[zmq.Socket[bytes], Conversation] = {}
        for number in range(count):
            socket = open_socket(self._context, zmq.DEALER, REPLIES)
            connect(socket, url)
            self._poller.register(socket, zmq.POLLIN)
            self._workers[socket] = Conversation(
                wire.Hello(role="worker"),
                random.Random(number),
                introduce=partial(wire.RegisterWorker, worker_id=f"worker-{number}", incarnation="first"),
                heartbeat=partial(wire.Heartbeat, state="TRAINING"),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def terms(self) -> list[int]:
        """The coordinator's life that each worker belongs to; 0 where it is not taken in at the moment."""
        return [one.welcome.term if one.introduced and one.welcome is not None else 0 for one in self._workers.values()]

    def failures(self) -> list[Any]:
        """What workers gave up with."""
        return [one.failure for one in self._workers.values() if one.failure is not None]

    def run_until(self, predicate: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Move everybody's bytes until `predicate()` is true."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() >= deadline:
                pytest.fail(f"not within {timeout_s:g} s: {what}; failures {self.failures()[:3]}")
            self._turn()

    def run_for(self, seconds: float) -> None:
        """Let time pass for everybody."""
        end = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() >= end, seconds + 1.0, "the time passes")

    def _turn(self) -> None:
        now = time.monotonic()
        for socket, worker in self._workers.items():
            if worker.next_due(now) <= now:
                self._send(socket, worker, now)
        for socket, _ in self._poller.poll(_TURN_MS):
            worker = self._workers[socket]
            while socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                worker.take(decode_reply(socket.recv()), time.monotonic())

    def _send(self, socket: zmq.Socket[bytes], worker: Conversation, now: float) -> None:
        messages = worker.outgoing(now)
        for position, message in enumerate(messages):
            try:
                socket.send(encode(message), zmq.DONTWAIT)
            except zmq.Again:
                for one in messages[position:]:
                    worker.unsent(one, now)
                return
