"""One connection to the coordinator, kept alive by a thread that moves bytes between sockets and a `Conversation`.

What is said, when it is said again and what an answer means is the conversation's business; which way is taken to the
coordinator is the route's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Self

import zmq

from strata_zmq.domain.names import check_seconds
from strata_zmq.errors import (
    DeadlineExceededError,
    ProtocolError,
    ResourceExhaustedError,
    StrataError,
    UnavailableError,
)
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import decode_broadcast, decode_reply, encode
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import ipc_path, parse_endpoint, seen_over

from .connection import Connection
from .conversation import OUTSTANDING_MAX, Conversation, Ticket
from .route import Route
from .view import Cluster

__all__ = ["CoordinatorClient"]

log = logging.getLogger("strata.client")

_ANSWER_SLACK_S = 5.0
_POLL_MAX_S = 1.0


class CoordinatorClient:
    """A thread-safe client of one coordinator.

    With `agent_url` the way leads over the host's agent while that answers. `introduce` gives the message that follows
    every WELCOME (a registration); `heartbeat` the one that renews the lease; `on_message` takes what nobody asked for
    (a commit to perform), `on_broadcast` what PUB announces and `on_command` each command, once. All are called on the
    client's thread and must not block.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        agent_url: str | None = None,
        role: wire.Role = "client",
        job: str = "",
        token: str = "",
        introduce: Callable[[], wire.Request] | None = None,
        on_introduced: Callable[[wire.Reply], None] | None = None,
        heartbeat: Callable[[], wire.Heartbeat] | None = None,
        on_message: Callable[[wire.Reply], None] | None = None,
        on_broadcast: Callable[[wire.Broadcast], None] | None = None,
        on_command: Callable[[str], None] | None = None,
    ) -> None:
        endpoints = [parse_endpoint(url or os.environ.get("COORDINATOR_URL") or "localhost")]
        if agent_url:
            endpoints.insert(0, parse_endpoint(agent_url, field="STRATA_AGENT_URL"))
        random = Random()  # noqa: S311 - spreads retries, no secret
        self._conversation = Conversation(
            wire.Hello(role=role, job=job, token=token),
            random,
            introduce=introduce,
            on_introduced=on_introduced,
            heartbeat=heartbeat,
            on_message=on_message,
            on_broadcast=on_broadcast,
            on_command=on_command,
        )
        self._direct = endpoints[-1]
        self._route = Route(endpoints, random, time.monotonic(), _is_there)
        self._watched = heartbeat is not None
        self._keys = CurveKeys.from_environment()
        self._welcome: wire.Welcome | None = None
        self._heard_at = time.monotonic()
        self._ready: Future[None] = Future()
        self._calls: deque[Callable[[], object]] = deque()
        self._closing = False
        self._ended = False
        self._waking = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._thread = threading.Thread(target=self._run, name="strata-client", daemon=True)
        self._started = False

    def connect(self, timeout_s: float = 10.0) -> Self:
        """Wait until the coordinator has answered; raises UnavailableError, or the error it answered with.

        Nothing is said to it before the first call.
        """
        limit = check_seconds("timeout_s", timeout_s)
        self._call(_nothing)
        try:
            self._ready.result(limit)
            if self._conversation.failure is not None:
                raise self._conversation.failure
        except FutureTimeoutError as error:
            self.close()
            if isinstance(error, StrataError):
                raise
            raise self.unanswered(timeout_s) from None
        except StrataError:
            self.close()
            raise
        return self

    def when_ready(self) -> Future[None]:
        """Return a future of the first answer, for whoever would rather not block; cancelling it changes nothing."""
        self._call(_nothing)
        mirror: Future[None] = Future()
        self._ready.add_done_callback(partial(_copy, mirror))
        return mirror

    def unanswered(self, timeout_s: float) -> UnavailableError:
        """Return the error of a connection that did not come about in time."""
        return UnavailableError(
            f"no coordinator answers at {self.endpoint} within {timeout_s:g} s: "
            "start one with `strata coordinator`, or name another in COORDINATOR_URL (`strata run` says its own); "
            + ("its keys must be those in" if self._keys else "if it has CURVE keys, name their folder in")
            + " STRATA_CURVE_KEYS"
        )

    @property
    def endpoint(self) -> str:
        """The endpoint in use."""
        return self._route.endpoint

    @property
    def welcome(self) -> wire.Welcome:
        """What the coordinator said at the start of the session."""
        if self._welcome is None:
            raise UnavailableError(f"the coordinator at {self.endpoint} has not answered yet: call connect() first")
        return self._welcome

    @property
    def is_ready(self) -> bool:
        """Whether the coordinator has taken this client in and the connection is open."""
        return self._ready.done() and not self._closing

    @property
    def heard_s(self) -> float:
        """Seconds since the coordinator was last heard."""
        return time.monotonic() - self._heard_at

    @property
    def outstanding(self) -> int:
        """How many requests are unanswered."""
        return len(self._calls) + self._conversation.outstanding

    @property
    def commands_seen(self) -> int:
        """The number of the last command that was taken; within `on_command`, of that one."""
        return self._conversation.commands_seen

    @property
    def may_commit(self) -> bool:
        """Whether the lease is fresh enough to commit: two thirds of it have not passed since the last answer."""
        return time.monotonic() < self._conversation.commit_deadline

    @property
    def cluster(self) -> Cluster | None:
        """The job as the broadcasts tell it, from the first use on; None until the first snapshot has come."""
        if not self._conversation.following:
            self._call(self._follow)
        return self._conversation.view.cluster

    def submit(self, message: wire.Request) -> Future[Any]:
        """Send a request and return the future of its reply. An error reply is the future's exception."""
        future: Future[Any] = Future()
        if len(self._calls) >= OUTSTANDING_MAX:
            future.set_exception(
                ResourceExhaustedError(f"{OUTSTANDING_MAX} requests wait to be sent, which is the limit")
            )
        elif not self._call(partial(self._begin, message, future)):
            future.set_exception(self._conversation.failure or UnavailableError("this client is closed"))
        return future

    def request(self, message: wire.Request, timeout_s: float = 30.0, patience_s: float = _ANSWER_SLACK_S) -> Any:
        """Send a request and wait for its reply; raises the error it was answered with.

        A wait that the coordinator bounds itself (a barrier) carries its own limit in the message; here it gets a few
        seconds more, so that the coordinator's answer, which names who is missing, comes first.
        """
        limit = self.patience(timeout_s, patience_s)
        future = self.submit(message)
        try:
            return future.result(limit)
        except FutureTimeoutError:
            if future.done():
                raise
            raise self.late(message, limit) from None
        finally:
            future.cancel()

    @staticmethod
    def patience(timeout_s: float, patience_s: float = _ANSWER_SLACK_S) -> float:
        """Return how long to wait here for an answer that the coordinator gives within `timeout_s`."""
        return check_seconds("timeout_s", timeout_s) + patience_s

    def late(self, message: wire.Request, limit_s: float) -> DeadlineExceededError:
        """Return the error of a request that got no answer at all."""
        tag = type(message).__struct_config__.tag
        return DeadlineExceededError(
            f"the coordinator at {self.endpoint} did not answer {tag!r} within {limit_s:g} s "
            f"(last heard {self.heard_s:.1f} s ago): is it running?",
            missing=("coordinator",),
        )

    def close(self) -> None:
        """End the connection; what is still unanswered fails. Safe to call twice."""
        self._closing = True
        self._call(_nothing)
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def __enter__(self) -> Self:
        """Return the client itself; the connection is begun."""
        self._call(_nothing)
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # ---- the thread

    def _call(self, call: Callable[[], object]) -> bool:
        """Have the thread do something, the first time from its start; False if it has ended: its descriptor's number
        may be somebody else's then.
        """
        with self._waking:
            if self._ended:
                return False
            if not self._started:
                self._started = True
                self._thread.start()
            self._calls.append(call)
            os.eventfd_write(self._wake, 1)
            return True

    def _run(self) -> None:
        failure: StrataError = UnavailableError("the connection to the coordinator was closed")
        try:
            with Connection(self._context, self.endpoint, self._keys) as connection:
                poller = connection.poller()
                poller.register(self._wake, zmq.POLLIN)
                while not self._closing and self._conversation.failure is None:
                    self._turn(connection, poller)
        except StrataError as error:
            failure = error
        except Exception:
            log.exception("the client's thread ended")
            failure = StrataError("the client's thread ended; see the log")
        finally:
            self._closing = True
            with self._waking:
                self._ended = True
                os.close(self._wake)
            self._conversation.stop(failure)
            while self._calls:
                self._calls.popleft()()
            self._context.term()
            if not self._ready.done():
                self._ready.set_exception(self._conversation.failure or failure)

    def _turn(self, connection: Connection, poller: zmq.Poller) -> None:
        """Do what is due, wait for what comes first, and take it."""
        conversation, now = self._conversation, time.monotonic()
        while self._calls:
            self._calls.popleft()()
        if self._is_to_move(now):
            connection.move(self.endpoint, poller)
            conversation.start_over(now)
        messages = conversation.outgoing(now)
        for position, message in enumerate(messages):
            if not connection.send(encode(message)):
                for one in messages[position:]:
                    conversation.unsent(one, now)
                break
        due = min(conversation.next_due(now), self._route.next_due(now), now + _POLL_MAX_S)
        ready = dict(poller.poll(max(0, int((due - now) * 1000) + 1)))
        if self._wake in ready:
            os.eventfd_read(self._wake)
        self._take(connection, ready, time.monotonic())

    def _take(self, connection: Connection, ready: dict[Any, int], now: float) -> None:
        # The news of a new connection before what came over it.
        if connection.dealer_events in ready:
            self._take_events(connection, now)
        if connection.broadcast_events in ready and connection.reconnected_broadcasts():
            self._conversation.hurry(now)
        if connection.dealer in ready:
            self._take_replies(connection, now)
        if connection.broadcasts in ready:
            self._take_broadcasts(connection, now)

    def _take_events(self, connection: Connection, now: float) -> None:
        for change in connection.changes():
            if change == "down":
                self._route.disconnected(now)
            else:
                self._route.connected()
                # The connection is the session: another one begins another.
                if change == "again" and self._conversation.welcome is not None:
                    self._conversation.start_over(now)

    def _take_replies(self, connection: Connection, now: float) -> None:
        conversation = self._conversation
        while (data := connection.receive_reply()) is not None:
            try:
                reply = decode_reply(data)
            except ProtocolError as error:
                log.warning("the coordinator sent what is not understood: %s", error)
                continue
            self._heard_at = now
            if isinstance(reply, wire.Welcome):
                # Subscribed before the registration leaves: what it brings about is heard.
                connection.subscribe(seen_over(reply.broadcast_endpoint, self._direct))
            conversation.take(reply, now)
            self._welcome = conversation.welcome or self._welcome
            if conversation.introduced and not self._ready.done():
                self._ready.set_result(None)

    def _take_broadcasts(self, connection: Connection, now: float) -> None:
        while (data := connection.receive_broadcast()) is not None:
            try:
                broadcast = decode_broadcast(data)
            except ProtocolError as error:
                log.warning("a broadcast is not understood: %s", error)
                continue
            self._conversation.listen(broadcast, now)

    def _is_to_move(self, now: float) -> bool:
        conversation = self._conversation
        silent_s = conversation.unanswered_s(now) if self._watched or not conversation.introduced else 0.0
        before = self.endpoint
        if not self._route.check(
            now,
            introduced=conversation.introduced,
            silent_s=silent_s,
            heartbeat_s=self._welcome.heartbeat_s if self._welcome is not None else 0.0,
        ):
            return False
        log.info("the coordinator is reached at %s from now on, not at %s", self.endpoint, before)
        return True

    def _follow(self) -> None:
        self._conversation.following = True

    def _begin(self, message: wire.Request, future: Future[Any]) -> None:
        if future.cancelled():
            return
        ticket = self._conversation.submit(message, partial(_settle, future))
        if not ticket.done:
            future.add_done_callback(partial(self._forget, ticket))

    def _forget(self, ticket: Ticket, future: Future[Any]) -> None:
        if future.cancelled():
            self._call(partial(self._conversation.cancel, ticket))


def _settle(future: Future[Any], ticket: Ticket) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if ticket.error is not None:
        future.set_exception(ticket.error)
    else:
        future.set_result(ticket.reply)


def _copy(mirror: Future[None], source: Future[None]) -> None:
    if mirror.set_running_or_notify_cancel():
        error = source.exception()
        if error is None:
            mirror.set_result(None)
        else:
            mirror.set_exception(error)


def _is_there(endpoint: str) -> bool:
    """Tell whether an endpoint could answer: an ipc path that is gone cannot."""
    path = ipc_path(endpoint)
    return path is None or Path(path).exists()


def _nothing() -> None:
    """Wake the thread, no more."""
