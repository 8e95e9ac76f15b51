"""Relays on real sockets: each a ROUTER for a host's workers and one DEALER upward. They decide nothing."""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import zmq

from strata_zmq.errors import StrataError
from strata_zmq.protocol.codec import MAX_FOLDED_BYTES
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import ipc_path
from strata_zmq.transport.sockets import Limits, bind, connect, open_socket

from .relay import CHILD_BYTES_MAX, Relay

__all__ = ["RelayServer", "Relays"]

log = logging.getLogger("strata.agent")

CHILDREN = Limits(message_bytes_max=CHILD_BYTES_MAX, send_high_water_mark=10_000, receive_high_water_mark=10_000)
# A frame upward may hold 64 KiB: what a stopped coordinator leaves waiting here is bounded before memory is.
UPLINK = Limits(message_bytes_max=MAX_FOLDED_BYTES, send_high_water_mark=256, receive_high_water_mark=10_000)
DRAIN_MAX = 256
_POLL_MAX_S = 0.25
_SILENCE_MIN_S = 1.0
# Plain integers: combining pyzmq's flags costs more than sending a frame.
_DONTWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.SNDMORE) | _DONTWAIT
_EVENTS, _IN = int(zmq.EVENTS), int(zmq.POLLIN)


class RelayServer:
    """One relay's sockets. `listen` is where the host's workers connect, `coordinator_url` where it speaks upward.

    Whoever drives it calls `turn` when the descriptor of one of its `sockets` becomes readable, and when `turn` asked
    for that.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        listen: str,
        coordinator_url: str,
        *,
        job: str = "",
        keys: CurveKeys | None = None,
        random: Random | None = None,
    ) -> None:
        self._context = context
        self._upstream = coordinator_url
        self._keys = keys
        self._relay = Relay(random or Random(), job=job)  # noqa: S311 - jitter
        self._reopened_at = time.monotonic()
        self._router = open_socket(context, zmq.ROUTER, CHILDREN, keys=keys, server=True)
        # The method of the class below pyzmq's own: what it adds, for draft sockets, costs as much as the sending.
        self._send_frame = super(zmq.Socket, self._router).send
        try:
            self.endpoint = bind(self._router, listen, field="--listen")
            self._dealer = self._dial()
        except BaseException:
            self._router.close()
            raise

    @property
    def failure(self) -> StrataError | None:
        """Why the coordinator will not have this relay; None while it will."""
        return self._relay.conversation.failure

    @property
    def sockets(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """What it listens on; the second one may be another after a turn."""
        return self._router, self._dealer

    def turn(self) -> float:
        """Do all that can be done now; return when to come back at the latest, on the monotonic clock.

        A socket's descriptor tells once that something has changed, and any call may swallow that: so a turn ends
        only when neither socket has anything left.
        """
        while True:
            self._take_frames()
            if not self._relay.is_full:
                self._take_children()
            now = time.monotonic()
            blocked = self._send_up(now)
            self._reopen_if_silent(now)
            # Who waits too long in front of a full relay goes to the coordinator itself.
            if not (_readable(self._dealer) or (not self._relay.is_full and _readable(self._router))):
                return now + _POLL_MAX_S if blocked else min(self._relay.next_due(now), now + _POLL_MAX_S)

    def close(self) -> None:
        """Close the sockets and remove the local one's file."""
        self._dealer.close()
        self._router.close()
        path = ipc_path(self.endpoint)
        if path is not None:
            Path(path).unlink(missing_ok=True)

    def _dial(self) -> zmq.Socket[bytes]:
        dealer = open_socket(self._context, zmq.DEALER, UPLINK, keys=self._keys)
        try:
            connect(dealer, self._upstream)
        except BaseException:
            dealer.close()
            raise
        return dealer

    def _take_children(self) -> None:
        receive, take = self._router.recv, self._relay.take_child
        now = time.monotonic()
        for _ in range(DRAIN_MAX):
            try:
                connection = receive(_DONTWAIT)
            except zmq.Again:
                return
            # A frame knows whether more follow, and asking it costs less than asking the socket.
            frame = receive(0, False)
            if frame.more:
                while receive(0, False).more:
                    pass
                log.warning("a request of several frames was dropped: send a single MessagePack array")
                continue
            take(connection, frame.bytes, now)

    def _take_frames(self) -> None:
        receive, take = self._dealer.recv, self._relay.take_frame
        for _ in range(DRAIN_MAX):
            try:
                data = receive(_DONTWAIT)
            except zmq.Again:
                return
            for connection, body in take(data, time.monotonic()):
                self._send_down(connection, body)

    def _send_down(self, connection: bytes, body: bytes) -> None:
        try:
            self._send_frame(connection, _MORE)
            self._send_frame(body, _DONTWAIT)
        except zmq.ZMQError as error:
            # Too slow to read its replies: it asks again. Gone: it has another connection by now, or needs none.
            if error.errno == zmq.EHOSTUNREACH:
                self._relay.forget(connection)
            elif error.errno != zmq.EAGAIN:
                raise

    def _send_up(self, now: float) -> bool:
        """Send what is due; return whether there is no connection to send it on, which the descriptor will tell."""
        while (frame := self._relay.outgoing(now)) is not None:
            try:
                self._dealer.send(frame, _DONTWAIT)
            except zmq.Again:
                return True
            self._relay.sent()
        return False

    def _reopen_if_silent(self, now: float) -> None:
        """A connection that is up and gives no answers may lead nowhere: try a new one."""
        conversation = self._relay.conversation
        welcome = conversation.welcome
        limit_s = max(_SILENCE_MIN_S, 2 * welcome.heartbeat_s if welcome is not None else 0.0)
        if min(conversation.unanswered_s(now), now - self._reopened_at) < limit_s:
            return
        if welcome is not None:
            log.warning("the coordinator at %s does not answer: trying new connections", self._upstream)
        self._reopened_at = now
        self._dealer.close()
        self._dealer = self._dial()
        self._relay.reconnect(now)


