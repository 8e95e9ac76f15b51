"""The one place that makes ZeroMQ sockets: every limit and key is set here, before anything is bound or connected."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from strata_zmq.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from strata_zmq.transport.curve import CurveKeys
from strata_zmq.transport.endpoints import check_bindable, ipc_path

__all__ = [
    "CONTROL",
    "FUNCTIONS",
    "REPLIES",
    "STREAM",
    "Limits",
    "bind",
    "connect",
    "last_endpoint",
    "open_socket",
    "raise_file_limit",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a socket may hold. `message_bytes_max` is per frame (ZMQ_MAXMSGSIZE); marks are in messages.

    A TCP connection whose peer has acknowledged nothing for `silence_ms` milliseconds is given up.
    """

    message_bytes_max: int
    send_high_water_mark: int
    receive_high_water_mark: int
    backlog: int = 2048
    silence_ms: int = 5000


CONTROL = Limits(message_bytes_max=64 * 1024, send_high_water_mark=10_000, receive_high_water_mark=10_000)
REPLIES = Limits(message_bytes_max=16 * 1024 * 1024, send_high_water_mark=10_000, receive_high_water_mark=10_000)
# Byte credits bound the stream; the marks are a second line for a peer that ignores them.
# A receiver that is busy with its disk acknowledges late.
STREAM = Limits(
    message_bytes_max=64 * 1024 * 1024, send_high_water_mark=64, receive_high_water_mark=64, silence_ms=30_000
)
# Payloads are frames of their own; credit and the bounded queue keep their number down.
FUNCTIONS = Limits(
    message_bytes_max=256 * 1024 * 1024, send_high_water_mark=1000, receive_high_water_mark=1000, silence_ms=30_000
)

_CONNECT_MS = 2000
_HANDSHAKE_MS = 5000
_KEEPALIVE_S = 5


def open_socket(
    context: zmq.Context[Any], kind: int, limits: Limits, *, keys: CurveKeys | None = None, server: bool = False
) -> zmq.Socket[bytes]:
    """Return a socket with its limits set.

    LINGER is 0, so that closing never hangs; a ROUTER refuses what it cannot route; a client's IMMEDIATE keeps messages
    from queueing for a peer that was never there. With `keys` the socket speaks CURVE only.
    """
    try:
        socket: zmq.Socket[bytes] = context.socket(kind)
    except zmq.ZMQError as error:
        if error.errno == errno.EMFILE:
            raise ResourceExhaustedError(
                "no more sockets: raise the limit on open files (ulimit -n) or ZMQ_MAX_SOCKETS"
            ) from error
        raise
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.message_bytes_max)
    socket.setsockopt(zmq.SNDHWM, limits.send_high_water_mark)
    socket.setsockopt(zmq.RCVHWM, limits.receive_high_water_mark)
    socket.setsockopt(zmq.BACKLOG, limits.backlog)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    # A server that was restarted is found again soon; libzmq spreads a herd by chance within the first interval.
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 250)
    # A peer that accepts and then says nothing (a stopped process, a hung proxy) is tried again.
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    _notice_partitions(socket, limits)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if kind in {zmq.DEALER, zmq.PUSH}:
        socket.setsockopt(zmq.IMMEDIATE, 1)
    if keys is not None:
        keys.apply(socket, server=server)
    return socket


def bind(socket: zmq.Socket[bytes], endpoint: str, *, field: str = "endpoint") -> str:
    """Bind and return the endpoint as bound (a port 0 or * is resolved).

    An ipc endpoint's folder is made with mode 0700, and a socket file that nobody listens on any more is replaced; one
    that somebody listens on, or a file that is no socket, is an error.
    """
    secured = bool(socket.getsockopt(zmq.CURVE_SERVER))
    check_bindable(endpoint, secured=secured, field=field)
    path = ipc_path(endpoint)
    if path is not None:
        _prepare_ipc(endpoint, Path(path), field)
    _allow_ipv6(socket, endpoint)
    try:
        socket.bind(f"{endpoint[:-1]}*" if endpoint.startswith("tcp://") and endpoint.endswith(":0") else endpoint)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(field, endpoint, "another port (0 takes a free one)") from None
        raise UnavailableError(f"{field} {endpoint!r} cannot be bound: {error}") from None
    return last_endpoint(socket)


def connect(socket: zmq.Socket[bytes], endpoint: str, *, field: str = "COORDINATOR_URL") -> None:
    """Connect; a malformed endpoint is an InvalidArgumentError. That nobody listens shows only later."""
    _allow_ipv6(socket, endpoint)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise InvalidArgumentError(f"{field} {endpoint!r} cannot be connected to: {error}") from None


def last_endpoint(socket: zmq.Socket[bytes]) -> str:
    """Return the endpoint that was bound last."""
    value = socket.getsockopt(zmq.LAST_ENDPOINT)
    return bytes(value).rstrip(b"\0").decode() if isinstance(value, bytes) else str(value)


def raise_file_limit(needed: int) -> None:
    """Raise the soft limit on open files to at least `needed`, or say which limit is in the way."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ResourceExhaustedError(
            f"{needed} open files are needed and the hard limit is {hard}: raise it (ulimit -Hn {needed}) or use "
            "fewer workers"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _notice_partitions(socket: zmq.Socket[bytes], limits: Limits) -> None:
    """Give a dead connection up soon, and make another.

    TCP repeats what is not acknowledged at intervals that double, up to two minutes: a connection that lived through a
    long partition would stay silent for about as long again. A new one is there as soon as the network is.
    """
    socket.setsockopt(zmq.TCP_MAXRT, limits.silence_ms)
    # Who only listens notices by asking.
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEPALIVE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEPALIVE_S)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)


def _allow_ipv6(socket: zmq.Socket[bytes], endpoint: str) -> None:
    # Only for numeric addresses: names keep resolving as they did.
    if endpoint.startswith("tcp://["):
        socket.setsockopt(zmq.IPV6, 1)


def _in_use(field: str, endpoint: str, instead: str) -> UnavailableError:
    return UnavailableError(f"{field} {endpoint!r} is in use by another process: stop it, or choose {instead}")


def _prepare_ipc(endpoint: str, path: Path, field: str) -> None:
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise UnavailableError(f"{field}: the folder {str(folder)!r} cannot be made: {error.strerror}") from None
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise InvalidArgumentError(
            f"{field}: others can reach the folder {str(folder)!r}; use one that is yours alone (chmod 700 {folder})"
        )
    # libzmq unlinks whatever is at the path before it binds: a live peer's address, or somebody's file.
    if path.is_socket():
        if _is_listening(path):
            raise _in_use(field, endpoint, "another path")
        path.unlink(missing_ok=True)
    elif path.exists() or path.is_symlink():
        raise InvalidArgumentError(f"{field} {endpoint!r}: {str(path)!r} exists and is no socket: choose another path")


def _is_listening(path: Path) -> bool:
    import socket as unix

    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
