"""One connection to the coordinator, kept alive by a thread: requests, replies, heartbeats and broadcasts.

It knows how to reach the coordinator and how to reach it again; what the messages mean is `session.py`'s business.
Every request is idempotent, so that it may be sent again until an answer or a deadline comes.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import zmq

from strata_zmq.domain.names import check_seconds
from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ProtocolError,
    StrataError,
    UnavailableError,
    from_wire,
)
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REQUEST_BYTES, decode_broadcast, decode_reply, decode_request, encode
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import parse_endpoint
from strata_zmq.transport.sockets import REPLIES, connect, open_socket

__all__ = ["CoordinatorClient"]

log = logging.getLogger("strata.client")

_RETRY_FIRST_S = 1.0
_RETRY_MAX_S = 5.0
_UNSENT_S = 0.05
_ANSWER_SLACK_S = 5.0
_HEADER_MAX = 256


@dataclass(slots=True)
class _Pending:
    message: Any
    future: Future[Any]
    send_at: float = 0.0
    interval_s: float = _RETRY_FIRST_S


@dataclass(slots=True)
class _Link:
    """What the thread knows about the coordinator. Written by the thread only."""

    welcome: wire.Welcome | None = None
    introduced: bool = False
    introduction_seq: int = 0
    hello_at: float = 0.0
    heartbeat_at: float = 0.0
    heard_at: float = 0.0
    term: int = 0
    broadcast_seq: int = 0
    broadcast_endpoint: str = ""
    gaps: int = 0
    failure: StrataError | None = field(default=None)


class CoordinatorClient:
    """A thread-safe client of one coordinator.

    `introduce` gives the message that follows every WELCOME (a registration); `heartbeat` the one that renews the
    lease; `on_message` takes what nobody asked for (a commit to perform) and `on_broadcast` what PUB announces. All
    four are called on the client's thread and must not block.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        role: wire.Role = "client",
        job: str = "",
        token: str = "",
        introduce: Callable[[], wire.Request] | None = None,
        on_introduced: Callable[[wire.Reply], None] | None = None,
        heartbeat: Callable[[], wire.Heartbeat] | None = None,
        on_message: Callable[[wire.Reply], None] | None = None,
        on_broadcast: Callable[[wire.Broadcast], None] | None = None,
    ) -> None:
        self.endpoint = parse_endpoint(url or os.environ.get("COORDINATOR_URL", "localhost"))
        self._hello = wire.Hello(role=role, job=job, token=token)
        self._introduce = introduce
        self._on_introduced = on_introduced
        self._heartbeat = heartbeat
        self._on_message = on_message
        self._on_broadcast = on_broadcast
        self._keys = CurveKeys.from_environment()
        self._seqs = itertools.count(1)
        self._outbox: deque[_Pending] = deque()
        self._pending: dict[int, _Pending] = {}
        self._link = _Link()
        self._ready = threading.Event()
        self._closing = False
        self._ended = False
        self._waking = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._thread = threading.Thread(target=self._run, name="strata-client", daemon=True)
        self._thread.start()

    def connect(self, timeout_s: float = 10.0) -> Self:
        """Wait until the coordinator has answered; raises UnavailableError, or the error it answered with."""
        try:
            answered = self._ready.wait(check_seconds("timeout_s", timeout_s))
        except InvalidArgumentError:
            self.close()
            raise
        if not answered:
            self.close()
            raise UnavailableError(
                f"no coordinator answers at {self.endpoint} within {timeout_s:g} s: "
                "start one with `strata coordinator`, or name another in COORDINATOR_URL; "
                + ("its keys must be those in" if self._keys else "if it has CURVE keys, name their folder in")
                + " STRATA_CURVE_KEYS"
            )
        if self._link.failure is not None:
            failure = self._link.failure
            self.close()
            raise failure
        return self

    @property
    def welcome(self) -> wire.Welcome:
        """What the coordinator said at the start of the session."""
        if self._link.welcome is None:
            raise UnavailableError(f"the coordinator at {self.endpoint} has not answered yet: call connect() first")
        return self._link.welcome

    @property
    def is_ready(self) -> bool:
        """Whether the coordinator has taken this client in and the connection is open."""
        return self._ready.is_set() and not self._closing

    @property
    def heard_s(self) -> float:
        """Seconds since the coordinator was last heard."""
        return time.monotonic() - self._link.heard_at

    def submit(self, message: wire.Request) -> Future[Any]:
        """Send a request and return the future of its reply. An error reply is the future's exception."""
        future: Future[Any] = Future()
        if self._closing:
            future.set_exception(self._link.failure or UnavailableError("this client is closed"))
            return future
        addressed = msgspec.structs.replace(message, seq=next(self._seqs))
        try:
            _check(addressed)
        except InvalidArgumentError as error:
            future.set_exception(error)
            return future
        with self._waking:
            if not self._ended:
                self._outbox.append(_Pending(addressed, future))
                os.eventfd_write(self._wake, 1)
                return future
        future.set_exception(self._link.failure or UnavailableError("this client is closed"))
        return future

    def request(self, message: wire.Request, timeout_s: float = 30.0) -> Any:
        """Send a request and wait for its reply; raises the error it was answered with.

        A wait that the coordinator bounds itself (a barrier) carries its own limit in the message; here it gets a few
        seconds more, so that the coordinator's answer, which names who is missing, comes first.
        """
        limit = check_seconds("timeout_s", timeout_s) + _ANSWER_SLACK_S
        future = self.submit(message)
        try:
            return future.result(limit)
        except FutureTimeoutError:
            if future.done():
                raise
            future.cancel()
            self._poke()
            tag = type(message).__struct_config__.tag
            raise DeadlineExceededError(
                f"the coordinator at {self.endpoint} did not answer {tag!r} within {limit:g} s "
                f"(last heard {self.heard_s:.1f} s ago): is it running?",
                missing=("coordinator",),
            ) from None

    def close(self) -> None:
        """End the connection; what is still unanswered fails. Safe to call twice."""
        if not self._closing:
            self._closing = True
            self._poke()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # ---- the thread

    def _poke(self) -> None:
        """Wake the thread, unless it has ended: its descriptor's number may be somebody else's by then."""
        with self._waking:
            if not self._ended:
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        dealer = open_socket(self._context, zmq.DEALER, REPLIES, keys=self._keys)
        subscriber = open_socket(self._context, zmq.SUB, REPLIES, keys=self._keys)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        poller = zmq.Poller()
        poller.register(dealer, zmq.POLLIN)
        poller.register(subscriber, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        try:
            connect(dealer, self.endpoint)
            while not self._closing:
                now = time.monotonic()
                self._send_due(dealer, now)
                ready = dict(poller.poll(self._poll_ms(now)))
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if dealer in ready:
                    self._receive(dealer, subscriber)
                if subscriber in ready:
                    self._listen(subscriber)
        except StrataError as error:
            self._fail(error)
        except Exception:
            log.exception("the client's thread ended")
            self._fail(StrataError("the client's thread ended; see the log"))
        finally:
            self._closing = True
            dealer.close()
            subscriber.close()
            self._context.term()
            with self._waking:
                self._ended = True
                os.close(self._wake)
            self._drop(UnavailableError("the connection to the coordinator was closed"))

    def _poll_ms(self, now: float) -> int:
        """Return how long nothing has to be sent, in milliseconds."""
        link = self._link
        due = [] if link.introduced else [link.hello_at]
        if link.introduced:
            due += [pending.send_at for pending in self._pending.values()]
            if self._heartbeat is not None:
                due.append(link.heartbeat_at)
        return max(0, min(1000, int((min(due) - now) * 1000) + 1)) if due else 1000

    def _send_due(self, dealer: zmq.Socket[bytes], now: float) -> None:
        link = self._link
        while self._outbox:
            pending = self._outbox.popleft()
            self._pending[pending.message.seq] = pending
        if link.welcome is None:
            if now >= link.hello_at:
                link.introduction_seq = next(self._seqs)
                hello = msgspec.structs.replace(self._hello, seq=link.introduction_seq)
                link.hello_at = now + _jitter(_RETRY_FIRST_S if _send(dealer, hello) else _UNSENT_S)
            return
        if not link.introduced:
            if now >= link.hello_at:
                self._start_over()  # the introduction or its answer was lost
            return
        for seq, pending in list(self._pending.items()):
            if pending.future.cancelled():
                del self._pending[seq]
            elif pending.send_at <= now:
                if _send(dealer, self._addressed(pending.message)):
                    pending.send_at = now + _jitter(pending.interval_s)
                    pending.interval_s = min(pending.interval_s * 2, _RETRY_MAX_S)
                else:
                    pending.send_at = now + _jitter(_UNSENT_S)
        if self._heartbeat is not None and now >= link.heartbeat_at:
            link.heartbeat_at = now + link.welcome.heartbeat_s
            _send(dealer, self._addressed(self._heartbeat()))

    def _addressed(self, message: Any) -> Any:
        welcome = self.welcome
        return msgspec.structs.replace(message, session=welcome.session, term=welcome.term, job=welcome.job)

    def _receive(self, dealer: zmq.Socket[bytes], subscriber: zmq.Socket[bytes]) -> None:
        while True:
            try:
                frames = dealer.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                reply = decode_reply(frames[0])
            except ProtocolError as error:
                log.warning("the coordinator sent what is not understood: %s", error)
                continue
            self._link.heard_at = time.monotonic()
            self._take(reply, dealer, subscriber)

    def _take(self, reply: wire.Reply, dealer: zmq.Socket[bytes], subscriber: zmq.Socket[bytes]) -> None:
        link = self._link
        if isinstance(reply, wire.Welcome):
            self._take_welcome(reply, dealer, subscriber)
        elif isinstance(reply, wire.ErrorReply) and reply.code == "unknown_session":
            self._start_over()
        elif reply.seq == link.introduction_seq and isinstance(reply, wire.Registered | wire.ErrorReply):
            self._take_introduction(reply)
        elif reply.seq == 0:
            if isinstance(reply, wire.ErrorReply):
                # The answer to a heartbeat: the worker was fenced, or its report was refused.
                log.warning("heartbeat: %s", reply.message)
                if reply.code in {"stale_generation", "fenced"}:
                    self._start_over()
            elif self._on_message is not None and not isinstance(reply, wire.HeartbeatAck):
                self._on_message(reply)
        else:
            self._answer(reply)

    def _take_welcome(self, reply: wire.Welcome, dealer: zmq.Socket[bytes], subscriber: zmq.Socket[bytes]) -> None:
        link = self._link
        if link.welcome is not None:
            return
        link.welcome, link.term = reply, reply.term
        if reply.broadcast_endpoint and reply.broadcast_endpoint != link.broadcast_endpoint:
            connect(subscriber, reply.broadcast_endpoint, field="broadcast endpoint")
            link.broadcast_endpoint = reply.broadcast_endpoint
        link.broadcast_seq = reply.broadcast_seq
        if self._introduce is None:
            self._become_ready()
        else:
            link.introduction_seq = next(self._seqs)
            introduction = msgspec.structs.replace(self._addressed(self._introduce()), seq=link.introduction_seq)
            _check(introduction)
            link.hello_at = time.monotonic() + _jitter(2 * _RETRY_FIRST_S)
            _send(dealer, introduction)

    def _take_introduction(self, reply: wire.Registered | wire.ErrorReply) -> None:
        if self._link.introduced:
            return  # the answer to one that was sent twice
        if isinstance(reply, wire.ErrorReply):
            error = _error(reply)
            if error.retryable:
                self._start_over()
            else:
                self._fail(error)
                self._closing = True
            return
        if self._on_introduced is not None:
            self._on_introduced(reply)
        self._become_ready()

    def _become_ready(self) -> None:
        self._link.introduced = True
        self._link.heartbeat_at = 0.0
        for pending in self._pending.values():
            pending.send_at, pending.interval_s = 0.0, _RETRY_FIRST_S
        self._ready.set()

    def _start_over(self) -> None:
        """Say hello again: the coordinator was restarted, or has given this client up."""
        self._link.welcome = None
        self._link.introduced = False
        # A small wait keeps a herd of clients from arriving in the same millisecond.
        self._link.hello_at = time.monotonic() + random.uniform(0.0, 0.1)  # noqa: S311 - no secret

    def _answer(self, reply: wire.Reply) -> None:
        past = isinstance(reply, wire.ErrorReply) and reply.code in {"stale_generation", "fenced"}
        if past and self._introduce is not None:
            # Fenced: register again; the caller learns from its error that what it had not committed is void.
            self._start_over()
        pending = self._pending.pop(reply.seq, None)
        if pending is None or not pending.future.set_running_or_notify_cancel():
            return
        if isinstance(reply, wire.ErrorReply):
            pending.future.set_exception(_error(reply))
        else:
            pending.future.set_result(reply)

    def _listen(self, subscriber: zmq.Socket[bytes]) -> None:
        link = self._link
        while True:
            try:
                frames = subscriber.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                broadcast = decode_broadcast(frames[-1])
            except ProtocolError as error:
                log.warning("a broadcast is not understood: %s", error)
                continue
            if broadcast.term > link.term and link.welcome is not None:
                link.term = broadcast.term
                self._start_over()
            expected = link.broadcast_seq + (0 if isinstance(broadcast, wire.Tick) else 1)
            if broadcast.term == link.term and broadcast.seq > expected:
                # Something was missed. State comes from ROUTER; the next heartbeat brings it at once.
                link.gaps += 1
                link.heartbeat_at = 0.0
            link.broadcast_seq = broadcast.seq
            if self._on_broadcast is not None:
                self._on_broadcast(broadcast)

    def _fail(self, error: StrataError) -> None:
        self._link.failure = error
        self._drop(error)
        self._ready.set()

    def _drop(self, error: StrataError) -> None:
        for pending in (*self._pending.values(), *self._outbox):
            if pending.future.set_running_or_notify_cancel():
                pending.future.set_exception(error)
        self._pending.clear()
        self._outbox.clear()


def _send(dealer: zmq.Socket[bytes], message: Any) -> bool:
    """Send without waiting; False while no connection is open."""
    try:
        dealer.send(encode(message), zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True


def _check(message: wire.Request) -> None:
    """Refuse here what the coordinator could not read, so that the caller learns of it at once."""
    tag = message.__struct_config__.tag
    try:
        data = encode(message)
    except (TypeError, OverflowError, UnicodeEncodeError) as error:
        raise InvalidArgumentError(f"{tag} cannot be sent: {error}") from None
    if len(data) + _HEADER_MAX > MAX_REQUEST_BYTES:
        raise InvalidArgumentError(
            f"{tag} takes {len(data)} bytes, the limit is {MAX_REQUEST_BYTES - _HEADER_MAX}: "
            "send less metadata or fewer ranges"
        )
    try:
        decode_request(data)
    except ProtocolError as error:
        # On the wire a field is a position behind the tag; to the caller it is a name.
        fields = message.__struct_fields__
        told = re.sub(r"\$\[(\d+)\]", lambda at: fields[int(at[1]) - 1], str(error))
        raise InvalidArgumentError(f"{tag} cannot be sent: {told}") from None


def _jitter(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, no secret


def _error(reply: wire.ErrorReply) -> StrataError:
    return from_wire(
        reply.code,
        reply.message,
        missing=tuple(reply.missing),
        generation=reply.generation,
        joined=tuple(reply.joined),
        left=tuple(reply.left),
    )
