"""A hand-made dispatcher for the tests of clients: it runs nothing and does as it is told, with a socket or without.

It keeps the protocol's promises to clients in the plainest way, so that a test can break one of them at a time.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Self

import zmq

from strata_zmq.functions.wire import body_of, put_body
from strata_zmq.protocol import functions as wire

__all__ = ["DispatcherModel", "RouterDouble"]


class DispatcherModel:
    """Answers every client. A task ends at once with its own payload as its result, unless `hold` says otherwise.

    `answer` may take a message away: it is called with the double, the connection and the message, and returns whether
    it has dealt with it. What it says is in `said`: (connection, frames).
    """

    def __init__(self) -> None:
        self.incarnation = uuid.uuid4().hex
        self.hold = False
        self.answer: Callable[[Any, bytes, Any], bool] = lambda *_: False
        self.messages: list[Any] = []
        self.said: list[tuple[bytes, list[Any]]] = []
        self.tasks: dict[bytes, wire.TaskRow] = {}
        self.bodies: dict[bytes, Any] = {}
        self.blobs: dict[bytes, Any] = {}
        self.functions: dict[bytes, Any] = {}
        self.watchers: dict[bytes, bytes] = {}
        self.unseen: dict[int, list[bytes]] = {}
        self.connections: set[bytes] = set()
        self.number = 0

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the messages of a kind that have come so far."""
        return [message for message in list(self.messages) if isinstance(message, kind)]

    def take(self, connection: bytes, control: bytes, frames: list[Any]) -> None:
        """Take one message of a client."""
        message = wire.decode_at_dispatcher(control)
        self.messages.append(message)
        if not self.answer(self, connection, message):
            self._take(connection, message, frames)

    def send(self, connection: bytes, message: Any, frames: Sequence[Any] = ()) -> None:
        """Say something."""
        self.said.append((connection, [wire.encode_function(message), *frames]))

    def end_now(self, task_id: bytes, *, kind: str = "ok", body: bytes | None = b"", cause: str = "") -> None:
        """End a task, and tell whoever it belongs to."""
        self._finish(task_id, kind, body, cause)
        self._announce(self.watchers[task_id], [task_id])

    def forget_now(self) -> None:
        """Be another life of the dispatcher, that knows nothing; connections stay."""
        self.incarnation = uuid.uuid4().hex
        self.tasks.clear()
        self.blobs.clear()
        self.unseen.clear()
        self.connections.clear()
        self.number = 0

    def resend(self, connection: bytes) -> None:
        """Tell again what has not been seen."""
        for number, ids in self.unseen.items():
            self._results(connection, number, ids)

    def _take(self, connection: bytes, message: Any, frames: list[bytes]) -> None:
        if isinstance(message, wire.Attach):
            self.connections.add(connection)
            self.send(connection, wire.AttachedReply(message.seq, self.incarnation, 30.0, ["3.11"]))
            self.resend(connection)
            return
        if connection not in self.connections:
            self.send(connection, wire.Complaint(getattr(message, "seq", 0), "unknown_session", "attach first"))
            return
        handler = {
            wire.Submit: self._submit,
            wire.Fetch: self._fetch,
            wire.Watch: self._watch,
            wire.Cancel: self._cancel,
            wire.PutBlobs: self._put,
            wire.RegisterFunction: self._register,
            wire.ListTasks: lambda to, one, _: self.send(
                to, wire.Page(one.seq, list(self.tasks.values())[: one.limit])
            ),
            wire.GetCounts: lambda to, one, _: self.send(to, wire.Counts(one.seq, *range(9))),
            wire.Beat: lambda to, one, _: self.send(to, wire.BeatAck(one.seq)),
            wire.Seen: self._seen,
            wire.Detach: lambda to, one, _: self.connections.discard(to),
        }[type(message)]
        handler(connection, message, frames)

    def _submit(self, connection: bytes, message: wire.Submit, frames: list[bytes]) -> None:
        new = [task for task in message.tasks if task.task_id not in self.tasks]
        for task in new:
            self.tasks[task.task_id] = wire.TaskRow(task.task_id, "QUEUED")
            self.bodies[task.task_id] = body_of(task.body, frames)
            self.watchers[task.task_id] = connection
        self.send(connection, wire.SubmittedReply(message.seq))
        if not self.hold:
            for task in new:
                self._finish(task.task_id, "ok", self.bodies[task.task_id], "")
            self._announce(connection, [task.task_id for task in new])

    def _finish(self, task_id: bytes, kind: Any, body: Any, cause: str) -> None:
        self.bodies[task_id] = body
        state = "COMPLETED" if kind == "ok" else "CANCELLED" if cause == "cancelled" else "FAILED"
        outcome = wire.OutcomeRow(task_id, 1, kind, None, 0.001, cause)
        self.tasks[task_id] = wire.TaskRow(task_id, state, 1, outcome)

    def _announce(self, connection: bytes, ids: list[bytes]) -> None:
        if ids:
            self.number += 1
            self.unseen[self.number] = ids
            self._results(connection, self.number, ids)

    def _results(self, connection: bytes, number: int, ids: list[bytes]) -> None:
        frames: list[Any] = []
        rows = [self._row(task_id, frames) for task_id in ids]
        self.send(connection, wire.Results(number, rows), frames)

    def _row(self, task_id: bytes, frames: list[Any]) -> wire.TaskRow:
        row = self.tasks.get(task_id)
        if row is None:
            return wire.TaskRow(task_id, "UNKNOWN")
        outcome = row.outcome
        if outcome is None:
            return row
        body = self.bodies[task_id]
        packed = None if body is None else put_body(body, frames)
        full = wire.OutcomeRow(task_id, outcome.attempt, outcome.kind, packed, 0.001, outcome.cause)
        return wire.TaskRow(task_id, row.state, row.attempt, full)

    def _fetch(self, connection: bytes, message: wire.Fetch, _: list[bytes]) -> None:
        frames: list[Any] = []
        rows = [self._row(task_id, frames) for task_id in message.task_ids]
        self.send(connection, wire.Answers(message.seq, rows), frames)

    def _watch(self, connection: bytes, message: wire.Watch, _: list[bytes]) -> None:
        frames: list[Any] = []
        rows = []
        for task_id in message.task_ids:
            row = self._row(task_id, frames)
            if row.state in {"QUEUED", "RUNNING"}:
                self.watchers[task_id] = connection
            else:
                rows.append(row)
        self.send(connection, wire.Answers(message.seq, rows), frames)

    def _cancel(self, connection: bytes, message: wire.Cancel, _: list[bytes]) -> None:
        ended = []
        for task_id in message.task_ids:
            row = self.tasks.get(task_id)
            if row is not None and row.state == "QUEUED":
                self._finish(task_id, "failure", None, "cancelled")
                ended.append(task_id)
        states: list[Any] = [self.tasks[one].state if one in self.tasks else "UNKNOWN" for one in message.task_ids]
        self.send(connection, wire.Cancelling(message.seq, states))
        self._announce(connection, ended)

    def _put(self, connection: bytes, message: wire.PutBlobs, frames: list[bytes]) -> None:
        for blob in message.blobs:
            self.blobs[blob.digest] = body_of(blob.body, frames)
        self.send(connection, wire.Stored(message.seq))

    def _register(self, connection: bytes, message: wire.RegisterFunction, frames: list[bytes]) -> None:
        self.functions[message.function_id] = body_of(message.body, frames)
        self.send(connection, wire.Stored(message.seq))

    def _seen(self, connection: bytes, message: wire.Seen, _: list[bytes]) -> None:
        for number in [one for one in self.unseen if one <= message.number]:
            del self.unseen[number]


class RouterDouble(DispatcherModel):
    """The model behind a ROUTER, on a thread; `end` and `forget` are for other threads."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*") -> None:
        super().__init__()
        self._errands: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.bind(endpoint)
        self.endpoint = str(self._router.last_endpoint.decode())
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End, with all connections."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(10)
            self._router.close(0)
            self._context.term()

    def end(self, task_id: bytes, **how: Any) -> None:
        """End a task, and tell whoever it belongs to."""
        self._errands.append(lambda: self.end_now(task_id, **how))

    def forget(self) -> None:
        """Be another life of the dispatcher, that knows nothing; connections stay."""
        self._errands.append(self.forget_now)

    def _run(self) -> None:
        while not self._stop.is_set():
            while self._errands:
                self._errands.pop(0)()
            if self._router.poll(5):
                connection, control, *frames = self._router.recv_multipart()
                self.take(connection, control, frames)
            for connection, message in self.said:
                self._router.send_multipart([connection, *message])
            self.said.clear()
