"""A hand-made client and a hand-made worker of a dispatcher: bare sockets on which anything can be said."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import pytest
import zmq

from strata_zmq.protocol import functions as wire

__all__ = ["BareClient", "BareWorker", "new_id"]

T = TypeVar("T")


def new_id() -> bytes:
    """A task's id."""
    return uuid.uuid4().bytes


class _Peer:
    decode: Callable[[bytes], Any]

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.context: zmq.Context[Any] = zmq.Context()
        self.frames: list[bytes] = []
        """The payload frames of what was heard last."""
        self._open()

    def _open(self) -> None:
        self._results: deque[tuple[wire.Results, list[bytes]]] = deque()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.sndtimeo = 20_000  # a dispatcher that has gone is told, not waited for
        self.socket.connect(self.endpoint)

    def reconnect(self) -> None:
        """Go on over a new connection."""
        self.socket.close()
        self._open()

    def say(self, message: msgspec.Struct, *frames: bytes) -> None:
        """Send one message."""
        self.socket.send_multipart([wire.encode_function(message), *frames])

    def say_raw(self, *frames: bytes) -> None:
        """Send any frames."""
        self.socket.send_multipart(frames)

    def hear(self, kind: type[T], timeout_s: float = 30.0) -> T:
        """Return the next message of this kind; others are passed over, but results are kept for later."""
        if kind is wire.Results and self._results:
            message, self.frames = self._results.popleft()
            return message  # type: ignore[return-value]
        while self.socket.poll(timeout_s * 1000):
            first, *self.frames = self.socket.recv_multipart()
            message = type(self).decode(first)
            if isinstance(message, kind):
                return message
            if isinstance(message, wire.Results):
                self._results.append((message, self.frames))
        pytest.fail(f"no {kind.__name__} within {timeout_s:g} s")

    def hears_nothing(self, kind: type[Any], timeout_s: float = 0.3) -> bool:
        """Tell whether no message of this kind comes for a while."""
        if kind is wire.Results and self._results:
            return False
        while self.socket.poll(timeout_s * 1000):
            first, *self.frames = self.socket.recv_multipart()
            if isinstance(type(self).decode(first), kind):
                return False
        return True

    def close(self) -> None:
        """End without a word."""
        self.context.destroy(linger=0)


class BareClient(_Peer):
    """A client that says what it is told to say, and nothing by itself."""

    decode = staticmethod(wire.decode_at_client)

    def __init__(self, endpoint: str, client_id: str = "") -> None:
        super().__init__(endpoint)
        self.client_id = client_id or uuid.uuid4().hex
        self.seq = 0
        self.seen = 0
        """The number of the last ends that `result` has confirmed."""
        self.kept: set[bytes] = set()
        """Digests of what it has put."""

    def ask(self, kind: type[msgspec.Struct], *values: Any, frames: Sequence[bytes] = ()) -> int:
        """Send a request with the next seq, and return that."""
        self.seq += 1
        self.say(kind(self.seq, *values), *frames)
        return self.seq

    def attach(self, *, deliver: bool = True, incarnation: str = "") -> wire.AttachedReply:
        """Begin, or go on after `reconnect`."""
        self.seen = 0
        self.ask(wire.Attach, self.client_id, wire.FUNCTIONS_VERSION, "", deliver, incarnation)
        return self.hear(wire.AttachedReply)

    def submit(self, *tasks: wire.NewTask, frames: Sequence[bytes] = (), **limits: Any) -> wire.SubmittedReply:
        """Submit tasks, and return the answer."""
        self.ask(wire.Submit, wire.LimitsRow(**limits), list(tasks), frames=frames)
        return self.hear(wire.SubmittedReply)

    def call(self, payload: bytes = b"call", **limits: Any) -> bytes:
        """Submit one call with its function in its payload, and return its id once it is accepted."""
        task_id = new_id()
        answer = self.submit(wire.NewTask(task_id, bytes(16), payload), **limits)
        assert not answer.refused, answer.refused
        return task_id

    def result(self, timeout_s: float = 30.0) -> wire.TaskRow:
        """Return the one end that comes next, and confirm it; one that is said again is passed over."""
        results = self.hear(wire.Results, timeout_s)
        while results.number <= self.seen:
            results = self.hear(wire.Results, timeout_s)
        assert len(results.rows) == 1, results
        self.seen = results.number
        self.say(wire.Seen(results.number))
        return results.rows[0]

    def fetch(self, *task_ids: bytes, bodies: bool = True) -> list[wire.TaskRow]:
        """Return what is known of tasks."""
        self.ask(wire.Fetch, list(task_ids), bodies)
        return self.hear(wire.Answers).rows

    def counts(self) -> wire.Counts:
        """Return how much there is."""
        self.ask(wire.GetCounts)
        return self.hear(wire.Counts)


class BareWorker(_Peer):
    """A worker that runs nothing: a test says what has become of what it was assigned."""

    decode = staticmethod(wire.decode_at_worker)

    def __init__(self, endpoint: str, worker_id: str = "", *, slots: int = 1, mode: str = "push") -> None:
        super().__init__(endpoint)
        self.worker_id = worker_id or uuid.uuid4().hex
        self.slots, self.mode = slots, mode
        self.session = self.number = self.received = 0

    def enlist(self, *held: wire.HeldTask, **more: Any) -> wire.Enlisted:
        """Begin a session."""
        enlist = wire.Enlist(*(self.worker_id, self.slots, self.mode, "3.11"), held=list(held), pid=os.getpid(), **more)
        self.say(enlist)
        told = self.hear(wire.Enlisted)
        self.session, self.number, self.received = told.session, 0, 0
        return told

    def assigned(self, timeout_s: float = 30.0) -> list[wire.AssignedTask]:
        """Return the tasks of the next ASSIGN."""
        assign = self.hear(wire.Assign, timeout_s)
        self.received = assign.number
        return assign.tasks

    def turn(self, *frames: bytes, **content: Any) -> None:
        """Say what happened."""
        if content.get("outcomes") or content.get("returned"):
            self.number += 1
        self.say(wire.Turn(self.session, self.number, received=self.received, **content), *frames)

    def start(self, *tasks: wire.AssignedTask) -> None:
        """Say that these have begun."""
        self.turn(started=[wire.TaskRef(task.task_id, task.attempt) for task in tasks])

    def finish(self, *tasks: wire.AssignedTask, body: bytes = b"result", service_s: float = 0.01) -> None:
        """Say that these are done."""
        self.turn(outcomes=[wire.OutcomeRow(task.task_id, task.attempt, "ok", body, service_s) for task in tasks])
