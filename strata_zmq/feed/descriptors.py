"""Open descriptors on their way over an AF_UNIX stream socket: framed exactly, close-on-exec, none leaked on errors.

Knows nothing about what the descriptors are. One message is a fixed head, a label, and the descriptors, which the
kernel attaches to the head's first byte.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from array import array
from typing import TYPE_CHECKING

from strata_zmq.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    PeerLostError,
    ProtocolError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LABEL_BYTES_MAX", "recv_descriptors", "send_descriptors"]

LABEL_BYTES_MAX = 4096
_HEAD = struct.Struct("<4sII")  # magic, descriptors, label bytes
_MAGIC = b"STFD"
_INT_BYTES = array("i").itemsize


def send_descriptors(sock: socket.socket, fds: Sequence[int], label: bytes, *, timeout_s: float = 10.0) -> None:
    """Hand copies of `fds` to the other end of a connected AF_UNIX stream socket, with a label that says what for.

    Raises InvalidArgumentError for a label over LABEL_BYTES_MAX, PeerLostError when the receiver is gone,
    DeadlineExceededError when it takes nothing for `timeout_s`, and ResourceExhaustedError when more descriptors are
    under way than this user may have open.
    """
    if len(label) > LABEL_BYTES_MAX:
        raise InvalidArgumentError(f"descriptors: a label has at most {LABEL_BYTES_MAX} bytes, got {len(label)}")
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise InvalidArgumentError("descriptors: only an AF_UNIX stream socket carries them")
    message = _HEAD.pack(_MAGIC, len(fds), len(label)) + label
    before = sock.gettimeout()
    sock.settimeout(timeout_s)
    try:
        sent = socket.send_fds(sock, [message], list(fds))
        sock.sendall(message[sent:])
    except TimeoutError as error:
        raise _late(f"take {label!r}", timeout_s) from error
    except OSError as error:
        if error.errno == errno.ETOOMANYREFS:
            raise ResourceExhaustedError(
                f"descriptors {label!r}: too many are under way; raise the limit on open files (ulimit -n)"
            ) from error
        raise PeerLostError(f"descriptors {label!r}: the receiver is gone ({error.strerror})") from error
    finally:
        sock.settimeout(before)


def recv_descriptors(sock: socket.socket, count: int, *, timeout_s: float = 10.0) -> tuple[list[int], bytes]:
    """Return the next `count` descriptors, which the caller owns, and their label.

    Raises PeerLostError when the sender has closed, DeadlineExceededError after `timeout_s` without a byte, and
    ProtocolError for anything that `send_descriptors` would not have sent with that count.
    """
    before = sock.gettimeout()
    sock.settimeout(timeout_s)
    fds: list[int] = []
    try:
        return fds, _message(sock, count, fds)
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, TimeoutError):
            raise _late("send any", timeout_s) from error
        if isinstance(error, OSError):
            raise PeerLostError(f"descriptors: the sender is gone ({error.strerror})") from error
        raise
    finally:
        sock.settimeout(before)


def _message(sock: socket.socket, count: int, fds: list[int]) -> bytes:
    """Read one message, append what descriptors come with it to `fds`, and return its label."""
    # Exactly the head first: the stream may join it with what follows. socket.recv_fds would drop the CLOEXEC flag,
    # and every later child of this process would hold the descriptors open.
    space = socket.CMSG_SPACE(count * _INT_BYTES)
    head, ancillary, flags, _ = sock.recvmsg(_HEAD.size, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds += array("i", data[: len(data) - len(data) % _INT_BYTES])
    head += _exactly(sock, _HEAD.size - len(head), started=bool(head))
    magic, announced, label_bytes = _HEAD.unpack(head)
    if magic != _MAGIC or label_bytes > LABEL_BYTES_MAX:
        raise ProtocolError("descriptors: the other end does not speak send_descriptors' format")
    label = _exactly(sock, label_bytes, started=True)
    if announced != count or len(fds) != count or flags & socket.MSG_CTRUNC:
        raise ProtocolError(
            f"descriptors {label!r}: {count} expected, {announced} announced, {len(fds)} received; "
            "is the limit on open files reached?"
        )
    return label


def _exactly(sock: socket.socket, count: int, *, started: bool) -> bytes:
    got = bytearray()
    while len(got) < count:
        piece = sock.recv(count - len(got))
        if not piece:
            where = "in the middle of a message" if started or got else "without sending any"
            raise PeerLostError(f"descriptors: the sender closed {where}")
        got += piece
    return bytes(got)


def _late(what: str, timeout_s: float) -> DeadlineExceededError:
    return DeadlineExceededError(f"descriptors: the other end did not {what} within {timeout_s} s", missing=("peer",))
