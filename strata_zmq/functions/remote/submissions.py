"""The tasks of one engine, each from its submission to its one end; sans-IO, beneath it only the conversation.

A task waits here until the dispatcher has room for it, is submitted in a batch, and belongs to the dispatcher once that
is confirmed. From then on its end is told without being asked; after a reconnect the dispatcher is asked for the ends
of all of them, so that none is waited for that it does not know.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Outcome, OutcomeReport, Payload
from strata_zmq.errors import MissingPayloadError, ProtocolError, ResultExpiredError, StrataError, from_wire
from strata_zmq.functions.calls import PackedCall, Resolver
from strata_zmq.functions.failures import failure_of
from strata_zmq.functions.wire import Buffer, batches, limits_row, outcome_of, payload_weight, put_body
from strata_zmq.protocol.functions import (
    Answers,
    Cancel,
    Cancelling,
    Existing,
    NewTask,
    Submit,
    SubmittedReply,
    TaskRow,
    Watch,
)

from .conversation import ClientConversation, Ended, Refused, Replied, Ticket
from .kept import KeptPayloads, put_requests

__all__ = ["Item", "Submissions"]

log = logging.getLogger("strata.functions")

_BATCH = 1000
_UNCONFIRMED_MAX = 16
"""Most submissions without an answer; more would only wait in sockets."""
_UNCONFIRMED_BYTES_MAX = 64 * 2**20
_WATCH_S = 86_400.0 * 30
_FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_HOLD_MIN_S = 0.05


class Item:
    """One task. `call` is here until the dispatcher has it; `verdict` is called with whether a cancellation held."""

    __slots__ = (
        "begun",
        "call",
        "followed",
        "nbytes",
        "put_again",
        "resolver",
        "running",
        "task_id",
        "ticket",
        "verdict",
    )

    def __init__(self, task_id: bytes, call: PackedCall, nbytes: int, resolver: Resolver) -> None:
        self.task_id = task_id
        self.call: PackedCall | None = call
        self.nbytes = nbytes
        self.resolver = resolver
        self.begun = False
        self.put_again = False
        self.ticket: Ticket | None = None
        """The submission that it travels in and that is not answered."""
        self.followed = b""
        """The task that its key stood for already: its end is this one's, too."""
        self.verdict: Callable[[bool], bool] | None = None
        self.running = False


