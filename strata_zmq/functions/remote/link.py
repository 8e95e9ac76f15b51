"""A client's socket: one DEALER, what its connection is doing, and what there was no room for yet.

It knows bytes and connections; what the bytes mean is the conversation's business. For one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import zmq
from zmq.utils.monitor import recv_monitor_message

from strata_zmq.functions.wire import Buffer
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import parse_endpoint
from strata_zmq.transport.sockets import FUNCTIONS, connect, open_socket

__all__ = ["DEFAULT_PORT", "Link"]

DEFAULT_PORT = 5555
_COPIED_BYTES_MAX = 64 * 1024
"""A shorter frame is copied: that costs less than to keep track of who uses it."""
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
_GOODBYE_MS = 500
# Plain numbers: the library's own are enumerations, which cost more than the question.
_READABLE, _WRITABLE = int(zmq.POLLIN), int(zmq.POLLOUT)


class Link:
    """The connection of one client to `endpoint`; it is made again for as long as the link is open."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, keys: CurveKeys | None) -> None:
        self.endpoint = parse_endpoint(endpoint, field="dispatcher", default_port=DEFAULT_PORT)
        self.dealer = open_socket(context, zmq.DEALER, FUNCTIONS, keys=keys)
        self.events = self.dealer.get_monitor_socket(_EVENTS)
        self.descriptors = tuple(int(one.getsockopt(zmq.FD)) for one in (self.dealer, self.events))
        """The dealer's and the events'. They tell of a change once, and whatever is done with a socket takes note of
        it: before they are waited for, `receive`, `can_flush` and `changes` have to say that there is no more."""
        self._outbox: deque[list[Buffer]] = deque()
        self._room = False
        try:
            connect(self.dealer, self.endpoint, field="dispatcher")
        except BaseException:
            self.close()
            raise

    def changes(self) -> Iterator[bool]:
        """Yield True for each connection that was made and False for each that broke, in order."""
        while _state(self.events) & _READABLE:
            event = recv_monitor_message(self.events, zmq.DONTWAIT)["event"]
            if event == zmq.EVENT_DISCONNECTED:
                # It was for a connection that is no more: whoever wants it said says it again.
                self._outbox.clear()
            yield event != zmq.EVENT_DISCONNECTED

    def put(self, frames: list[Buffer]) -> None:
        """Send this, now or when there is room."""
        if self._outbox or not self._send(frames):
            self._outbox.append(frames)

    def flush(self) -> bool:
        """Send what there was no room for, as far as there is now; True if nothing is left of it."""
        while self._outbox and self._send(self._outbox[0]):
            self._outbox.popleft()
        return not self._outbox

    @property
    def blocked(self) -> bool:
        """Whether something is left that there was no room for."""
        return bool(self._outbox)

    @property
    def can_flush(self) -> bool:
        """Whether there is room for what there was none for, as `receive` last saw it."""
        return self._room and bool(self._outbox)

    def receive(self) -> list[Buffer] | None:
        """Return the next message, or None."""
        dealer = self.dealer
        # Asking is several times cheaper than the exception that says no.
        state = _state(dealer)
        if not state & _READABLE:
            self._room = bool(state & _WRITABLE)
            return None
        frames: list[Buffer] = [dealer.recv(zmq.DONTWAIT)]
        while dealer.getsockopt(zmq.RCVMORE):
            frame = dealer.recv(copy=False)
            # The message's own memory, which nobody else writes to: a large result is not copied once more.
            frames.append(frame.bytes if len(frame) < _COPIED_BYTES_MAX else frame.buffer)
        return frames

    def close(self, goodbye: list[Buffer] | None = None) -> None:
        """End the connection, after what is still to be said; waits for nobody."""
        if goodbye is not None and not self._outbox:
            self._send(goodbye)
        self.dealer.disable_monitor()
        self.events.close(linger=0)
        self.dealer.close(linger=_GOODBYE_MS if goodbye is not None else 0)

    def _send(self, frames: list[Buffer]) -> bool:
        try:
            if len(frames) == 1:
                self.dealer.send(frames[0], zmq.DONTWAIT)
            else:
                # Frames above pyzmq's threshold (64 KiB) are sent from where they lie.
                self.dealer.send_multipart(frames, zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return False
        return True


def _state(socket: zmq.Socket[bytes]) -> int:
    return cast("int", socket.get(zmq.EVENTS))
