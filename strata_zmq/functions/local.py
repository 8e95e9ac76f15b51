"""The engine of a local executor: the dispatcher's core and a pool of children, driven by one thread of this process.

Callers append and, only if the thread sleeps, wake it; everything else happens in that thread, in batches. It packs and
loads nothing: bodies and results pass through as they are.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import math
import os
import select
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from strata_zmq.domain.task import FINAL, Outcome, Payload, Task
from strata_zmq.errors import (
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
    WorkerFailure,
)
from strata_zmq.functions.calls import PackedCall, Resolver, payload_digest
from strata_zmq.functions.dispatch.core import Core, CoreConfig
from strata_zmq.functions.dispatch.effects import Effects, Verdicts
from strata_zmq.functions.dispatch.events import (
    Attached,
    Attempt,
    CancelAsked,
    Event,
    Finished,
    ResultsSeen,
    Started,
    Submitted,
    WorkerEnlisted,
)
from strata_zmq.functions.pool.entry import CHILD_PROGRAM
from strata_zmq.functions.pool.options import PoolOptions, PoolTurn
from strata_zmq.functions.pool.pool import ChildPool
from strata_zmq.functions.pool.segments import SegmentPool, SharedParts
from strata_zmq.functions.waiting import Waiting

__all__ = ["CALLS_MAX", "LocalEngine"]

CALLS_MAX = 1_000_000
"""Calls that may wait or run at a time."""

_CLIENT = "local"
_SESSION = 1
_FOR_EVER_S = 1e9
"""The pool lives in this process: it has no lease that could run out."""
_NAP_MAX_S = 3600.0
"""poll takes no more than 24 days."""
_LAST_WORDS_S = 1.0
"""How long children may still take once it is known that they fail."""

_log = logging.getLogger(__name__)


class _Withdrawal:
    """A caller's wish to cancel one call, and its answer."""

    __slots__ = ("answer", "answered", "given_up", "running", "task_id")

    def __init__(self, task_id: bytes, running: bool) -> None:
        self.task_id = task_id
        self.running = running
        self.answered = threading.Event()
        self.answer = False
        self.given_up = False


