"""Relays on real sockets: each a ROUTER for a host's workers and one DEALER upward. They decide nothing."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
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
UPLINK = Limits(message_bytes_max=MAX_FOLDED_BYTES, send_high_water_mark=10_000, receive_high_water_mark=10_000)
DRAIN_MAX = 256
_POLL_MAX_S = 0.25
_SILENCE_MIN_S = 1.0
# Plain integers: combining pyzmq's flags costs more than sending a frame.
_DONTWAIT = int(zmq.DONTWAIT)
_MORE = int(zmq.SNDMORE) | _DONTWAIT


class RelayServer:
    """One relay's sockets. `listen` is where the host's workers connect, `coordinator_url` where it speaks upward.

    Whoever drives it polls what it registers, and calls `turn` when something is ready or due.
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
        self._children_polled = True
        self._blocked = False
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
        """What is polled for it now."""
        return self._router, self._dealer

    def register(self, poller: zmq.Poller) -> None:
        """Have this relay's sockets polled."""
        poller.register(self._router, zmq.POLLIN if self._children_polled else 0)
        poller.register(self._dealer, zmq.POLLIN | (zmq.POLLOUT if self._blocked else 0))

    def turn(self, ready: Mapping[Any, int], poller: zmq.Poller) -> float:
        """Do what can be done now; return when to come back at the latest, on the monotonic clock."""
        if self._dealer in ready and ready[self._dealer] & zmq.POLLIN:
            self._take_frames()
        if self._router in ready:
            self._take_children()
        now = time.monotonic()
        self._send_up(now, poller)
        self._reopen_if_silent(now, poller)
        if self._relay.is_full == self._children_polled:
            # Who waits too long in front of a full relay goes to the coordinator itself.
            self._children_polled = not self._relay.is_full
            poller.register(self._router, zmq.POLLIN if self._children_polled else 0)
        return now + _POLL_MAX_S if self._blocked else min(self._relay.next_due(now), now + _POLL_MAX_S)

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

    def _send_up(self, now: float, poller: zmq.Poller) -> None:
        blocked = False
        while (frame := self._relay.outgoing(now)) is not None:
            try:
                self._dealer.send(frame, _DONTWAIT)
            except zmq.Again:
                blocked = True
                break
            self._relay.sent()
        if blocked != self._blocked:
            self._blocked = blocked
            poller.register(self._dealer, zmq.POLLIN | (zmq.POLLOUT if blocked else 0))

    def _reopen_if_silent(self, now: float, poller: zmq.Poller) -> None:
        """A connection that is up and gives no answers may lead nowhere: try a new one."""
        conversation = self._relay.conversation
        welcome = conversation.welcome
        limit_s = max(_SILENCE_MIN_S, 2 * welcome.heartbeat_s if welcome is not None else 0.0)
        if min(conversation.unanswered_s(now), now - self._reopened_at) < limit_s:
            return
        self._reopened_at = now
        poller.unregister(self._dealer)
        self._dealer.close()
        self._dealer, self._blocked = self._dial(), False
        poller.register(self._dealer, zmq.POLLIN)
        self._relay.reconnect(now)


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
        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        for server in self._servers:
            server.register(poller)
        on_ready()
        dues = dict.fromkeys(self._servers, 0.0)
        while not self._stopping:
            wait_ms = (min(dues.values()) - time.monotonic()) * 1000
            ready = dict(poller.poll(int(wait_ms) + 1 if wait_ms > 0 else 0))
            now = time.monotonic()
            for server, due in dues.items():
                if due <= now or any(socket in ready for socket in server.sockets):
                    dues[server] = server.turn(ready, poller)
                    if server.failure is not None:
                        raise server.failure

    def stop(self) -> None:
        """Ask `serve` to end; safe in a signal handler."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close all of them."""
        for server in self._servers:
            server.close()
        os.close(self._wake)
