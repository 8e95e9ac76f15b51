"""A function worker's loop: from its dispatcher to its children and back. It loads nothing that it carries.

Nothing is handed to a child before the dispatcher was told so: who was not told of is free to run elsewhere. A durable
call that came ahead is asked for first, and waits for the answer that its beginning is written down. So a worker that
cannot speak, or that may have been taken for lost, hands nothing out until it has enlisted again.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from multiprocessing import get_context
from typing import Any

import zmq

from strata_zmq.domain.service import credit
from strata_zmq.domain.task import Outcome, Payload, TaskLimits
from strata_zmq.errors import ProtocolError, UnavailableError
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.pool.options import PoolOptions
from strata_zmq.functions.pool.pool import ChildPool
from strata_zmq.functions.wire import Buffer, body_of, limits_of
from strata_zmq.protocol import functions as wire

from .function_blobs import KeptBlobs
from .function_config import FunctionWorkerConfig
from .function_link import Link
from .function_turns import Turns

__all__ = ["FunctionWorker"]

log = logging.getLogger("strata.function_worker")

_ENLIST_AGAIN_S = 1.0
_CONNECT_AGAIN_S = 0.05
_GARBAGE_MIN = 50_000
"""New objects that the loop may leave behind before the garbage collector looks for cycles among them."""
_ALONE_S = 3.0
_ALONE_AGAIN_S = 60.0
_LEASE_S = 5.0
"""Until the dispatcher has named its own."""
_SURE = 2 / 3
"""The part of a lease after the dispatcher's last word in which the worker may still count on it."""


class _Call:
    """An attempt that the worker has; what a pool takes, and keeps as long as it is not handed out."""

    __slots__ = ("asks", "attempt", "body", "function", "limits", "refs", "task_id")

    def __init__(self, task: wire.AssignedTask, body: Payload, limits: TaskLimits) -> None:
        self.task_id = task.task_id
        self.attempt = task.attempt
        self.function = task.function
        self.refs = tuple(task.refs)
        self.body: object = body
        self.limits = limits
        self.asks = task.asks


