"""A client's sockets: one DEALER to ask on, one SUB to listen on, and what their connections are doing.

It knows bytes and connections; what the bytes mean is the conversation's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.sockets import REPLIES, connect, open_socket

__all__ = ["TOPICS", "Change", "Connection"]

TOPICS = (b"epoch", b"rebalance", b"checkpoint", b"tick")
"""What a worker hears of what is published: the broadcasts, and not what is shown to people."""

Change = Literal["up", "again", "down"]
"""A connection has been made for the first time, has been made again, or has broken."""

_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class Connection:
    """The sockets of one client; `with` closes them. For one thread."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, keys: CurveKeys | None) -> None:
        self._context = context
        self._keys = keys
        self._dealer_was_up = False
        self._open_dealer(endpoint)
        self._broadcasts_were_up = False
        self._broadcast_endpoint = ""
        self.broadcasts = open_socket(context, zmq.SUB, REPLIES, keys=keys)
        for topic in TOPICS:
            self.broadcasts.setsockopt(zmq.SUBSCRIBE, topic)
        self.broadcast_events = self.broadcasts.get_monitor_socket(_EVENTS)

    def move(self, endpoint: str, poller: zmq.Poller) -> None:
        """Ask at another endpoint from now on."""
        for socket in (self.dealer, self.dealer_events):
            poller.unregister(socket)
        _close(self.dealer, self.dealer_events)
        self._open_dealer(endpoint)
        for socket in (self.dealer, self.dealer_events):
            poller.register(socket, zmq.POLLIN)

    def subscribe(self, endpoint: str) -> None:
        """Listen at this endpoint, and at no other."""
        if not endpoint or endpoint == self._broadcast_endpoint:
            return
        if self._broadcast_endpoint:
            self.broadcasts.disconnect(self._broadcast_endpoint)
        connect(self.broadcasts, endpoint, field="broadcast endpoint")
        self._broadcast_endpoint, self._broadcasts_were_up = endpoint, False

    def poller(self) -> zmq.Poller:
        """Return a poller of everything that can be read."""
        poller = zmq.Poller()
        for socket in (self.dealer, self.dealer_events, self.broadcasts, self.broadcast_events):
            poller.register(socket, zmq.POLLIN)
        return poller

    def send(self, data: bytes) -> bool:
        """Send without waiting; False while no connection is open."""
        try:
            self.dealer.send(data, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def receive_reply(self) -> bytes | None:
        """Return the next reply, or None."""
        frames = _receive(self.dealer)
        return None if frames is None else frames[0]

    def receive_broadcast(self) -> bytes | None:
        """Return the next broadcast without its topic, or None."""
        frames = _receive(self.broadcasts)
        return None if frames is None else frames[-1]

    def changes(self) -> Iterator[Change]:
        """Yield what has become of the connection that is asked on."""
        for event in _events(self.dealer_events):
            if event == zmq.EVENT_DISCONNECTED:
                yield "down"
            else:
                yield "again" if self._dealer_was_up else "up"
                self._dealer_was_up = True

    def reconnected_broadcasts(self) -> bool:
        """Return whether the connection that is listened on was made again."""
        again = False
        for event in _events(self.broadcast_events):
            if event != zmq.EVENT_DISCONNECTED:
                again = again or self._broadcasts_were_up
                self._broadcasts_were_up = True
        return again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _close(self.dealer, self.dealer_events)
        _close(self.broadcasts, self.broadcast_events)

    def _open_dealer(self, endpoint: str) -> None:
        self.dealer = open_socket(self._context, zmq.DEALER, REPLIES, keys=self._keys)
        self.dealer_events = self.dealer.get_monitor_socket(_EVENTS)
        self._dealer_was_up = False
        connect(self.dealer, endpoint)


def _close(socket: zmq.Socket[bytes], events: zmq.Socket[bytes]) -> None:
    socket.disable_monitor()
    events.close(linger=0)
    socket.close(linger=0)


def _receive(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None


def _events(monitor: zmq.Socket[bytes]) -> Iterator[int]:
    while True:
        try:
            yield int(recv_monitor_message(monitor, zmq.DONTWAIT)["event"])
        except zmq.Again:
            return
