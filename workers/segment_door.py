"""Where a storage writer takes segments of shared memory from workers on its host; it never reads what is in them.

The socket has an abstract name: there is no file, so a killed writer leaves none. Only processes of the same user are
let in, on both sides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import selectors
import socket
import struct
import threading
from collections.abc import Callable

from strata_zmq.errors import DeadlineExceededError, PeerLostError, ProtocolError, StrataError
from strata_zmq.feed.segment import MemfdSegment, recv_segment

__all__ = ["SegmentDoor", "connect_to_door", "segment_label"]

log = logging.getLogger("strata.writer")

_PEERS_MAX = 4096
_SEGMENTS_MAX = 4
"""Segments of one worker at a time: the oldest is let go when another comes."""
_RECEIVE_TIMEOUT_S = 5.0
_UCRED = struct.Struct("3i")


def segment_label(client: str, number: int) -> bytes:
    """Return what a worker says with a segment: who it is, and its number of the segment."""
    return f"{client} {number}".encode()


def connect_to_door(path: str, timeout_s: float = 2.0) -> socket.socket:
    """Connect to a writer's door; OSError where there is none that this user may trust."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(timeout_s)
        sock.connect(_address(path))
        _require_same_user(sock)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class SegmentDoor:
    """A thread that accepts connections and maps what is sent; `on_segment(client, number)` is called on that thread.

    A worker's segments are let go when its connection ends; who is still reading one holds on to it. When its process
    has ended, `on_gone(client)` is called: another process that holds the connection, too, does not hide that.
    """

    def __init__(self, on_segment: Callable[[str, int], None], on_gone: Callable[[str], None]) -> None:
        self.path = f"@strata-{secrets.token_hex(12)}"
        self._on_segment = on_segment
        self._on_gone = on_gone
        self._processes: dict[int, socket.socket] = {}
        self._left: dict[int, str] = {}
        self._lock = threading.Lock()
        self._segments: dict[str, dict[int, MemfdSegment]] = {}
        self._clients: dict[socket.socket, str] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.bind(_address(self.path))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="strata-segment-door", daemon=True)
        self._thread.start()

    def find(self, client: str, number: int) -> MemfdSegment | None:
        """Return a worker's segment, if it has handed it over."""
        with self._lock:
            return self._segments.get(client, {}).get(number)

    def numbers(self, client: str) -> list[int]:
        """Return the numbers of the segments that a worker has handed over."""
        with self._lock:
            return list(self._segments.get(client, ()))

    def close(self) -> None:
        """End the thread and let all segments go."""
        if self._thread.is_alive():
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._stop)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stop, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif isinstance(key.fileobj, socket.socket):
                        if key.fileobj in self._clients:
                            self._receive(key.fileobj, selector)
                    elif key.fileobj == self._stop:
                        self._end_all(selector)
                        return
                    elif isinstance(key.fileobj, int):
                        self._end_process(key.fileobj, selector)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            log.warning("a worker could not be let in: %s", error)
            return
        try:
            pid = _require_same_user(sock)
            if len(self._clients) >= _PEERS_MAX:
                raise PermissionError(f"{_PEERS_MAX} workers are connected")
        except OSError as error:
            log.warning("a connection for shared memory was refused: %s", error)
            sock.close()
            return
        self._clients[sock] = ""
        selector.register(sock, selectors.EVENT_READ)
        # Of another namespace of processes nothing is known but its connection.
        with contextlib.suppress(OSError):
            process = os.pidfd_open(pid) if pid > 0 else -1
            if process >= 0:
                self._processes[process] = sock
                selector.register(process, selectors.EVENT_READ)

    def _receive(self, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            segment, label = recv_segment(sock, timeout_s=_RECEIVE_TIMEOUT_S, writable=False)
            client, number = _parse_label(label)
        except PeerLostError:
            self._end(sock, selector)
            return
        except (ProtocolError, DeadlineExceededError, StrataError) as error:
            log.warning("a segment was refused: %s", error)
            self._end(sock, selector)
            return
        self._clients[sock] = client
        with self._lock:
            held = self._segments.setdefault(client, {})
            held[number] = segment
            while len(held) > _SEGMENTS_MAX:
                held.pop(min(held))
        self._on_segment(client, number)

    def _end(self, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        selector.unregister(sock)
        client = self._clients.pop(sock)
        sock.close()
        with self._lock:
            self._segments.pop(client, None)
        process = next((fd for fd, own in self._processes.items() if own is sock), None)
        if process is None:
            if client:
                self._on_gone(client)
        elif not client:
            self._forget(process, selector)
        else:
            # It may live on without this connection.
            del self._processes[process]
            self._left[process] = client

    def _end_process(self, process: int, selector: selectors.BaseSelector) -> None:
        if not _is_readable(process):
            # The number was another's when this was noticed.
            return
        sock = self._processes.get(process)
        if sock is not None:
            # What it handed over last may still be on its way.
            self._drain(sock, selector)
            if sock in self._clients:
                self._end(sock, selector)
        client = self._left.pop(process, "")
        if client:
            self._forget(process, selector)
            self._on_gone(client)

    def _drain(self, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        while sock in self._clients and _is_readable(sock):
            self._receive(sock, selector)

    def _forget(self, process: int, selector: selectors.BaseSelector) -> None:
        self._processes.pop(process, None)
        selector.unregister(process)
        os.close(process)

    def _end_all(self, selector: selectors.BaseSelector) -> None:
        for sock, client in self._clients.items():
            sock.close()
            with self._lock:
                self._segments.pop(client, None)
        self._clients.clear()
        for process in [*self._processes, *self._left]:
            os.close(process)
        self._processes.clear()
        self._left.clear()


def _is_readable(what: socket.socket | int) -> bool:
    poll = select.poll()
    poll.register(what, select.POLLIN)
    return bool(poll.poll(0))


def _address(path: str) -> str:
    return "\0" + path.removeprefix("@")


def _require_same_user(sock: socket.socket) -> int:
    """Return the process at the other end, 0 where it has no number here; OSError if it is another user's."""
    pid: int
    uid: int
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid != os.geteuid():
        raise PermissionError(f"the process at the other end belongs to user {uid}")
    return pid


def _parse_label(label: bytes) -> tuple[str, int]:
    with contextlib.suppress(ValueError):
        client, number = label.decode("ascii").split(" ")
        if client and number.isdecimal() and int(number) > 0:
            return client, int(number)
    raise ProtocolError(f"segment label {label[:48]!r}: 'CLIENT NUMBER' is expected")