class Submissions:
    """All tasks of an engine without an end; `released` is told how many bytes of calls need not be held any more."""

    def __init__(
        self, conversation: ClientConversation, kept: KeptPayloads, released: Callable[[int, int], None]
    ) -> None:
        self._talk = conversation
        self._kept = kept
        self._released = released
        self._items: dict[bytes, Item] = {}
        self._queue: deque[Item] = deque()
        self._followers: dict[bytes, list[Item]] = {}
        self.unconfirmed = 0
        """Submissions without an answer."""
        self._unconfirmed_bytes = 0
        self._hold_until = 0.0
        self._watches: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._items)

    # ---- from the engine's callers

    def add(self, items: Iterable[Item]) -> None:
        """Take new tasks, in their order."""
        for item in items:
            self._items[item.task_id] = item
            self._queue.append(item)

    def submit(self, now: float) -> None:
        """Ask the dispatcher to take what waits, as far as there is room."""
        if not self._queue or not self._talk.attached or now < self._hold_until:
            return
        while (
            self._queue
            and self.unconfirmed < _UNCONFIRMED_MAX
            and (self._unconfirmed_bytes < _UNCONFIRMED_BYTES_MAX or not self.unconfirmed)
        ):
            run = self._next_run()
            for batch in batches(run, _weight, rows_max=_BATCH):
                self._ask_for(batch, now)

    def next_wakeup(self, now: float) -> float | None:
        """Return when `submit` has something to do that it had not before; None: nothing but an answer changes that."""
        return self._hold_until if self._queue and now < self._hold_until else None

    def cancel(self, task_id: bytes, now: float, *, running: bool, verdict: Callable[[bool], bool] | None) -> None:
        """Withdraw a task, or kill it with `running`. `verdict(True)` says that it will never give a result.

        If nobody wants to hear that any more, `verdict` returns False, and the end is told to the resolver.
        """
        item = self._items.get(task_id)
        if item is None:
            if verdict is not None:
                verdict(False)
            return
        _decide(item, held=False)
        item.verdict, item.running = verdict, running
        if item.followed:
            self._unfollow(item)
        elif item.call is not None and item.ticket is None:
            self._cancelled(item)
        elif item.ticket is None:
            self._talk.ask(Cancel(0, [task_id], running), (), now, tag=[item])
        # Else it is not known yet whether there is anything to cancel: the answer to its submission says so.

    def cancel_all(self, now: float) -> None:
        """Withdraw every task that has not started."""
        there: list[Item] = []
        for item in list(self._items.values()):
            if item.followed:
                self._unfollow(item)
            elif item.call is not None and item.ticket is None:
                self._cancelled(item)
            elif item.ticket is None and item.verdict is None:
                there.append(item)
            elif item.ticket is not None and item.verdict is None:
                item.verdict = _nobody
        for first in range(0, len(there), _BATCH):
            part = there[first : first + _BATCH]
            self._talk.ask(Cancel(0, [item.task_id for item in part]), (), now, tag=part)

    def fail_all(self, error: StrataError) -> None:
        """Give all tasks up: nobody is there who could run them."""
        items, self._items = self._items, {}
        for ticket in self._talk.open_requests():
            self._talk.forget(ticket)
        self._queue.clear()
        self._followers.clear()
        self._watches.clear()
        self.unconfirmed = self._unconfirmed_bytes = 0
        for item in items.values():
            self._let_go(item)
            _decide(item, held=False)
            item.resolver.fail(error)

    # ---- from the dispatcher

    def attached_again(self, now: float) -> None:
        """On a new connection: what is unconfirmed is submitted again, and the ends of all the rest are asked for."""
        for ticket in self._watches:
            self._talk.forget(ticket)
        self._watches.clear()
        for ticket in self._talk.open_requests():
            if isinstance(ticket.message, Submit):
                self._trim(ticket)
        there = [item.task_id for item in self._items.values() if item.call is None and not item.followed]
        there += [task_id for task_id in self._followers if task_id not in self._items]
        self._watch(there, now)

    def replied(self, reply: Replied, now: float) -> None:
        """Take the answer to a request of this class."""
        message = reply.message
        if isinstance(message, SubmittedReply):
            self._submitted(reply.ticket, message, now)
        elif isinstance(message, Cancelling):
            self._cancelling(reply.ticket, message)
        elif isinstance(message, Answers):
            self._watches = [ticket for ticket in self._watches if ticket is not reply.ticket]
            self.ended(Ended(message.rows, reply.frames))

    def refused(self, refusal: Refused) -> None:
        """Take the refusal of a whole request."""
        message, tag = refusal.ticket.message, refusal.ticket.tag
        if isinstance(message, Submit):
            self._confirm(refusal.ticket)
            for item in cast("list[Item]", tag):
                if item.task_id in self._items:
                    self._fail(item, refusal.error)
        elif isinstance(message, Cancel):
            for item in cast("list[Item]", tag):
                _decide(item, held=False)
        else:
            log.warning("%s was refused: %s", type(message).__name__, refusal.error)

    def ended(self, ended: Ended) -> None:
        """Take the ends of tasks; those that are known already change nothing."""
        frames = ended.frames
        for row in ended.rows:
            item = self._items.pop(row.task_id, None)
            if item is not None:
                self._end(item, row, frames)
            if self._followers:
                for follower in self._followers.pop(row.task_id, ()):
                    del self._items[follower.task_id]
                    self._end(follower, row, frames)

    # ---- inside

    def _next_run(self) -> list[Item]:
        """Take from the queue what travels under the same limits."""
        run: list[Item] = []
        nbytes, limits, queue, items = 0, None, self._queue, self._items
        while queue and len(run) < _BATCH and nbytes <= _UNCONFIRMED_BYTES_MAX:
            item = queue[0]
            call = item.call
            if call is None or item.task_id not in items:
                queue.popleft()
                continue
            if limits is None:
                limits = call.limits
            elif call.limits is not limits and call.limits != limits:
                break
            queue.popleft()
            if not item.begun:
                if not item.resolver.begin():
                    self._let_go(self._items.pop(item.task_id))
                    continue
                item.begun = True
            nbytes += item.nbytes
            run.append(item)
        return run

    def _ask_for(self, batch: list[Item], now: float) -> None:
        frames: list[Buffer] = []
        message = _submission(batch, frames)
        ticket = self._talk.ask(message, frames, now, tag=batch)
        self.unconfirmed += 1
        self._unconfirmed_bytes += ticket.nbytes
        for item in batch:
            item.ticket = ticket

    def _trim(self, ticket: Ticket) -> None:
        """Leave out what has ended meanwhile: a dispatcher that does not remember would run it again."""
        batch = cast("list[Item]", ticket.tag)
        left = [item for item in batch if item.task_id in self._items]
        if len(left) == len(batch):
            return
        if not left:
            self._confirm(ticket)
            self._talk.forget(ticket)
            return
        frames: list[Buffer] = []
        ticket.tag = left
        self._talk.replace(ticket, _submission(left, frames), frames)

    def _confirm(self, ticket: Ticket) -> None:
        self.unconfirmed -= 1
        self._unconfirmed_bytes -= ticket.nbytes

    def _submitted(self, ticket: Ticket, message: SubmittedReply, now: float) -> None:
        self._confirm(ticket)
        batch = cast("list[Item]", ticket.tag)
        aside: set[int] = set()
        if message.refused or message.existing:
            aside = self._set_aside(batch, message, now)
        freed = count = 0
        for index, item in enumerate(batch):
            item.ticket = None
            if index in aside:
                continue
            if item.call is not None:
                item.call = None
                freed += item.nbytes
                count += 1
            if item.verdict is not None and item.task_id in self._items:
                self._talk.ask(Cancel(0, [item.task_id], item.running), (), now, tag=[item])
        self._released(count, freed)

    def _set_aside(self, batch: list[Item], message: SubmittedReply, now: float) -> set[int]:
        """Handle what was not simply accepted; return its indices."""
        aside: set[int] = set()
        again: list[Item] = []
        for refusal in message.refused:
            if refusal.index >= len(batch) or batch[refusal.index].task_id not in self._items:
                continue
            item = batch[refusal.index]
            item.ticket = None
            aside.add(refusal.index)
            if item.verdict is not None:
                self._cancelled(item)
            elif refusal.code == "resource_exhausted" and refusal.retry_after_s > 0:
                self._hold_until = max(self._hold_until, now + max(refusal.retry_after_s, _HOLD_MIN_S))
                again.append(item)
            elif refusal.code == MissingPayloadError.code and self._put_again(item, now):
                again.append(item)
            else:
                self._fail(item, from_wire(refusal.code, refusal.message))
        self._queue.extendleft(reversed(again))
        self._follow(batch, message.existing, now)
        return aside

    def _put_again(self, item: Item, now: float) -> bool:
        """Give the dispatcher what the call refers to once more; False where that has been tried, or is not here."""
        call = item.call
        if call is None or item.put_again:
            return False
        item.put_again = True
        digests = [digest for digest in (call.function, *call.refs) if digest != CALL_IN_PAYLOAD]
        kept = self._kept.of(digests)
        for message, frames in put_requests(kept):
            self._talk.ask(message, frames, now)
        return bool(kept)

    def _follow(self, batch: Sequence[Item], existing: Sequence[Existing], now: float) -> None:
        """Wait for the ends of tasks that keys stood for already."""
        for one in existing:
            item = batch[one.index] if one.index < len(batch) else None
            if item is not None and item.task_id != one.task_id and item.task_id in self._items:
                item.followed = one.task_id
                self._followers.setdefault(one.task_id, []).append(item)
        self._watch([one.task_id for one in existing], now)

    def _unfollow(self, item: Item) -> None:
        """Its own end does not touch the task that others asked for, too."""
        self._followers[item.followed].remove(item)
        self._cancelled(item)

    def _watch(self, task_ids: Sequence[bytes], now: float) -> None:
        for first in range(0, len(task_ids), _BATCH):
            watch = Watch(0, list(task_ids[first : first + _BATCH]), _WATCH_S)
            self._watches.append(self._talk.ask(watch, (), now))

    def _cancelling(self, ticket: Ticket, message: Cancelling) -> None:
        for item, state in zip(cast("list[Item]", ticket.tag), message.states, strict=False):
            if item.task_id not in self._items:
                continue
            if state == "CANCELLED":
                self._cancelled(item)
            elif state in {"UNKNOWN", "EXPIRED"}:
                del self._items[item.task_id]
                self._end(item, TaskRow(item.task_id, state), ())
            elif state in _FINAL or (state == "RUNNING" and not item.running):
                _decide(item, held=False)
            # Else it is being cancelled, and its end says how that went.

    def _cancelled(self, item: Item) -> None:
        """The task is no more: who cancelled it hears that, or else its resolver does."""
        self._items.pop(item.task_id, None)
        self._let_go(item)
        if not _decide(item, held=True):
            item.resolver.resolve(Outcome(item.task_id, 0, "failure", None, 0.0, "cancelled", started=False))

    def _end(self, item: Item, row: TaskRow, frames: Sequence[Buffer]) -> None:
        self._let_go(item)
        try:
            outcome = _outcome(row, frames, self._talk)
        except StrataError as error:
            _decide(item, held=False)
            item.resolver.fail(error)
            return
        outcome.task_id = item.task_id
        held = outcome.cause == "cancelled"
        if not _decide(item, held=held) or not held:
            item.resolver.resolve(outcome)

    def _fail(self, item: Item, error: StrataError) -> None:
        del self._items[item.task_id]
        self._let_go(item)
        _decide(item, held=False)
        item.resolver.fail(error)

    def _let_go(self, item: Item) -> None:
        """Forget what was only held in order to be submitted again."""
        if item.call is not None:
            item.call = None
            self._released(1, item.nbytes)


