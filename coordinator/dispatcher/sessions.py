"""The dispatcher's workers: their sessions, what they say and what is sent to them; never which task goes where."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Payload, Task
from strata_zmq.errors import ProtocolError
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.calls import payload_bytes
from strata_zmq.functions.dispatch.core import Core
from strata_zmq.functions.dispatch.events import (
    Attempt,
    BeginAsked,
    Finished,
    Returned,
    Started,
    Wanted,
    WorkerAlive,
    WorkerEnlisted,
    WorkerLost,
    WorkerRetiring,
)
from strata_zmq.functions.wire import Buffer, batches, limits_row, outcome_of, payload_weight, put_body
from strata_zmq.protocol import functions as wire

from .agenda import Agenda
from .blobs import Blobs
from .mailbox import Mailbox
from .rows import assigned_weight

__all__ = ["Sessions"]

_UNRECEIVED_S = 1.0
_SLOWEST_BYTES_PER_S = 10_000_000
"""What has payload frames is given the time that it takes at this rate."""
_SENT_ALONG_BYTES_MAX = 2**20
"""A callable up to this size is sent with the first task that needs it, and so are all of them together."""
_SENT_MAX = 100_000
_TEXT_MAX = 8192


class _Session:
    __slots__ = (
        "assigned",
        "connection",
        "mode",
        "number",
        "python",
        "recalled",
        "sent",
        "settle",
        "taken",
        "told_again",
        "unreachable",
        "unreceived",
        "worker_id",
    )

    def __init__(self, number: int, connection: bytes, message: wire.Enlist) -> None:
        self.number = number
        self.connection = connection
        self.worker_id = message.worker_id
        self.mode = message.mode
        self.python = message.python
        self.assigned = 0
        """The number of the last ASSIGN."""
        self.unreceived: deque[tuple[int, int, float]] = deque()
        """ASSIGNs that the worker has not confirmed: number, how many tasks, and when it should have arrived."""
        self.told_again = 0
        self.taken = 0
        """The number of the last TURN whose content has been taken."""
        self.settle = False
        self.sent: set[bytes] = set()
        self.unreachable = False
        self.recalled = False
        """Whether a recall is not answered."""


class Sessions:
    """Reads workers' messages into the agenda, and hands them what was decided. A session belongs to one connection."""

    def __init__(
        self, mailbox: Mailbox, core: Core, agenda: Agenda, blobs: Blobs, *, lease_s: float, heartbeat_s: float
    ) -> None:
        self._mailbox = mailbox
        self._core = core
        self._agenda = agenda
        self._blobs = blobs
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        # A number of an earlier life is no session of this one, whatever connection it comes on.
        self._last = secrets.randbits(32) << 24
        self._sessions: dict[int, _Session] = {}
        self._by_connection: dict[bytes, _Session] = {}
        self._to_settle: list[_Session] = []
        self._handlers: dict[type[Any], Callable[[_Session, Any, Sequence[Buffer], float], None]] = {
            wire.Turn: self._turn,
            wire.WantBlobs: self._want_blobs,
            wire.Retire: self._retire,
        }

    @property
    def pythons(self) -> set[str]:
        """The Python versions of the workers that are here."""
        return {session.python for session in self._sessions.values()}

    def new_number(self) -> int:
        """Return a session number that was never used."""
        self._last += 1
        return self._last

    def take(self, connection: bytes, message: wire.FromWorker, frames: Sequence[Buffer], now: float) -> None:
        """Take one message of a worker; what is wrong with it is told to that worker."""
        if isinstance(message, wire.Enlist):
            self._enlist(connection, message)
            return
        session = self._sessions.get(message.session)
        if session is None or session.connection != connection:
            self._ask_to_enlist(connection, f"session {message.session} is not of this connection: enlist")
            return
        try:
            self._handlers[type(message)](session, message, frames, now)
        except ProtocolError as error:
            self._complain(connection, error.code, str(error))

    # ---- what was decided ----

    def welcome(self, incarnation: str) -> None:
        """Answer those that have enlisted, with what nobody wants from them any more."""
        for number, held in self._agenda.enlisted:
            session = self._sessions.get(number)
            if session is None:
                continue
            wanted = set(self._core.held_by(number))
            drop = [wire.TaskRef(*attempt) for attempt in held if attempt not in wanted]
            reply = wire.Enlisted(number, incarnation, self._lease_s, self._heartbeat_s, drop)
            self._mailbox.send(session.connection, reply)

    def assign(self, number: int, tasks: Sequence[Task], now: float) -> None:
        """Send tasks to a worker; those that cannot be sent go elsewhere."""
        session = self._sessions.get(number)
        rest = list(batches(tasks, assigned_weight))
        while rest and session is not None and self._send_tasks(session, rest[0], now):
            rest.pop(0)
        if rest:
            # Nothing of it left: nobody has started it. The worker may still be alive behind a broken connection.
            returned = [(task.task_id, task.attempt) for batch in rest for task in batch]
            self._agenda.next_events += [Returned(number, returned), WorkerRetiring(number)]
            if session is not None:
                session.unreachable = True

    def let_begin(self, granted: Mapping[int, Sequence[Attempt]]) -> None:
        """Answer workers that ask: it is durable that these attempts may have begun."""
        for number, attempts in granted.items():
            session = self._sessions.get(number)
            if session is not None:
                for refs in _refs(attempts):
                    self._mailbox.send(session.connection, wire.Begin(number, refs))

    def recall(self, recalled: Mapping[int, int]) -> None:
        """Ask workers for unstarted tasks."""
        for number, count in recalled.items():
            session = self._sessions.get(number)
            if session is not None:
                session.recalled = True
                self._mailbox.send(session.connection, wire.Recall(number, count))

    def stop(self, stopped: Mapping[int, Sequence[Attempt]]) -> None:
        """Tell workers to drop or kill attempts."""
        for number, attempts in stopped.items():
            session = self._sessions.get(number)
            if session is None:
                continue
            for refs in _refs(attempts):
                self._mailbox.send(session.connection, wire.StopTasks(number, refs))

    def end(self, lost: Iterable[tuple[int, str]]) -> None:
        """Forget sessions that ended; their workers are told, in case that they live."""
        for number, reason in lost:
            session = self._sessions.get(number)
            if session is not None:
                self._forget(session)
                self._ask_to_enlist(session.connection, f"session {number} has ended ({reason}): enlist")

    def settle(self) -> None:
        """Confirm what workers have said; all of it is durable."""
        for session in self._to_settle:
            session.settle = False
            self._mailbox.send(session.connection, wire.Settled(session.number, session.taken))
        self._to_settle.clear()

    # ---- what workers say ----

    def _enlist(self, connection: bytes, message: wire.Enlist) -> None:
        if message.proto != wire.FUNCTIONS_VERSION:
            text = f"proto is {message.proto}, and this dispatcher speaks {wire.FUNCTIONS_VERSION}: use its version"
            self._complain(connection, "protocol", text)
            return
        for before in [one for one in self._sessions.values() if one.worker_id == message.worker_id]:
            # The core ends it when it hears of the new one.
            self._forget(before)
        other = self._by_connection.get(connection)
        if other is not None:
            self._forget(other)
            self._agenda.events.append(WorkerLost(other.number, f"its connection enlisted as {message.worker_id}"))
        session = _Session(self.new_number(), connection, message)
        self._sessions[session.number] = session
        self._by_connection[connection] = session
        held = [(one.task_id, one.attempt, one.phase) for one in message.held]
        self._agenda.events.append(
            WorkerEnlisted(
                *(session.number, message.worker_id, message.slots, message.mode, message.labels, message.python, held)
            )
        )
        self._agenda.enlisted.append((session.number, [one[:2] for one in held]))

    def _turn(self, session: _Session, turn: wire.Turn, frames: Sequence[Buffer], now: float) -> None:
        add = self._agenda.events.append
        number = session.number
        content = bool(turn.outcomes or turn.returned)
        if turn.started:
            add(Started(number, [(one.task_id, one.attempt) for one in turn.started]))
        # What came twice is confirmed again; after a gap everything is said again, in its order.
        if content and turn.number == session.taken + 1:
            if turn.outcomes:
                failpoint("dispatcher.outcome.taken")
                outcomes = [outcome_of(row, frames) for row in turn.outcomes]
                _check(outcomes)
                add(Finished(number, outcomes))
            if turn.returned:
                add(Returned(number, [(one.task_id, one.attempt) for one in turn.returned]))
            session.taken = turn.number
        elif not turn.started and not turn.asks:
            # Who has nothing to give back answers a recall by a turn without content.
            add(Returned(number, ()) if session.recalled else WorkerAlive(number))
            session.recalled = False
        if turn.asks:
            add(BeginAsked(number, [(one.task_id, one.attempt) for one in turn.asks]))
        if (content or not (turn.started or turn.asks)) and not session.settle:
            session.settle = True
            self._to_settle.append(session)
        self._confirm(session, turn, now)

    def _confirm(self, session: _Session, turn: wire.Turn, now: float) -> None:
        """See which ASSIGNs have arrived, and what a pulling worker wants beyond those that have not."""
        unreceived = session.unreceived
        while unreceived and unreceived[0][0] <= turn.received:
            unreceived.popleft()
            session.told_again = 0
        if session.mode == "pull":
            want = turn.want - sum(count for _, count, _ in unreceived)
            self._agenda.events.append(Wanted(session.number, max(want, 0)))
        if unreceived and now > unreceived[0][2]:
            session.told_again += 1
        if session.told_again > 1 or session.unreachable:
            session.told_again = 0
            self._ask_to_enlist(session.connection, f"ASSIGN {session.assigned} has not arrived: enlist again")

    def _want_blobs(self, session: _Session, message: wire.WantBlobs, frames: Sequence[Buffer], now: float) -> None:
        found = [(digest, payload) for digest in message.digests if (payload := self._blobs.get(digest)) is not None]
        known = {digest for digest, _ in found}
        missing = [digest for digest in message.digests if digest not in known]
        for batch in batches(found, lambda item: payload_weight(item[1])):
            bodies: list[Buffer] = []
            blobs = [wire.Blob(digest, put_body(payload, bodies)) for digest, payload in batch]
            self._mailbox.send(session.connection, wire.Blobs(session.number, blobs), bodies)
        if missing:
            self._mailbox.send(session.connection, wire.Blobs(session.number, [], missing))
        self._agenda.events.append(WorkerAlive(session.number))

    def _retire(self, session: _Session, message: wire.Retire, frames: Sequence[Buffer], now: float) -> None:
        if message.now:
            self._forget(session)
            self._agenda.events.append(WorkerLost(session.number, "it has left"))
        else:
            self._agenda.events.append(WorkerRetiring(session.number))

    # ---- helpers ----

    def _send_tasks(self, session: _Session, tasks: Sequence[Task], now: float) -> bool:
        frames: list[Buffer] = []
        limits: list[wire.LimitsRow] = []
        places: dict[int, int] = {}
        rows = []
        for task in tasks:
            place = places.get(id(task.limits))
            if place is None:
                place = places[id(task.limits)] = len(limits)
                limits.append(limits_row(task.limits))
            body = task.body
            rows.append(
                wire.AssignedTask(
                    task.task_id,
                    task.attempt,
                    task.function,
                    body
                    if type(body) is bytes and len(body) <= wire.INLINE_BYTES_MAX
                    else put_body(_payload(body), frames),
                    place,
                    list(task.refs),
                    task.asks,
                )
            )
        new, blobs = self._callables(session, tasks, frames)
        message = wire.Assign(session.number, session.assigned + 1, limits, rows, blobs)
        if not self._mailbox.send(session.connection, message, frames):
            return False
        session.assigned += 1
        size = sum(memoryview(frame).nbytes for frame in frames)
        due = now + _UNRECEIVED_S + size / _SLOWEST_BYTES_PER_S
        session.unreceived.append((session.assigned, len(tasks), due))
        session.sent |= new
        failpoint("dispatcher.assigned")
        return True

    def _callables(
        self, session: _Session, tasks: Sequence[Task], frames: list[Buffer]
    ) -> tuple[set[bytes], list[wire.Blob]]:
        """Return the callables that go along, as far as there is room; the worker asks for the others."""
        new = {task.function for task in tasks} - session.sent - {CALL_IN_PAYLOAD}
        if not new:
            return new, []
        if len(session.sent) > _SENT_MAX:
            session.sent.clear()
        room = min(_SENT_ALONG_BYTES_MAX, wire.BLOB_BYTES_MAX - sum(memoryview(one).nbytes for one in frames))
        sent: set[bytes] = set()
        blobs: list[wire.Blob] = []
        for digest in sorted(new):
            payload = self._blobs.get(digest)
            if payload is None:
                continue
            size, parts = payload_bytes(payload), 1 if isinstance(payload, bytes) else len(payload)
            if size <= room and len(frames) + parts <= wire.FRAMES_MAX and len(blobs) < wire.FRAMES_MAX:
                room -= size
                blobs.append(wire.Blob(digest, put_body(payload, frames)))
                sent.add(digest)
        return sent, blobs

    def _forget(self, session: _Session) -> None:
        self._sessions.pop(session.number, None)
        if self._by_connection.get(session.connection) is session:
            del self._by_connection[session.connection]

    def _ask_to_enlist(self, connection: bytes, text: str) -> None:
        self._complain(connection, "unknown_session", text)

    def _complain(self, connection: bytes, code: str, text: str) -> None:
        self._mailbox.send(connection, wire.Complaint(0, code, text[:_TEXT_MAX]))


def _refs(attempts: Sequence[Attempt]) -> Iterable[list[wire.TaskRef]]:
    """Return attempts as messages carry them, as many at a time as one may."""
    for first in range(0, len(attempts), wire.BATCH_MAX):
        yield [wire.TaskRef(*one) for one in attempts[first : first + wire.BATCH_MAX]]


def _payload(body: object) -> Payload:
    return cast("Payload", body)


def _check(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if outcome.body is None and outcome.kind != "failure":
            raise ProtocolError(
                f"the outcome of {outcome.task_id.hex()} is {outcome.kind!r} without a body: send that, or a failure"
            )
