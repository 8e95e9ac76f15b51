"""The dispatcher's clients: who they are, what they ask and what they are told; never which task runs where."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import msgspec

from strata_zmq.domain.task import FINAL, Task
from strata_zmq.errors import ProtocolError, StorageError, StrataError
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.dispatch.core import Core
from strata_zmq.functions.dispatch.effects import CancelVerdicts, Verdicts
from strata_zmq.functions.dispatch.events import Attached, CancelAsked, Detached, ResultsSeen, Submitted, Watched
from strata_zmq.functions.wire import Buffer, body_of
from strata_zmq.protocol import functions as wire
from strata_zmq.protocol.sight import GetFunctionsSight, ShownFunctions

from .agenda import Agenda
from .blobs import Blobs
from .deliveries import Deliveries
from .intake import Intake, Taken
from .mailbox import Mailbox
from .rows import Rows, row_weight

__all__ = ["Clients"]

_ANSWER_BYTES_MAX = 4 * 2**20
_TEXT_MAX = 8192


class _Client:
    __slots__ = ("client_id", "connection", "deliveries", "heard_at")

    def __init__(self, client_id: str, connection: bytes, deliveries: Deliveries) -> None:
        self.client_id = client_id
        self.connection = connection
        self.deliveries = deliveries
        self.heard_at = 0.0


class _Letter:
    """Rows of tasks for one message, as long as there is room."""

    __slots__ = ("_inline", "_nbytes", "_rows", "frames", "rows")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._inline = self._nbytes = 0
        self.rows: list[wire.TaskRow] = []
        self.frames: list[Buffer] = []

    def add(self, task_id: bytes, task: Task | None, *, bodies: bool) -> bool:
        """Add what is known of a task; False if it would be too much."""
        if task is None:
            self.rows.append(wire.TaskRow(task_id, "UNKNOWN"))
            return True
        outcome = self._rows.outcome(task, bodies=bodies)
        inline, count, nbytes = row_weight(outcome)
        if self.rows and (
            self._inline + inline > _ANSWER_BYTES_MAX
            or self._nbytes + nbytes > wire.BLOB_BYTES_MAX
            or len(self.frames) + count > wire.FRAMES_MAX
        ):
            return False
        self._inline += inline
        self._nbytes += nbytes
        self.rows.append(self._rows.row(task, outcome, self.frames))
        return True


class Clients:
    """Reads clients' messages into the agenda, and tells them what was decided. A client is known by its connection."""

    def __init__(
        self, mailbox: Mailbox, core: Core, agenda: Agenda, blobs: Blobs, intake: Intake, rows: Rows, *, lease_s: float
    ) -> None:
        self._mailbox = mailbox
        self._core = core
        self._agenda = agenda
        self._blobs = blobs
        self._intake = intake
        self._rows = rows
        self._lease_s = lease_s
        self._by_connection: dict[bytes, _Client] = {}
        self._by_id: dict[str, _Client] = {}
        self._to_flush: dict[str, _Client] = {}
        self._taken: deque[Taken] = deque()
        """The submissions of this pass, in the order in which their verdicts come: clients may use a seq twice."""
        self._handlers: dict[type[Any], Callable[[_Client, Any, Sequence[Buffer], float], None]] = {
            wire.Submit: self._submit,
            wire.Seen: self._seen,
            wire.Beat: self._beat,
            wire.PutBlobs: self._put_blobs,
            wire.RegisterFunction: self._register,
            wire.Cancel: self._cancel,
            wire.Detach: self._detach,
            wire.Fetch: self._query,
            wire.Watch: self._query,
            wire.ListTasks: self._query,
            wire.GetCounts: self._query,
            GetFunctionsSight: self._query,
        }
        self.shows: Callable[[GetFunctionsSight, float], ShownFunctions] | None = None
        """Answers who asks what there is to see."""

    def handles(self, message: object) -> bool:
        """Tell whether this is a client's message."""
        return type(message) in self._handlers or type(message) is wire.Attach

    def take(self, connection: bytes, message: wire.FromClient, frames: Sequence[Buffer], now: float) -> None:
        """Take one message of a client; what is wrong with it is told to that client."""
        seq = getattr(message, "seq", 0)
        if type(message) is wire.Attach:
            self._attach(connection, message, now)
            return
        client = self._by_connection.get(connection)
        if client is None:
            self._complain(connection, seq, "unknown_session", "this connection belongs to no client: attach first")
            return
        client.heard_at = now
        try:
            self._handlers[type(message)](client, message, frames, now)
        except StorageError:
            raise
        except StrataError as error:
            self._complain(connection, seq, error.code, str(error), 1.0 if error.retryable else 0.0)

    # ---- what was decided ----

    def welcome(self, incarnation: str, pythons: Collection[str]) -> None:
        """Answer those that have attached."""
        for client_id, seq in self._agenda.attached:
            client = self._by_id.get(client_id)
            if client is not None:
                reply = wire.AttachedReply(seq, incarnation, self._lease_s, sorted(pythons)[:64])
                self._send(client, reply)
                self._to_flush[client_id] = client

    def tell_verdict(self, verdict: Verdicts | CancelVerdicts) -> None:
        """Answer a submission or a cancellation."""
        client = self._by_id.get(verdict.client)
        if isinstance(verdict, CancelVerdicts):
            if client is not None:
                self._send(client, wire.Cancelling(verdict.seq, [state or "UNKNOWN" for state in verdict.states]))
            return
        taken = self._taken.popleft()
        if client is None:
            return
        places = taken.places
        refused = [
            wire.RefusedTask(
                one.index if places is None else places[one.index], one.code, one.message[:_TEXT_MAX], one.retry_after_s
            )
            for one in verdict.refused
        ]
        refused += taken.refused
        existing = [
            wire.Existing(index if places is None else places[index], task_id) for index, task_id in verdict.existing
        ]
        self._send(client, wire.SubmittedReply(verdict.seq, refused, existing))

    def deliver(self, client_id: str, tasks: Sequence[Task]) -> None:
        """Take the ends of tasks for a client; `flush` sends them."""
        client = self._by_id.get(client_id)
        if client is not None:
            client.deliveries.add(tasks)
            self._to_flush[client_id] = client

    def answer(self, now: float) -> None:
        """Answer what clients have asked, and send what is waiting for them."""
        for client_id, query in self._agenda.queries:
            client = self._by_id.get(client_id)
            if client is not None:
                self._answer(client, query, now)
        if self._to_flush:
            for client in self._to_flush.values():
                client.deliveries.flush(self._way_to(client), now)
            self._to_flush.clear()

    def look_after(self, now: float) -> None:
        """Say again what has not been seen, and let go who has been silent for a lease."""
        for client in list(self._by_id.values()):
            if now - client.heard_at > self._lease_s:
                self._leave(client, abandon=True, now=now)
            else:
                client.deliveries.send_again(self._way_to(client), now)
        self._blobs.expire(now)

    def forgive(self, now: float) -> None:
        """The loop itself was late: nobody's silence counts up to now."""
        for client in self._by_id.values():
            client.heard_at = now

    # ---- what clients say ----

    def _attach(self, connection: bytes, message: wire.Attach, now: float) -> None:
        if message.proto != wire.FUNCTIONS_VERSION:
            text = f"proto is {message.proto}, and this dispatcher speaks {wire.FUNCTIONS_VERSION}: use its version"
            self._complain(connection, message.seq, "protocol", text)
            return
        before = self._by_connection.get(connection)
        if before is not None and before.client_id != message.client_id:
            self._leave(before, abandon=False, now=now)
        client = self._by_id.get(message.client_id)
        if client is None:
            client = self._by_id[message.client_id] = _Client(message.client_id, connection, Deliveries(self._rows))
        self._by_connection.pop(client.connection, None)
        client.connection = connection
        client.heard_at = now
        client.deliveries.begin_again(message.client_id if message.deliver else "")
        self._by_connection[connection] = client
        self._agenda.events.append(Attached(message.client_id, message.deliver))
        self._agenda.attached.append((message.client_id, message.seq))

    def _submit(self, client: _Client, message: wire.Submit, frames: Sequence[Buffer], now: float) -> None:
        failpoint("dispatcher.submit.taken")
        taken = self._intake.take(client.client_id, message, frames, self._agenda.digests)
        self._taken.append(taken)
        self._agenda.events.append(Submitted(client.client_id, message.seq, taken.tasks))

    def _cancel(self, client: _Client, message: wire.Cancel, frames: Sequence[Buffer], now: float) -> None:
        self._agenda.events.append(CancelAsked(client.client_id, message.seq, message.task_ids, message.running))

    def _seen(self, client: _Client, message: wire.Seen, frames: Sequence[Buffer], now: float) -> None:
        ids = client.deliveries.seen(message.number)
        if ids:
            self._to_flush[client.client_id] = client
            self._agenda.events.append(ResultsSeen(client.client_id, ids))

    def _beat(self, client: _Client, message: wire.Beat, frames: Sequence[Buffer], now: float) -> None:
        self._send(client, wire.BeatAck(message.seq))

    def _put_blobs(self, client: _Client, message: wire.PutBlobs, frames: Sequence[Buffer], now: float) -> None:
        self._blobs.put(client.client_id, ((one.digest, body_of(one.body, frames)) for one in message.blobs), now)
        self._send(client, wire.Stored(message.seq))

    def _register(self, client: _Client, message: wire.RegisterFunction, frames: Sequence[Buffer], now: float) -> None:
        self._blobs.register(message.function_id, message.name, body_of(message.body, frames))
        self._send(client, wire.Stored(message.seq))

    def _query(self, client: _Client, message: Any, frames: Sequence[Buffer], now: float) -> None:
        self._agenda.queries.append((client.client_id, message))

    def _detach(self, client: _Client, message: wire.Detach, frames: Sequence[Buffer], now: float) -> None:
        self._leave(client, abandon=message.abandon, now=now)

    # ---- answers ----

    def _answer(self, client: _Client, query: Any, now: float) -> None:
        seq = query.seq
        if type(query) is wire.Watch:
            self._watch(client, query, now)
        elif type(query) is GetFunctionsSight:
            if self.shows is not None:
                self._send(client, self.shows(query, now))
        elif type(query) is wire.Fetch:
            self._fetch(client, query)
        elif type(query) is wire.ListTasks:
            tasks = self._core.page(query.after, query.limit, query.state or None)
            self._send(client, wire.Page(seq, [self._rows.head(task) for task in tasks]))
        else:
            counts = self._core.counts()
            names = wire.Counts.__struct_fields__[1:]
            self._send(client, wire.Counts(seq, *(getattr(counts, name) for name in names)))

    def _fetch(self, client: _Client, query: wire.Fetch) -> None:
        letter = _Letter(self._rows)
        for task_id in query.task_ids:
            if not letter.add(task_id, self._core.find(task_id), bodies=query.bodies):
                text = (
                    f"what is known of {len(query.task_ids)} tasks does not fit in one message: ask for fewer at once"
                )
                self._complain(client.connection, query.seq, "invalid_argument", text)
                return
        self._send(client, wire.Answers(query.seq, letter.rows), letter.frames)

    def _watch(self, client: _Client, query: wire.Watch, now: float) -> None:
        """Answer for the tasks that have ended; what is too much for one message comes as the ends to come do."""
        letter = _Letter(self._rows)
        coming: list[bytes] = []
        later: list[Task] = []
        for task_id in query.task_ids:
            task = self._core.find(task_id)
            if task is not None and task.state not in FINAL:
                coming.append(task_id)
            elif not letter.add(task_id, task, bodies=query.bodies) and task is not None:
                later.append(task)
        client.deliveries.wish(coming + [task.task_id for task in later], bodies=query.bodies)
        if later:
            self.deliver(client.client_id, later)
        if coming:
            # No step lies between this answer and the next events: no end can be missed.
            self._agenda.next_events.append(Watched(client.client_id, coming, now + query.for_s))
        self._send(client, wire.Answers(query.seq, letter.rows), letter.frames)

    # ---- helpers ----

    def _leave(self, client: _Client, *, abandon: bool, now: float) -> None:
        self._by_connection.pop(client.connection, None)
        if self._by_id.get(client.client_id) is client:
            del self._by_id[client.client_id]
        self._blobs.leave(client.client_id, now)
        self._agenda.events.append(Detached(client.client_id, abandon))

    def _send(self, client: _Client, message: msgspec.Struct, frames: Sequence[Buffer] = ()) -> bool:
        """Send; who cannot be reached asks again."""
        try:
            return self._mailbox.send(client.connection, message, frames)
        except ProtocolError as error:
            seq = getattr(message, "seq", 0)
            return self._complain(client.connection, seq, "invalid_argument", f"{error}: ask for less at once")

    def _way_to(self, client: _Client) -> Callable[[wire.Results, Sequence[Buffer]], bool]:
        return partial(self._send, client)

    def _complain(self, connection: bytes, seq: int, code: str, text: str, retry_after_s: float = 0.0) -> bool:
        return self._mailbox.send(connection, wire.Complaint(seq, code, text[:_TEXT_MAX], retry_after_s))