def _readable(socket: zmq.Socket[bytes]) -> bool:
    return bool(int(socket.getsockopt(_EVENTS)) & _IN)


class Relays:
    """Relays that share a thread: one on a host, many where a test plays many hosts."""

    def __init__(self) -> None:
        self._servers: list[RelayServer] = []
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def add(self, server: RelayServer) -> None:
        """Drive this one, too, and close it in the end."""
        self._servers.append(server)

    @property
    def endpoints(self) -> list[str]:
        """Where they listen."""
        return [server.endpoint for server in self._servers]

    def serve(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`; raises the error with which the coordinator refused a relay."""
        with select.epoll() as epoll:
            epoll.register(self._wake, select.EPOLLIN)
            watched: dict[int, RelayServer] = {}
            sockets: dict[RelayServer, tuple[zmq.Socket[bytes], ...]] = {}
            dues = dict.fromkeys(self._servers, 0.0)
            on_ready()
            while not self._stopping:
                now = time.monotonic()
                for server in [server for server, due in dues.items() if due <= now]:
                    dues[server] = server.turn()
                    if server.failure is not None:
                        raise server.failure
                    for socket in server.sockets:
                        if socket not in sockets.get(server, ()):
                            # Once for each change: a descriptor stays readable while its socket has not been asked.
                            epoll.register(int(socket.FD), select.EPOLLIN | select.EPOLLET)
                            watched[int(socket.FD)] = server
                            dues[server] = 0.0  # what came before it was watched was told to nobody
                    sockets[server] = server.sockets
                for fd, _ in epoll.poll(max(0.0, min(dues.values()) - time.monotonic())):
                    if fd != self._wake:
                        dues[watched[fd]] = 0.0

    def stop(self) -> None:
        """Ask `serve` to end; safe in a signal handler."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close all of them."""
        for server in self._servers:
            server.close()
        os.close(self._wake)
