"""The asyncio face of a dispatcher's client: requests that are awaited. Packed calls in, views of tasks out.

It keeps no task: whoever submits here asks for the ends with `watch` or `fetch`, and says with `keep_s` how long they
are to be kept. One client is for one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import zmq

from strata_zmq.domain.task import CALL_IN_PAYLOAD, ID_BYTES, Payload, TaskLimits
from strata_zmq.errors import InvalidArgumentError, MissingPayloadError, ProtocolError, StrataError, UnavailableError
from strata_zmq.functions.calls import PackedCall, TaskView
from strata_zmq.functions.wire import Buffer, batches, limits_row, payload_weight, put_body, view_of
from strata_zmq.protocol.functions import (
    Answers,
    Cancel,
    Cancelling,
    ClientReply,
    Counts,
    Fetch,
    GetCounts,
    ListTasks,
    NewTask,
    Page,
    RegisterFunction,
    Submit,
    SubmittedReply,
    TaskRow,
    Watch,
)
from strata_zmq.transport.curve import CurveKeys

from .conversation import Answer, ClientConversation, Ended, Refused, Replied, Request, Ticket
from .kept import KeptPayloads, check_payload, put_requests
from .link import Link

__all__ = ["AsyncClient", "Submitted"]

log = logging.getLogger("strata.functions")

_PATIENCE_S = 5.0
_SLOWEST_BYTES_PER_S = 10_000_000
_IDS_MAX = 1000
_SECONDS_MAX = 86_400.0 * 30
_DRAIN_MAX = 512
_ROUNDS_MAX = 4
_BLOCKED_S = 0.1


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of one call of a submission. `code` is "" for an accepted one, else the name of an error.

    `task_id` is the task's: another than was given where the call's key already stood for one. `retry_after_s` above 0
    says when to try again.
    """

    task_id: bytes
    code: str = ""
    message: str = ""
    retry_after_s: float = 0.0


@dataclass(eq=False, slots=True)
class _Watching:
    """One `watch` under way: whose ends it still waits for, and those that nobody has taken yet."""

    left: dict[bytes, None]
    until: float
    bodies: bool
    views: asyncio.Queue[TaskView]


