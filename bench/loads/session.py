"""Owns connections that speak the control protocol as far as a load needs: hello, register, generation.

They are DEALER sockets or bare wires. A load sends prepared bytes over them; the real client's threads and futures
would measure the client.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import zmq

from strata_zmq.errors import DeadlineExceededError, ProtocolError, from_wire
from strata_zmq.protocol.codec import decode_reply, encode
from strata_zmq.protocol.messages import (
    AwaitGeneration,
    ErrorReply,
    Hello,
    Membership,
    Registered,
    RegisterWorker,
    Reply,
    Request,
    Welcome,
)
from strata_zmq.transport.sockets import CONTROL, connect, open_socket, raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Connection", "Kind", "Sockets", "Worker", "asked", "checked", "connected", "joined"]

Sockets = list[zmq.Socket[bytes]]
Expected = TypeVar("Expected", bound=Reply)


class Connection(Protocol):
    """What a session needs of a DEALER socket or a wire."""

    def send(self, data: bytes, /) -> object:
        """Send one message."""

    def recv(self) -> bytes:
        """Return the next message."""


Kind = TypeVar("Kind", bound=Connection)

_TIMEOUT_S = 30.0
_FILES_PER_SOCKET = 2
"""A ZeroMQ socket holds its connection and the descriptor that wakes its owner."""


@dataclass(frozen=True, slots=True)
class Worker(Generic[Kind]):
    """One registered connection and what its further messages carry in their headers."""

    socket: Kind
    worker_id: str
    session: int
    generation: int


@contextmanager
def connected(endpoint: str | Sequence[str], count: int) -> Iterator[Sockets]:
    """Yield `count` DEALER sockets connected to `endpoint`; several endpoints get as many each, one after the other.

    Raises ResourceExhaustedError where the limit on open files cannot be raised far enough.
    """
    raise_file_limit(2 * _FILES_PER_SOCKET * count + 512)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 16)
    try:
        sockets: Sockets = []
        endpoints = [endpoint] if isinstance(endpoint, str) else endpoint
        for place in range(count):
            socket = open_socket(context, zmq.DEALER, CONTROL)
            connect(socket, endpoints[place * len(endpoints) // count])
            socket.setsockopt(zmq.RCVTIMEO, int(_TIMEOUT_S * 1000))
            socket.setsockopt(zmq.SNDTIMEO, int(_TIMEOUT_S * 1000))
            sockets.append(socket)
        yield sockets
    finally:
        context.destroy(linger=0)


def joined(sockets: Sequence[Kind]) -> list[Worker[Kind]]:
    """Register one worker per socket and return them once the first generation has formed with all of them."""
    names = [f"worker-{place:05d}" for place in range(len(sockets))]
    sessions = [reply.session for reply in asked(sockets, [Hello(seq=1, role="worker")] * len(sockets), Welcome)]
    asked(
        sockets,
        [
            RegisterWorker(seq=2, session=session, worker_id=name, incarnation=name, pid=1)
            for name, session in zip(names, sessions, strict=True)
        ],
        Registered,
    )
    memberships = asked(
        sockets, [AwaitGeneration(seq=3, session=session, timeout_s=_TIMEOUT_S) for session in sessions], Membership
    )
    return [
        Worker(socket, name, session, membership.generation)
        for socket, name, session, membership in zip(sockets, names, sessions, memberships, strict=True)
    ]


def checked(body: bytes, expected: type[Expected]) -> Expected:
    """Return the reply in `body`; raises the error that it carries, or ProtocolError for another kind of reply."""
    reply = decode_reply(body)
    if isinstance(reply, ErrorReply):
        raise from_wire(reply.code, reply.message)
    if not isinstance(reply, expected):
        raise ProtocolError(f"expected {expected.__name__}, the coordinator sent {type(reply).__name__}")
    return reply


def asked(sockets: Sequence[Connection], requests: Sequence[Request], expected: type[Expected]) -> list[Expected]:
    """Send every request, then take every reply; sending first lets the server work on all of them at once."""
    deadline = monotonic() + _TIMEOUT_S
    for socket, request in zip(sockets, requests, strict=True):
        socket.send(encode(request))
    replies = []
    for socket in sockets:
        if monotonic() > deadline:
            break
        try:
            replies.append(checked(socket.recv(), expected))
        except (zmq.Again, DeadlineExceededError):
            break
    if len(replies) < len(sockets):
        raise DeadlineExceededError(
            f"{len(replies)} of {len(sockets)} connections had an answer to {type(requests[0]).__name__} "
            f"within {_TIMEOUT_S:g} s",
            missing=tuple(f"connection {place}" for place in range(len(replies), len(sockets)))[:10],
        )
    return replies