class LocalEngine:
    """Runs calls in children of this process; an Engine. Its thread starts with the first call."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._pool = ChildPool(options)
        self._segments = SegmentPool()
        self._core = Core(
            CoreConfig(
                lease_s=_FOR_EVER_S,
                client_lease_s=_FOR_EVER_S,
                queue_tasks_max=CALLS_MAX,
                queue_bytes_max=sys.maxsize,
                results_bytes_max=sys.maxsize,
                worker_bytes_max=sys.maxsize,
                tombstone_s=0.0,
            )
        )
        self._names = itertools.count(1)
        self._prefix = os.urandom(8)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Not closed by the thread at its end: a caller may be about to ring.
        weakref.finalize(self, os.close, self._bell)
        # Appended to by callers, taken from by the thread. A payload is kept before a call that needs it is incoming.
        self._kept: deque[tuple[bytes, bytes | SharedParts]] = deque()
        self._incoming: deque[Task] = deque()
        self._withdrawals: deque[_Withdrawal] = deque()
        self._waiting = Waiting(self._segments)
        self._live = self._waiting.live
        # What the core is told with its next step.
        self._started: list[Attempt] = []
        self._finished: list[Outcome] = []
        self._cancelled: list[bytes] = []
        self._core_due = math.inf
        # Held while the thread is started or told to end, and while a call is added: none is added to an ended engine.
        self._gate = threading.RLock()
        self._asleep = False
        self._closing = False
        self._cancel_pending = False
        self._thread: threading.Thread | None = None
        self.broken = ""
        """Why nothing can run any more; empty while it can."""

    # ---- callers ----------------------------------------------------------------------------------------------------

    def keep(self, digest: bytes, payload: Payload) -> None:
        """Make a packed callable or value known to the children; its buffers are copied before this returns."""
        self._check_open()
        if isinstance(payload, tuple):
            self._kept.append((digest, self._segments.store(bytes(payload[0]), _views(payload))))
        else:
            self._kept.append((digest, payload))

    def submit(self, calls: list[tuple[PackedCall, Resolver]]) -> list[bytes]:
        """Take calls in their order; large buffers are copied before this returns."""
        tasks = [self._task(call) for call, _ in calls]
        with self._gate:
            try:
                self._check_open()
                self._check_room(len(tasks))
            except BaseException:
                self._waiting.release([task.task_id for task in tasks])
                raise
            for task, (_, resolver) in zip(tasks, calls, strict=True):
                self._live[task.task_id] = resolver
            self._incoming.extend(tasks)
            if self._thread is None:
                self._start()
        self._wake()
        return [task.task_id for task in tasks]

    def cancel(self, task_id: bytes, *, running: bool, timeout_s: float) -> bool:
        """Withdraw a call that no child has begun, or kill its child with `running`; True if it gives no result."""
        if task_id not in self._live:
            return False
        if threading.current_thread() is self._thread:
            return self._withdraw(task_id, running)
        wish = _Withdrawal(task_id, running)
        self._withdrawals.append(wish)
        self._wake()
        if timeout_s <= 0:
            return False
        if not wish.answered.wait(timeout_s):
            with self._gate:  # either it is too late for the answer, or it is there now
                wish.given_up = not wish.answered.is_set()
        return wish.answer

    def shutdown(self, *, wait: bool, cancel_pending: bool) -> None:
        """Take nothing new; the thread ends when every call has, and with it the children."""
        with self._gate:
            self._cancel_pending |= cancel_pending
            never_started = self._thread is None and not self._closing
            self._closing = True
            thread = self._thread
        if never_started:
            self._release_all()
        self._wake()
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def processes(self) -> dict[int, BaseProcess]:
        """Return the children by their process ids."""
        return self._pool.processes()

    def disown(self) -> None:
        """Be of no use in a process that was forked from this engine's; for that process's one thread."""
        self._gate = threading.RLock()
        self._closing = True
        self.broken = "the executor belongs to the process that this one was forked from: make another one here"

    def _check_open(self) -> None:
        if self.broken:
            raise WorkerFailure(self.broken, cause="initializer")
        if self._closing:
            raise UnavailableError("executor: it is shut down")

    def _check_room(self, calls: int) -> None:
        if len(self._live) + calls > CALLS_MAX:
            raise ResourceExhaustedError(
                f"calls: {CALLS_MAX} are waiting or running already; wait for some of their results"
            )

    def _task(self, call: PackedCall) -> Task:
        if call.limits.durability != "none":
            raise InvalidArgumentError(
                f"durability {call.limits.durability!r}: a local executor's calls end with its process;"
                " give the address of a dispatcher to have them kept"
            )
        task_id = self._prefix + next(self._names).to_bytes(8, "big")
        body = call.body
        key_digest = payload_digest(_whole(call)) if call.key else b""
        if type(body) is tuple:
            body = self._waiting.parts[task_id] = self._segments.store(body[0], _views(body))
        size = body.nbytes if isinstance(body, SharedParts) else len(body)  # type: ignore[arg-type]
        return Task(task_id, _CLIENT, call.function, body, size, call.limits, call.refs, call.key, key_digest)

    def _start(self) -> None:
        """Start the thread; children that are forked are forked before it runs, as the stock pool does it."""
        context = self._options.context
        if context is not None and context.get_start_method(allow_none=False) == "fork":
            # A module that another thread is importing stays locked in the child for ever: no child has to import any.
            importlib.import_module(CHILD_PROGRAM)
            self._pool.start()
        self._thread = threading.Thread(target=self._run, name="strata-executor")
        self._thread.start()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._bell, 1)

    # ---- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - whoever waits for a result must learn of it
            _log.exception("a local executor's thread failed")
            self._break(f"the executor's own thread failed: {type(error).__name__}: {error}")
        finally:
            self._release_all()

    def _serve(self) -> None:
        enlisted = WorkerEnlisted(
            session=_SESSION,
            worker_id=_CLIENT,
            slots=self._options.children,
            mode="push",
            labels={"gpu": len(self._options.gpus)} if self._options.gpus else {},
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
        )
        self._core.step([Attached(_CLIENT), enlisted], time.monotonic())
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        poller.register(self._pool.fileno(), select.POLLIN)
        turn = PoolTurn()
        while True:
            broken = turn.broken
            turn = self._advance(turn)
            if broken or turn.broken:
                # Those who ended it may still be saying why; whoever waits for a result learns of it when they have.
                self._pool.close(timeout_s=_LAST_WORDS_S)
                self._break(f"children cannot be started: {broken or turn.broken}")
                return
            if turn.outcomes or self._asked() or self._behind():
                continue
            if self._closing and self._ended():
                return
            turn = self._listen(poller)

    def _listen(self, poller: select.poll) -> PoolTurn:
        """Sleep until there is something that the core has to be told of, and return what the pool says."""
        while self._sleep(poller):
            turn = self._pool_turn(time.monotonic())
            if not self._last_results(turn):
                return turn
        return PoolTurn()

    def _pool_turn(self, now: float) -> PoolTurn:
        turn = self._pool.turn(now, self._waiting.begin)
        self._started += turn.started
        return turn

    def _last_results(self, turn: PoolTurn) -> bool:
        """Deliver results after which nothing is left to decide: the core is told of them when there is.

        Whoever makes one call after the other waits for nothing else.
        """
        if turn.broken or self._asked() or self._deadlines() or not self._waiting.deliver_last(turn.outcomes):
            return False
        self._finished += turn.outcomes
        self._started.clear()  # all that has started is among them: an end implies the start
        return True

    def _asked(self) -> bool:
        """Say whether a caller waits for this thread to do something."""
        return bool(self._incoming or self._withdrawals or self._cancelled or self._cancel_pending)

    def _ended(self) -> bool:
        with self._gate:
            return self._closing and self._waiting.over

    def _advance(self, turn: PoolTurn) -> PoolTurn:
        """Tell the core what happened, hand out what it assigned, and only then wake those who wait for results."""
        now = time.monotonic()
        if self._withdrawals:
            self._answer_withdrawals()
        submitted = [self._incoming.popleft() for _ in range(len(self._incoming))]
        while self._kept:
            self._pool.keep(*self._kept.popleft())
        events = self._events(turn, submitted)
        if not events and self._core_due > now:
            return PoolTurn()
        effects = self._core.step(events, now)
        due = self._core.next_wakeup()
        self._core_due = math.inf if due is None else due
        return self._perform(effects, submitted, now)

    def _events(self, turn: PoolTurn, submitted: Sequence[Task]) -> list[Event]:
        """Return what the core is to be told, in its order; nothing where all that there is can wait."""
        if self._cancel_pending:
            self._cancel_pending = False
            self._cancelled.extend(self._live)
        if not (turn.outcomes or submitted or self._cancelled or self._behind() or self._waiting.much_seen):
            return []
        events: list[Event] = []
        if self._started:
            events.append(Started(_SESSION, self._started))
            self._started = []
        if self._finished or turn.outcomes:
            events.append(Finished(_SESSION, self._finished + turn.outcomes))
            self._finished = []
        if submitted:
            events.append(Submitted(_CLIENT, 0, submitted))
        if self._cancelled:
            events.append(CancelAsked(_CLIENT, 0, self._cancelled, False))
            self._cancelled = []
        if self._waiting.seen:
            events.append(ResultsSeen(_CLIENT, self._waiting.take_seen()))
        return events

    def _behind(self) -> bool:
        """Say whether the core has to be told now of what could wait: it decides by the clock."""
        return bool(self._started) and self._deadlines()

    def _deadlines(self) -> bool:
        """Say whether the core may be about to end a call by the clock: then it has to know what has started."""
        return self._core_due < time.monotonic() + _NAP_MAX_S

    def _perform(self, effects: Effects, submitted: Sequence[Task], now: float) -> PoolTurn:
        for attempts in effects.stopped.values():
            for task_id, attempt in attempts:
                self._pool.stop(task_id, attempt)
        turn = PoolTurn()
        assigned = effects.assigned.get(_SESSION)
        if assigned:
            self._pool.offer(assigned, now)
        if assigned or effects.stopped:
            turn = self._pool_turn(now)
        for verdict in effects.verdicts:
            if isinstance(verdict, Verdicts):
                self._waiting.settle(verdict, submitted, self._core.find)
        for tasks in effects.results.values():
            self._waiting.deliver(tasks)
        for line in effects.notes:
            _log.info("%s", line)
        return turn

    def _answer_withdrawals(self) -> None:
        while self._withdrawals:
            wish = self._withdrawals.popleft()
            with self._gate:
                if not wish.given_up:
                    wish.answer = self._withdraw(wish.task_id, wish.running)
                    wish.answered.set()

    def _withdraw(self, task_id: bytes, running: bool) -> bool:
        """Take a call back from wherever it is; its outcome, when it comes, is nobody's any more."""
        task = self._core.find(task_id)
        if (task is not None and task.state in FINAL) or task_id not in self._live:
            return False
        if task is None or not task.worker:
            self._cancelled.append(task_id)
        elif not running and self._pool.phase(task_id, task.attempt) == "running":
            return False
        elif self._pool.stop(task_id, task.attempt) == "unknown":
            return False  # it has ended: its result is on the way
        del self._live[task_id]
        return True

    def _sleep(self, poller: select.poll) -> bool:
        """Wait for a caller, a child or the clock; True if the pool may have something to say."""
        self._asleep = True
        if self._asked() or (self._closing and self._waiting.over):  # by somebody who saw this thread awake
            self._asleep = False
            return False
        pool_due = self._pool.next_wakeup()
        due = self._core_due if pool_due is None else min(self._core_due, pool_due)
        ready = poller.poll(None if due == math.inf else min(max(0.0, due - time.monotonic()), _NAP_MAX_S) * 1000)
        self._asleep = False
        for descriptor, _ in ready:
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
                return len(ready) > 1
        return True

    def _break(self, why: str) -> None:
        """Fail what is left: nothing can run any more."""
        with self._gate:
            self.broken = why
            self._closing = True
        self._waiting.fail_all(WorkerFailure(why, cause="initializer"))

    def _release_all(self) -> None:
        self._pool.close(kill=bool(self.broken))
        self._waiting.release(list(self._waiting.parts))
        self._segments.close()


def _views(payload: tuple[bytes | bytearray | memoryview, ...]) -> list[memoryview]:
    return [memoryview(part) for part in payload[1:]]


def _whole(call: PackedCall) -> Payload:
    """Return what makes a call the same call: the function, the references and the arguments."""
    body = call.body if isinstance(call.body, tuple) else (call.body,)
    return (call.function, *call.refs, *body)