class FunctionWorker:
    """One worker process: a connection, a pool of children, and the loop over them."""

    def __init__(self, config: FunctionWorkerConfig) -> None:
        self.config = config
        self._pool = ChildPool(
            PoolOptions(
                config.children,
                context=get_context("forkserver"),
                max_tasks_per_child=config.max_tasks_per_child or None,
                memory_bytes=config.memory_bytes,
                gpus=config.gpus,
                grow="all",
                worker_name=config.worker_id,
                packets_ahead=1,
            )
        )
        self._link = Link(config.dispatcher, config.curve_keys)
        self._blobs = KeptBlobs(self._pool, config.blob_bytes_max)
        self._turns = Turns()
        self._calls: dict[Attempt, _Call] = {}
        """What the pool has, or has refused for now."""
        self._parked: dict[Attempt, _Call] = {}
        """Those of them that wait until the dispatcher can be told of them."""
        self._unwanted: set[Attempt] = set()
        self._function = b""
        self._lease_s = _LEASE_S
        self._heard_at = self._looped_at = self._enlist_at = 0.0
        self._now = 0.0
        self._alone_at = math.inf
        """When the log says that nobody answers; inf: somebody does."""
        self._retiring_until = math.inf
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._asked_to_leave = 0
        self._on_enlisted: Callable[[], None] | None = None
        self._handlers: dict[type[Any], Callable[[Any, Sequence[Buffer]], None]] = {
            wire.Assign: self._assign,
            wire.Begin: self._begin,
            wire.Settled: self._settled,
            wire.Enlisted: self._enlisted,
            wire.Recall: self._recall,
            wire.StopTasks: self._stop_tasks,
            wire.Blobs: self._take_blobs,
            wire.Complaint: self._complaint,
        }

    def serve(self, on_enlisted: Callable[[], None] | None = None) -> None:
        """Work until `leave`; UnavailableError where no child can be started, or the dispatcher refuses the worker."""
        self._on_enlisted = on_enlisted
        try:
            self._pool.start()
            self._loop()
        finally:
            self._pool.close(kill=True)
            self._link.close()
            os.close(self._wake)

    def leave(self) -> None:
        """Ask the worker to finish what it runs and to end; asked again, it ends at once. Safe in a signal handler."""
        self._asked_to_leave += 1
        os.eventfd_write(self._wake, 1)

    # ---- the loop ----

    def _loop(self) -> None:
        poller = zmq.Poller()
        for one in (self._link.socket, self._pool.fileno(), self._wake):
            poller.register(one, zmq.POLLIN)
        # What a start leaves stays, and calls go by their reference counts: the collector would find nothing.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE_MIN)
        self._looped_at = time.monotonic()
        wait_s = 0.0
        while not self._has_left():
            poller.poll(math.ceil(wait_s * 1000))
            self._now = now = time.monotonic()
            self._see_myself(now)
            for message, frames in self._link.drain():
                # A session that is over speaks on for a while: what was under way when it ended.
                if getattr(message, "session", self._turns.session) == self._turns.session or _begins(message):
                    self._heard_at = now
                    self._take(message, frames)
            self._see_link(now)
            self._run(now)
            self._speak(now)
            wait_s = self._wait_s()

    def _take(self, message: wire.WorkerReply, frames: Sequence[Buffer]) -> None:
        try:
            self._handlers[type(message)](message, frames)
        except (ProtocolError, IndexError) as error:
            log.warning("a %s that cannot be followed, enlisting again: %s", type(message).__name__, error)
            self._turns.end()
            self._enlist_at = 0.0

    def _see_myself(self, now: float) -> None:
        """After a pause of the whole process the dispatcher may have given it up: nothing begins before it is asked."""
        if now - self._looped_at > self._lease_s / 2 and self._turns.session:
            log.warning("this worker stood still for %.1f s: enlisting again", now - self._looped_at)
            self._turns.end()
            self._enlist_at = 0.0
        self._looped_at = now

    def _see_link(self, now: float) -> None:
        """Keep what has not begun from beginning while nobody can be told, and enlist where there is no session."""
        if self._turns.session and now - self._heard_at >= self._lease_s:
            log.warning("nothing heard from %s for %.1f s: enlisting again", self.config.dispatcher, self._lease_s)
            self._turns.end()
        if not self._turns.session and now >= self._enlist_at:
            sent = self._link.send(self._enlistment())
            self._enlist_at = now + (_ENLIST_AGAIN_S if sent else _CONNECT_AGAIN_S)
            if self._alone_at == math.inf:
                self._alone_at = now + _ALONE_S
            elif now >= self._alone_at:
                log.warning("no dispatcher answers at %s: asking on", self.config.dispatcher)
                self._alone_at = now + _ALONE_AGAIN_S
        if self._sure(now):
            if self._parked:
                self._pool.offer(self._parked.values(), now)
                self._parked.clear()
        else:
            self._park(self._pool.withdraw(self._pool.waiting))

    def _run(self, now: float) -> None:
        turn = self._pool.turn(now, self._before)
        outcomes = turn.outcomes
        if outcomes:
            outcomes = self._wanted(outcomes)
            failpoint("worker.outcome.ready")
            self._turns.add(outcomes)
        if turn.returned:
            self._forget(turn.returned)
            self._turns.add((), turn.returned)
        if turn.asking:
            self._turns.ask(turn.asking, self._link.send, now)
        if turn.lacking and self._turns.session:
            for first in range(0, len(turn.lacking), wire.FRAMES_MAX):
                digests = turn.lacking[first : first + wire.FRAMES_MAX]
                self._link.send(wire.WantBlobs(self._turns.session, digests))
        if turn.broken:
            self._link.send(wire.Retire(self._turns.session, now=True))
            raise UnavailableError(f"no child can be started: {turn.broken}")

    def _before(self, attempts: list[Attempt]) -> Collection[Attempt]:
        """Tell the dispatcher what is about to begin; what cannot be told does not begin."""
        now = time.monotonic()
        self._turns.want = self._want()
        if now - self._now < self._lease_s / 2 and self._turns.tell_started(attempts, self._link.send, now):
            failpoint("worker.started.told")
            return ()
        self._park(attempts)
        return attempts

    def _speak(self, now: float) -> None:
        turns = self._turns
        want = self._want()
        more = want > turns.want
        turns.want = want
        if turns.flush(self._link.send, now):
            failpoint("worker.outcome.told")
        elif more:
            turns.beat(self._link.send, now)
        turns.look_after(self._link.send, now)

    def _wait_s(self) -> float:
        now = time.monotonic()
        if self._asked_to_leave and self._retiring_until == math.inf:
            return 0.0
        due = min(now + self._lease_s / 4, self._retiring_until)
        due = min(due, self._turns.next_due(now) if self._turns.session else self._enlist_at)
        pool_due = self._pool.next_wakeup()
        return max(0.0, (due if pool_due is None else min(due, pool_due)) - now)

    def _has_left(self) -> bool:
        """Go on, retire, or end."""
        if not self._asked_to_leave:
            return False
        now = time.monotonic()
        if self._retiring_until == math.inf:
            os.eventfd_read(self._wake)
            self._retiring_until = now + self.config.grace_s
            returned = [*self._pool.withdraw(self._pool.waiting), *self._parked]
            self._parked.clear()
            self._forget(returned)
            self._turns.add((), returned)
            if self._turns.session:
                self._link.send(wire.Retire(self._turns.session))
        done = not self._calls and self._turns.settled
        if done or now >= self._retiring_until or self._asked_to_leave > 1:
            if self._turns.session:
                self._link.send(wire.Retire(self._turns.session, now=True))
            return True
        return False

    # ---- what the dispatcher says ----

    def _enlisted(self, message: wire.Enlisted, frames: Sequence[Buffer]) -> None:
        self._lease_s = message.lease_s
        self._alone_at = math.inf
        self._turns.heartbeat_s = message.heartbeat_s
        dropped = {(one.task_id, one.attempt) for one in message.drop}
        self._turns.begin(message.session, dropped)
        for attempt in dropped:
            if self._parked.pop(attempt, None) is not None:
                self._calls.pop(attempt, None)
            elif attempt in self._calls:
                self._unwanted.add(attempt)
                self._pool.stop(*attempt)
        log.info("enlisted as %s, session %d, with %s", self.config.worker_id, message.session, self.config.dispatcher)
        if self._retiring_until < math.inf:
            self._link.send(wire.Retire(message.session))
        elif self.config.mode == "pull":
            self._turns.want = 0
        if self._on_enlisted is not None:
            self._on_enlisted()
            self._on_enlisted = None

    def _assign(self, message: wire.Assign, frames: Sequence[Buffer]) -> None:
        if message.number != self._turns.received + 1:
            log.warning("ASSIGN %d is missing: enlisting again", self._turns.received + 1)
            self._turns.end()
            self._enlist_at = 0.0
            return
        self._turns.received = message.number
        failpoint("worker.assign.taken")
        for blob in message.blobs:
            self._blobs.keep(blob.digest, body_of(blob.body, frames))
        limits = [limits_of(row) for row in message.limits]
        calls = [_Call(task, body_of(task.body, frames), limits[task.limits]) for task in message.tasks]
        self._blobs.touch({call.function for call in calls})
        for call in calls:
            self._calls[(call.task_id, call.attempt)] = call
        self._function = calls[-1].function if calls else b""
        if self._retiring_until < math.inf:
            returned = [(call.task_id, call.attempt) for call in calls]
            self._forget(returned)
            self._turns.add((), returned)
        else:
            self._pool.offer(calls, self._now)

    def _begin(self, message: wire.Begin, frames: Sequence[Buffer]) -> None:
        attempts = [(one.task_id, one.attempt) for one in message.tasks]
        for attempt in attempts:
            if attempt in self._calls:
                self._calls[attempt].asks = False
        self._pool.grant(attempts)

    def _settled(self, message: wire.Settled, frames: Sequence[Buffer]) -> None:
        self._turns.confirm(message.number)

    def _recall(self, message: wire.Recall, frames: Sequence[Buffer]) -> None:
        returned = self._pool.withdraw(message.count)
        if returned:
            self._forget(returned)
            self._turns.add((), returned)
        else:
            self._turns.beat(self._link.send, self._now)

    def _stop_tasks(self, message: wire.StopTasks, frames: Sequence[Buffer]) -> None:
        for one in message.tasks:
            attempt = (one.task_id, one.attempt)
            if self._parked.pop(attempt, None) is not None:
                del self._calls[attempt]
                self._turns.add([Outcome(*attempt, "failure", None, cause="cancelled", started=False)])
            else:
                self._pool.stop(*attempt)

    def _take_blobs(self, message: wire.Blobs, frames: Sequence[Buffer]) -> None:
        for blob in message.blobs:
            self._blobs.keep(blob.digest, body_of(blob.body, frames))
        for digest in message.missing:
            self._pool.give_up(digest)

    def _complaint(self, message: wire.Complaint, frames: Sequence[Buffer]) -> None:
        log.warning("the dispatcher complains: %s (%s)", message.message, message.code)
        if message.code == "unknown_session":
            # Without a session an enlistment is under way: what complains is older.
            if self._turns.session:
                self._turns.end()
                self._enlist_at = 0.0
        elif not self._turns.session:
            raise UnavailableError(f"{self.config.dispatcher} does not take this worker: {message.message}")

    # ---- helpers ----

    def _enlistment(self) -> wire.Enlist:
        config = self.config
        held = [wire.HeldTask(task_id, attempt, phase) for task_id, attempt, phase in self._pool.held()]
        held += [wire.HeldTask(*attempt, "waiting") for attempt in self._parked]
        held += [wire.HeldTask(*attempt, "done") for attempt in self._turns.done()]
        return wire.Enlist(
            *(config.worker_id, config.children, config.mode, config.python, config.labels, held),
            host=config.worker_id.partition(":")[0],
            pid=os.getpid(),
        )

    def _sure(self, now: float) -> bool:
        """Whether the dispatcher certainly counts on this worker."""
        return self._turns.session != 0 and now - self._heard_at < _SURE * self._lease_s

    def _park(self, attempts: Collection[Attempt]) -> None:
        for attempt in attempts:
            self._parked[attempt] = self._calls[attempt]

    def _forget(self, attempts: Collection[Attempt]) -> None:
        for attempt in attempts:
            self._calls.pop(attempt, None)

    def _wanted(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return the outcomes that are ends: not those of calls that wait again, or that nobody wants."""
        ends = []
        for outcome in outcomes:
            attempt = (outcome.task_id, outcome.attempt)
            if attempt in self._parked:
                continue
            self._calls.pop(attempt, None)
            if self._unwanted and attempt in self._unwanted:
                self._unwanted.discard(attempt)
                continue
            ends.append(outcome)
        return ends

    def _want(self) -> int:
        """Return how many tasks a pulling worker is ready for: by its free children, and more of short calls."""
        if self.config.mode != "pull" or self._retiring_until < math.inf:
            return 0
        service = self._pool.service(self._function) if self._function else None
        return max(0, credit(self.config.children, service) - len(self._calls))


def _begins(message: object) -> bool:
    return isinstance(message, wire.Enlisted | wire.Complaint)