def _weight(item: Item) -> tuple[int, int, int]:
    call = cast("PackedCall", item.call)
    inline, frames, nbytes = payload_weight(cast("Payload", call.body))
    return inline + 20 * len(call.refs) + 4 * len(call.key), frames, nbytes


def _submission(batch: Sequence[Item], frames: list[Buffer]) -> Submit:
    tasks = []
    limits = cast("PackedCall", batch[0].call).limits
    for item in batch:
        call = cast("PackedCall", item.call)
        body = put_body(cast("Payload", call.body), frames)
        tasks.append(NewTask(item.task_id, call.function, body, list(call.refs) if call.refs else [], call.key))
    return Submit(0, limits_row(limits), tasks)


def _outcome(row: TaskRow, frames: Sequence[Buffer], talk: ClientConversation) -> Outcome:
    """Return how a task ended; an error where nobody can say it any more."""
    if row.outcome is not None and row.state in _FINAL:
        return outcome_of(row.outcome, frames)
    if row.state == "CANCELLED":
        return Outcome(row.task_id, row.attempt, "failure", None, 0.0, "cancelled", started=False)
    if row.state == "EXPIRED":
        raise ResultExpiredError(
            f"task {row.task_id.hex()} has ended, and what it came to was not kept: this client was not heard for"
            " longer than its lease, or the dispatcher is full of results; keep_s or durability 'commit' keep it"
        )
    if row.state == "UNKNOWN":
        text = (
            "the dispatcher was restarted, or has not heard of this client for longer than its lease: it does not know "
            "the task any more, which may have run; durability 'commit' outlives both"
        )
        report = OutcomeReport(text=text)
        raise failure_of(Outcome(row.task_id, row.attempt, "failure", None, 0.0, "worker_lost", report))
    raise ProtocolError(f"the dispatcher says that task {row.task_id.hex()} ended, and its state is {row.state}")


def _decide(item: Item, *, held: bool) -> bool:
    """Tell who asked for a cancellation, if anybody did; False if nobody takes the answer."""
    verdict, item.verdict = item.verdict, None
    return verdict is not None and verdict(held)


def _nobody(held: bool) -> bool:
    return False
