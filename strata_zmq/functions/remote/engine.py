"""The engine of a remote executor: a thread that submits calls to a dispatcher and tells what they came to.

Callers only leave calls in a queue; they wake the thread if it sleeps. It takes all there is at once: what many callers
submitted travels in one message, and one message of results resolves all its futures. It never loads a result itself.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import platform
import select
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import zmq

from strata_zmq.domain.task import ID_BYTES, Payload, TaskLimits
from strata_zmq.errors import InvalidArgumentError, ProtocolError, ResourceExhaustedError, StrataError, UnavailableError
from strata_zmq.failpoints import failpoint
from strata_zmq.functions.calls import PackedCall, Resolver
from strata_zmq.functions.wire import limits_row
from strata_zmq.transport.curve import CurveKeys

from .conversation import ClientConversation, Ended, Refused, Replied
from .kept import KeptPayloads, check_payload, put_requests
from .link import Link
from .submissions import Item, Submissions

__all__ = ["RemoteEngine"]

log = logging.getLogger("strata.functions")

_TASKS_MAX = 1_000_000
_BYTES_MAX = 2 * 2**30
_AWAY_S = 30.0
_DRAIN_MAX = 512
_REFS_MAX = 1024
_KEY_MAX = 256
_SLEEP_MAX_S = 60.0
_BLOCKED_MS = 100
"""While the socket is full nothing is due; that there is room again is told."""


class RemoteEngine:
    """Runs calls on the workers of the dispatcher at `endpoint`. Thread-safe; an `Engine`.

    `keys` are those of the dispatcher's key folder (STRATA_CURVE_KEYS where None is given). `python` is the minor
    version that the calls need ("3.11"); "" for calls that any version can load. At most `tasks_max` calls that
    the dispatcher has not confirmed, and `bytes_max` bytes of them, are held. A lost connection is made again;
    when nobody has answered for `away_s` seconds, everything that waits fails with UnavailableError.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        keys: CurveKeys | None = None,
        python: str = "",
        tasks_max: int = _TASKS_MAX,
        bytes_max: int = _BYTES_MAX,
        away_s: float = _AWAY_S,
    ) -> None:
        self._python = python
        self._tasks_max, self._bytes_max, self._away_s = tasks_max, bytes_max, away_s
        self._context: zmq.Context[Any] = zmq.Context()
        try:
            self._link = Link(self._context, endpoint, CurveKeys.from_environment() if keys is None else keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._talk = ClientConversation(uuid.uuid4().hex, python=python or _running_python())
        self._kept = KeptPayloads()
        self._tasks = Submissions(self._talk, self._kept, self._release)
        self._pid = os.getpid()
        self._id_prefix = os.urandom(ID_BYTES // 2)
        self._id_numbers = itertools.count(1)
        self._limits: dict[int, tuple[TaskLimits, TaskLimits]] = {}
        self._lock = threading.Lock()
        self._held_tasks = 0
        self._held_bytes = 0
        self._inbox: deque[Callable[[float], None]] = deque()
        """What the callers have left for the thread, each to be called there with the time."""
        self._asleep = False
        self._closing = False
        self._failure: StrataError | None = None
        self._waits_since = float("inf")
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="strata-remote-engine", daemon=True)
        self._thread.start()

    # ---- from any thread

    def keep(self, digest: bytes, payload: Payload) -> None:
        """Make a packed callable or value known to the dispatcher; calling again is nothing."""
        payload = _frozen(payload)
        if self._kept.add(digest, payload):
            self._say(lambda now: self._put(digest, payload, now))

    def submit(self, calls: list[tuple[PackedCall, Resolver]]) -> list[bytes]:
        """Take calls in their order and return their task ids at once.

        Raises InvalidArgumentError for what no dispatcher takes, ResourceExhaustedError where too much is held,
        UnavailableError after `shutdown` and where the dispatcher refuses this client for good. Then none is taken.
        """
        items = []
        for call, resolver in calls:
            nbytes = _check_call(call)
            limits, body = self._limits_of(call.limits), _frozen(cast("Payload", call.body))
            same = limits is call.limits and body is call.body
            used = call if same else PackedCall(call.function, body, limits, call.refs, call.key)
            task_id = self._id_prefix + next(self._id_numbers).to_bytes(ID_BYTES // 2)
            items.append(Item(task_id, used, nbytes, resolver))
        self._take(items)
        self._wake()
        return [item.task_id for item in items]

    def cancel(self, task_id: bytes, *, running: bool, timeout_s: float) -> bool:
        """Withdraw a call that has not started, or kill it with `running`; True if it will never give a result.

        Waits at most `timeout_s` for the dispatcher. On True nothing is called on its resolver afterwards. Called from
        a resolver it cannot wait: it is False, and the call ends with the cause `cancelled` if that still succeeds.
        """
        verdict = _Verdict()
        from_resolver = threading.current_thread() is self._thread
        if from_resolver:
            verdict.wait(0)
        self._say(lambda now: self._tasks.cancel(task_id, now, running=running, verdict=verdict))
        return not from_resolver and self._thread.is_alive() and verdict.wait(timeout_s)

    def shutdown(self, *, wait: bool, cancel_pending: bool) -> None:
        """Take nothing new; end when everything has ended.

        With `cancel_pending` what has not started ends at once, with the cause `cancelled`.
        """
        with self._lock:
            self._closing = True
        self._say(lambda now: self._tasks.cancel_all(now) if cancel_pending else None)
        if wait and os.getpid() == self._pid and threading.current_thread() is not self._thread:
            self._thread.join()

    # ---- inside, from any thread

    def _take(self, items: list[Item]) -> None:
        if os.getpid() != self._pid:
            raise UnavailableError(
                "the executor was made before a fork, and its thread is in the other process: make one here"
            )
        nbytes = sum([item.nbytes for item in items])
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closing:
                raise UnavailableError("the engine was shut down: nothing can be submitted any more")
            if self._held_tasks + len(items) > self._tasks_max:
                raise ResourceExhaustedError(
                    f"{self._held_tasks} calls wait for the dispatcher's word, and {self._tasks_max} is the limit: "
                    "wait for some results first"
                )
            if self._held_bytes and self._held_bytes + nbytes > self._bytes_max:
                raise ResourceExhaustedError(
                    f"calls of {self._held_bytes} bytes wait for the dispatcher's word, and {self._bytes_max} is the "
                    "limit: wait for some results first"
                )
            self._held_tasks += len(items)
            self._held_bytes += nbytes
            # Under the lock: what is taken before `shutdown` is in the queue before the thread learns of that.
            self._inbox.append(lambda _: self._tasks.add(items))

    def _release(self, count: int, nbytes: int) -> None:
        with self._lock:
            self._held_tasks -= count
            self._held_bytes -= nbytes

    def _limits_of(self, limits: TaskLimits) -> TaskLimits:
        """Return the limits with the engine's Python; refuse what the wire does not take."""
        known = self._limits.get(id(limits))
        if known is not None:
            return known[1]
        used = limits
        if self._python and not limits.python:
            values = {name: getattr(limits, name) for name in TaskLimits.__slots__}
            used = TaskLimits(**{**values, "python": self._python})
        limits_row(used)
        if len(self._limits) >= 1024:
            self._limits.clear()
        # The object is kept with its counterpart, so that nobody else can be given its id.
        self._limits[id(limits)] = (limits, used)
        return used

    def _say(self, word: Callable[[float], None]) -> None:
        self._inbox.append(word)
        self._wake()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            with self._lock:
                if self._wake_fd >= 0:
                    os.eventfd_write(self._wake_fd, 1)

    # ---- the thread

    def _run(self) -> None:
        error: StrataError = UnavailableError("the engine was shut down")
        try:
            self._serve()
        except BaseException as reason:  # whatever it is, nobody may wait for ever
            error = UnavailableError(f"the engine's thread has failed: {type(reason).__name__}: {reason}")
            error.__cause__ = reason
            log.exception("the engine's thread has failed")
        finally:
            with self._lock:
                self._failure = self._failure or error
            self._listen(time.monotonic())
            self._tasks.fail_all(error)
            self._link.close(self._talk.goodbye(abandon=True) if self._talk.attached else None)
            self._context.term()
            with self._lock:
                os.close(self._wake_fd)
                self._wake_fd = -1

    def _serve(self) -> None:
        poller = select.poll()
        for descriptor in (*self._link.descriptors, self._wake_fd):
            poller.register(descriptor, select.POLLIN)
        changed = True
        while True:
            now = time.monotonic()
            closing = self._listen(now)
            if changed:
                self._follow(now)
            self._tasks.submit(now)
            self._speak(now)
            heard = self._hear(now)
            self._check_away(now)
            if closing and not self._tasks:
                return
            # The last look at the socket was behind the last thing sent, and found nothing: now it may be waited for.
            changed = heard or self._link.can_flush or self._sleep(poller, now)

    def _listen(self, now: float) -> bool:
        """Take what the callers want; True when no more will come."""
        with self._lock:
            closing = self._closing
        inbox = self._inbox
        while inbox:
            inbox.popleft()(now)
        return closing

    def _put(self, digest: bytes, payload: Payload, now: float) -> None:
        for message, frames in put_requests([(digest, payload)]):
            self._talk.ask(message, frames, now)

    def _follow(self, now: float) -> None:
        """Take what has become of the connection."""
        for up in self._link.changes():
            if up:
                self._talk.connected(now)
            else:
                self._talk.disconnected()

    def _hear(self, now: float) -> bool:
        """Take what the dispatcher says; True if it said anything."""
        heard = False
        for _ in range(_DRAIN_MAX):
            frames = self._link.receive()
            if frames is None:
                break
            heard = True
            try:
                answers = self._talk.take(frames, now)
            except ProtocolError as error:
                log.warning("the dispatcher at %s: %s", self._link.endpoint, error)
                continue
            for answer in answers:
                if isinstance(answer, Ended):
                    self._tasks.ended(answer)
                    failpoint("client.result.taken")
                elif isinstance(answer, Replied):
                    self._tasks.replied(answer, now)
                elif isinstance(answer, Refused):
                    self._tasks.refused(answer)
                elif answer.again:
                    self._tasks.attached_again(now)
        return heard

    def _speak(self, now: float) -> None:
        if not self._link.flush():
            # What would be said again is still waiting to be said at all.
            return
        messages = self._talk.due(now)
        for frames in messages:
            self._link.put(frames)
        if messages and self._tasks.unconfirmed:
            failpoint("client.submit.sent")

    def _check_away(self, now: float) -> None:
        if not self._tasks:
            self._waits_since = float("inf")
            return
        self._waits_since = min(self._waits_since, now)
        if self._talk.failure is not None:
            with self._lock:
                self._failure = self._talk.failure
            self._tasks.fail_all(self._talk.failure)
        elif now - max(self._talk.heard_at, self._waits_since) >= self._away_s:
            self._waits_since = now
            self._tasks.fail_all(
                UnavailableError(
                    f"nobody has answered at {self._link.endpoint} for {self._away_s:g} s: start a dispatcher there "
                    "(strata functions up), or look at the address; the tasks may have run"
                )
            )

    def _sleep(self, poller: select.poll, now: float) -> bool:
        """Wait for a word from anybody, or for the time; True if it was the connection's."""
        changed = False
        self._asleep = True
        if not self._inbox:
            fired = poller.poll(self._patience_ms(now))
            changed = any(descriptor == self._link.descriptors[1] for descriptor, _ in fired)
        if not self._asleep:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        self._asleep = False
        return changed

    def _patience_ms(self, now: float) -> int:
        """Return how long there is nothing to do unless something happens."""
        if self._link.blocked:
            return _BLOCKED_MS
        due = [at for at in (self._talk.next_wakeup(), self._tasks.next_wakeup(now)) if at is not None]
        if self._tasks:
            due.append(max(self._talk.heard_at, self._waits_since) + self._away_s)
        wait_s = min(_SLEEP_MAX_S, max(0.0, min(due) - now)) if due else _SLEEP_MAX_S
        # Rounded up: a moment too early would be slept again, and again.
        return int(wait_s * 1000) + 1 if wait_s else 0


class _Verdict:
    """Whether a cancellation held, said by the thread to whoever waits, or no longer waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = threading.Event()
        self._held = False
        self._given_up = False

    def __call__(self, held: bool) -> bool:
        with self._lock:
            if self._given_up:
                return False
            self._held = held
            self._said.set()
            return True

    def wait(self, timeout_s: float) -> bool:
        """Return the verdict; without one in time nobody waits for it any more."""
        self._said.wait(timeout_s)
        with self._lock:
            self._given_up = True
            return self._held


def _check_call(call: PackedCall) -> int:
    """Return how many bytes a call has; InvalidArgumentError for one that no message can carry."""
    if len(call.function) != ID_BYTES:
        raise InvalidArgumentError(f"function is a digest of {len(call.function)} bytes; it has {ID_BYTES}")
    if len(call.key) > _KEY_MAX:
        raise InvalidArgumentError(f"key has {len(call.key)} characters, and {_KEY_MAX} is the limit: use a digest")
    if len(call.refs) > _REFS_MAX:
        raise InvalidArgumentError(
            f"a call refers to {len(call.refs)} values that were put, and {_REFS_MAX} is the limit: put them as one"
        )
    return check_payload(cast("Payload", call.body), "a call")


def _frozen(payload: Payload) -> Payload:
    """Return the payload as it is now: its owner may write to his buffers before they are sent, or sent again."""
    if type(payload) is bytes:
        return payload
    return tuple([part if type(part) is bytes else bytes(part) for part in payload])


def _running_python() -> str:
    major, minor, _ = platform.python_version_tuple()
    return f"{major}.{minor}"