class AsyncClient:
    """A client of the dispatcher at one endpoint; made by `connect`, ended by `close`.

    A lost connection is made again, and what was asked is asked again: a call fails with UnavailableError only when it
    has had no answer for 5 seconds (more for large payloads). What the dispatcher refuses raises the error that it
    names.
    """

    def __init__(self, link: Link, context: zmq.Context[Any], client_id: str) -> None:
        self._link = link
        self._context = context
        self._talk = ClientConversation(client_id, deliver=False)
        self._kept = KeptPayloads()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self._closed = False
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._watched: dict[bytes, list[_Watching]] = {}
        for descriptor, reader in zip(link.descriptors, (self._turn, self._follow), strict=True):
            self._loop.add_reader(descriptor, reader)

    @classmethod
    async def connect(cls, endpoint: str, *, keys: CurveKeys | None = None, client_id: str = "") -> Self:
        """Return a client that the dispatcher has taken in; UnavailableError where nobody answers for 5 seconds.

        Without `keys`, those of the folder that STRATA_CURVE_KEYS names are used. `client_id` is who it is to the
        dispatcher, over connections and processes; a new one by itself.
        """
        context: zmq.Context[Any] = zmq.Context()
        try:
            link = Link(context, endpoint, CurveKeys.from_environment() if keys is None else keys)
        except BaseException:
            context.destroy(linger=0)
            raise
        client = cls(link, context, client_id or uuid.uuid4().hex)
        try:
            client._follow()
            await client._taken_in()
        except BaseException:
            await client.close()
            raise
        return client

    @property
    def pythons(self) -> Sequence[str]:
        """The Python versions of the workers that there were when the dispatcher took this client in."""
        return self._talk.pythons

    async def register(self, name: str, payload: bytes, function_id: bytes = b"") -> bytes:
        """Keep a packed callable for good, and return the 16 bytes by which calls name it (`function_id`, or new ones).

        Another payload under the same id is an AlreadyExistsError.
        """
        if not 1 <= len(name) <= 256:
            raise InvalidArgumentError(f"name has {len(name)} characters; 1 to 256 are allowed")
        check_payload(payload, "a function")
        chosen = function_id or uuid.uuid4().bytes
        _check_ids([chosen], "function_id")
        frames: list[Buffer] = []
        await self._ask(RegisterFunction(0, chosen, name, put_body(payload, frames)), frames)
        return chosen

    async def keep(self, digest: bytes, payload: Payload) -> None:
        """Make a packed callable or value known under its digest; calling again is nothing."""
        if self._kept.add(digest, payload):
            await self._put([(digest, payload)])

    async def submit(self, calls: Sequence[tuple[bytes, PackedCall]], limits: TaskLimits) -> list[Submitted]:
        """Submit calls under their tasks' ids and return what became of each, in order; the same id is the same task.

        All have `limits`, whatever their own say. What was `keep`-ed and the dispatcher has forgotten is given again.
        """
        answers = await self._submit_once(calls, limits)
        missing = [index for index, one in enumerate(answers) if one.code == MissingPayloadError.code]
        named = {digest for index in missing for digest in (calls[index][1].function, *calls[index][1].refs)} - {
            CALL_IN_PAYLOAD
        }
        kept = self._kept.of(named)
        if kept:
            await self._put(kept)
            again = await self._submit_once([calls[index] for index in missing], limits)
            for index, answer in zip(missing, again, strict=True):
                answers[index] = answer
        return answers

    async def fetch(self, task_ids: Sequence[bytes], *, bodies: bool = True) -> list[TaskView]:
        """Return what is known of tasks, in order; the state of one that is not known is "UNKNOWN"."""
        _check_ids(task_ids, "task_ids")
        views: list[TaskView] = []
        parts = [task_ids[first : first + _IDS_MAX] for first in range(0, len(task_ids), _IDS_MAX)][::-1]
        while parts:
            part = parts.pop()
            try:
                message, frames = await self._ask(Fetch(0, list(part), bodies))
            except InvalidArgumentError:
                # Their results are too long for one message.
                if len(part) == 1:
                    raise
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
            else:
                views += [view_of(row, frames) for row in cast("Answers", message).rows]
        return views

    async def watch(
        self, task_ids: Sequence[bytes], timeout_s: float, *, bodies: bool = True
    ) -> AsyncIterator[TaskView]:
        """Yield each task once, when it has ended or is not known; end with the last one, or after `timeout_s`.

        Those that have ended already come first. Leaving early costs nothing.
        """
        _check_ids(task_ids, "task_ids")
        until = time.monotonic() + max(0.0, min(timeout_s, _SECONDS_MAX))
        watching = _Watching(dict.fromkeys(task_ids), until, bodies, asyncio.Queue())
        for task_id in watching.left:
            self._watched.setdefault(task_id, []).append(watching)
        try:
            await self._look(watching)
            while watching.left or not watching.views.empty():
                try:
                    async with asyncio.timeout(max(0.0, until - time.monotonic())):
                        view = await watching.views.get()
                except TimeoutError:
                    return
                yield await self._whole(view) if bodies else view
        finally:
            self._unwatch(watching)

    async def cancel(self, task_ids: Sequence[bytes], *, running: bool) -> list[str]:
        """Cancel tasks, running ones only with `running`, and return their states after that, in order.

        A task that is still QUEUED or RUNNING then and is being cancelled comes to its end soon.
        """
        _check_ids(task_ids, "task_ids")
        states: list[str] = []
        for first in range(0, len(task_ids), _IDS_MAX):
            message, _ = await self._ask(Cancel(0, list(task_ids[first : first + _IDS_MAX]), running))
            states += cast("Cancelling", message).states
        return states

    async def page(self, after: bytes = b"", limit: int = 100, state: str = "") -> list[TaskView]:
        """Return up to `limit` (1 to 1,000) tasks, without results, in the order of their acceptance.

        They come after the task `after` (the first: b""), and are of one state, or of all ("").
        """
        if not 1 <= limit <= _IDS_MAX:
            raise InvalidArgumentError(f"limit is {limit}; it is between 1 and {_IDS_MAX}")
        if after:
            _check_ids([after], "after")
        message, frames = await self._ask(ListTasks(0, after, limit, cast("Any", state)))
        return [view_of(row, frames) for row in cast("Page", message).rows]

    async def counts(self) -> Counts:
        """Return how much there is: tasks, workers, bytes."""
        message, _ = await self._ask(GetCounts(0))
        return cast("Counts", message)

    async def close(self) -> None:
        """End the connection. What was submitted runs on; what is still asked fails. Again is nothing."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in self._link.descriptors:
            self._loop.remove_reader(descriptor)
        for ticket in self._talk.open_requests():
            _fail(ticket, UnavailableError("the client was closed"))
        self._ready.cancel()
        self._link.close(self._talk.goodbye(abandon=False) if self._talk.attached else None)
        # What was sent last may still be on its way out.
        await self._loop.run_in_executor(None, self._context.term)

    # ---- requests

    async def _taken_in(self) -> None:
        await asyncio.wait([self._ready], timeout=_PATIENCE_S)
        if not self._ready.done():
            raise self._silence()
        self._ready.result()

    async def _ask(self, message: Request, frames: Sequence[Buffer] = ()) -> tuple[ClientReply, Sequence[Buffer]]:
        if self._closed:
            raise UnavailableError("the client was closed: connect again")
        if self._talk.failure is not None:
            raise self._talk.failure
        answer: asyncio.Future[tuple[ClientReply, Sequence[Buffer]]] = self._loop.create_future()
        ticket = self._talk.ask(message, frames, time.monotonic(), tag=answer)
        self._turn_soon()
        try:
            async with asyncio.timeout(_PATIENCE_S + ticket.nbytes / _SLOWEST_BYTES_PER_S):
                return await answer
        except TimeoutError:
            raise self._silence() from None
        finally:
            self._talk.forget(ticket)

    async def _put(self, kept: Iterable[tuple[bytes, Payload]]) -> None:
        for message, frames in put_requests(kept):
            await self._ask(message, frames)

    async def _submit_once(self, calls: Sequence[tuple[bytes, PackedCall]], limits: TaskLimits) -> list[Submitted]:
        _check_ids([task_id for task_id, _ in calls], "task_ids")
        for _, call in calls:
            check_payload(cast("Payload", call.body), "a call")
        row = limits_row(limits)
        answers: list[Submitted] = []
        for batch in batches(calls, _weight):
            frames: list[Buffer] = []
            tasks = [
                NewTask(task_id, call.function, put_body(cast("Payload", call.body), frames), list(call.refs), call.key)
                for task_id, call in batch
            ]
            message, _ = await self._ask(Submit(0, row, tasks), frames)
            answers += _submitted(batch, cast("SubmittedReply", message))
        return answers

    # ---- watching

    async def _look(self, watching: _Watching) -> None:
        """Ask for the ends that a watch waits for; they come as its views."""
        for watch in _watches(watching):
            await self._ask(watch)

    def _look_again(self, now: float) -> None:
        """On a new connection, perhaps to a new life of the dispatcher, ask for all that is being watched."""
        for ticket in self._talk.open_requests():
            if ticket.tag is None:
                self._talk.forget(ticket)
        for watching in {id(one): one for each in self._watched.values() for one in each}.values():
            for watch in _watches(watching):
                self._talk.ask(watch, (), now)

    def _unwatch(self, watching: _Watching) -> None:
        for task_id in watching.left:
            others = self._watched[task_id]
            others.remove(watching)
            if not others:
                del self._watched[task_id]

    def _arrived(self, rows: Sequence[TaskRow], frames: Sequence[Buffer]) -> None:
        for row in rows:
            if row.task_id not in self._watched:
                continue
            try:
                view = view_of(row, frames)
            except ProtocolError as error:
                # Whoever watches it is told UNKNOWN, and the others are told theirs.
                log.warning("the dispatcher at %s: task %s: %s", self._link.endpoint, row.task_id.hex(), error)
                view = TaskView(row.task_id, "UNKNOWN")
            for watching in self._watched.pop(row.task_id):
                del watching.left[row.task_id]
                watching.views.put_nowait(view)

    async def _whole(self, view: TaskView) -> TaskView:
        """Return the view with its result: where another watch wanted none, it has come without."""
        outcome = view.outcome
        if outcome is None or outcome.body is not None or outcome.kind == "failure" or view.state == "EXPIRED":
            return view
        return (await self.fetch([view.task_id]))[0]

    # ---- the connection

    def _turn_soon(self) -> None:
        """Take a turn when those who run now have asked what they want to ask: it goes out together."""
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._turn)

    def _follow(self) -> None:
        """Take what has become of the connection."""
        if not self._closed:
            for up in self._link.changes():
                if up:
                    self._talk.connected(time.monotonic())
                else:
                    self._talk.disconnected()
            self._turn()

    def _turn(self) -> None:
        """Send and take all there is. The socket's descriptor tells of a change once, so nothing may be left."""
        self._soon = False
        if self._closed:
            return
        talk = self._talk
        now = time.monotonic()
        for _ in range(_ROUNDS_MAX):
            if self._link.flush():
                for frames in talk.due(now):
                    self._link.put(frames)
            # Behind the last thing that was sent: sending, too, takes note of what has come.
            if not self._hear(now) and not self._link.can_flush:
                break
        else:
            self._turn_soon()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # While the socket is full nothing is due; that there is room again is told.
        due = now + _BLOCKED_S if self._link.blocked else talk.next_wakeup()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - now), self._turn)

    def _hear(self, now: float) -> bool:
        """Take what the dispatcher says; True if it said anything."""
        heard = False
        for _ in range(_DRAIN_MAX):
            frames = self._link.receive()
            if frames is None:
                break
            heard = True
            try:
                for answer in self._talk.take(frames, now):
                    self._handle(answer, now)
            except ProtocolError as error:
                log.warning("the dispatcher at %s: %s", self._link.endpoint, error)
            if self._talk.failure is not None:
                self._give_up(self._talk.failure)
        return heard

    def _handle(self, answer: Answer, now: float) -> None:
        if isinstance(answer, Ended):
            self._arrived(answer.rows, answer.frames)
        elif isinstance(answer, Replied):
            if isinstance(answer.ticket.message, Watch):
                self._arrived(cast("Answers", answer.message).rows, answer.frames)
            future = cast("asyncio.Future[Any] | None", answer.ticket.tag)
            if future is not None and not future.done():
                future.set_result((answer.message, answer.frames))
        elif isinstance(answer, Refused):
            _fail(answer.ticket, answer.error)
        else:
            if not self._ready.done():
                self._ready.set_result(None)
            if answer.again:
                self._look_again(now)

    def _give_up(self, error: StrataError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
        for ticket in self._talk.open_requests():
            _fail(ticket, error)

    def _silence(self) -> UnavailableError:
        endpoint = self._link.endpoint
        if self._talk.attached:
            return UnavailableError(f"the dispatcher at {endpoint} has not answered for {_PATIENCE_S:g} s: try again")
        return UnavailableError(
            f"no dispatcher answers at {endpoint}: start one there (strata functions up), or look at the address"
        )


def _submitted(batch: Sequence[tuple[bytes, PackedCall]], reply: SubmittedReply) -> list[Submitted]:
    answers = [Submitted(task_id) for task_id, _ in batch]
    for existing in reply.existing:
        if existing.index < len(batch):
            answers[existing.index] = Submitted(existing.task_id)
    for one in reply.refused:
        if one.index < len(batch):
            answers[one.index] = Submitted(batch[one.index][0], one.code, one.message, one.retry_after_s)
    return answers


def _watches(watching: _Watching) -> Iterator[Watch]:
    left = list(watching.left)
    for first in range(0, len(left), _IDS_MAX):
        for_s = max(0.0, watching.until - time.monotonic())
        yield Watch(0, left[first : first + _IDS_MAX], for_s, watching.bodies)


def _weight(one: tuple[bytes, PackedCall]) -> tuple[int, int, int]:
    inline, frames, nbytes = payload_weight(cast("Payload", one[1].body))
    return inline + 20 * len(one[1].refs) + 4 * len(one[1].key), frames, nbytes


def _fail(ticket: Ticket, error: StrataError) -> None:
    future = cast("asyncio.Future[Any] | None", ticket.tag)
    if future is not None and not future.done():
        future.set_exception(error)


def _check_ids(ids: Iterable[bytes], field: str) -> None:
    for one in ids:
        if len(one) != ID_BYTES:
            raise InvalidArgumentError(f"{field}: an id has {len(one)} bytes; it is {ID_BYTES} bytes, as a UUID's")
