"""A hand-made dispatcher for one worker: a bare socket on which anything can be said."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import msgspec
import pytest
import zmq

from strata_zmq.protocol import functions as wire

__all__ = ["BareDispatcher"]

T = TypeVar("T")

_PATIENCE_S = 40.0


class BareDispatcher:
    """It answers nothing by itself."""

    def __init__(self, endpoint: str, *, lease_s: float = 2.0) -> None:
        self.endpoint = endpoint
        self.lease_s = lease_s
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(endpoint)
        self.peer = b""
        self.session = self.number = 0

    def hear(self, kind: type[T], timeout_s: float = _PATIENCE_S) -> T:
        """Return the worker's next message of this kind; others are passed over."""
        while self.socket.poll(timeout_s * 1000):
            self.peer, first, *_ = self.socket.recv_multipart()
            message = wire.decode_at_dispatcher(first)
            if isinstance(message, kind):
                return message
        pytest.fail(f"no {kind.__name__} within {timeout_s:g} s")

    def hear_turn(self, content: str) -> wire.Turn:
        """Return the next turn that has outcomes, started or returned tasks."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:  # a worker that has nothing to say says that it lives, again and again
            turn = self.hear(wire.Turn)
            if getattr(turn, content):
                return turn
        pytest.fail(f"no turn with {content} within {_PATIENCE_S:g} s")

    def say(self, message: msgspec.Struct, *frames: bytes) -> None:
        """Send to the worker that was heard last."""
        self.socket.send_multipart([self.peer, wire.encode_function(message), *frames])

    def enlist(self, *drop: wire.TaskRef) -> wire.Enlist:
        """Wait for the worker's enlistment, answer it, and return it."""
        asked = self.hear(wire.Enlist)
        self.begin(*drop)
        return asked

    def begin(self, *drop: wire.TaskRef) -> None:
        """Answer an enlistment."""
        self.session += 1
        self.number = 0
        self.say(wire.Enlisted(self.session, "by hand", self.lease_s, self.lease_s / 5, list(drop)))

    def assign(self, *tasks: wire.AssignedTask, limits: wire.LimitsRow | None = None) -> None:
        """Assign tasks, all with the same limits."""
        self.number += 1
        self.say(wire.Assign(self.session, self.number, [limits or wire.LimitsRow()], list(tasks)))

    def settle(self, turn: wire.Turn) -> None:
        """Confirm a turn."""
        self.say(wire.Settled(self.session, turn.number))

    def close(self) -> None:
        """End."""
        self.context.destroy(linger=0)
