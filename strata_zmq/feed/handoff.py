"""A meeting point for descriptors between processes that are no relatives: a listening socket in a private folder.

Knows nothing about what is handed over; `send_segment` and `recv_segment` do that on the sockets made here. Only
processes of the same user get in, and each accepted peer comes with its process id as the kernel knows it.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Self

from strata_zmq.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    InvalidArgumentError,
    StorageError,
    UnavailableError,
)

__all__ = ["HandoffListener", "connect_handoff"]

_PATH_BYTES_MAX = 107  # sockaddr_un
_CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid


class HandoffListener:
    """A listening AF_UNIX stream socket at `path`, whose folder is made with mode 0700 or must have it already.

    A socket file left by a process that was killed is replaced; one that somebody still listens on is an
    AlreadyExistsError.
    """

    def __init__(self, path: Path, backlog: int = 128) -> None:
        self.path = _checked(path)
        self._private_folder()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind()
            self._socket.listen(backlog)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The listening descriptor, readable when somebody connects."""
        return self._socket.fileno()

    def accept(self, timeout_s: float = 10.0) -> tuple[socket.socket, int]:
        """Return the next connection and the process id behind it; strangers (another user) are turned away."""
        self._socket.settimeout(timeout_s)
        while True:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError as error:
                raise DeadlineExceededError(f"{self.path}: nobody connected within {timeout_s} s") from error
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(raw)
            if uid in {os.geteuid(), 0}:
                return connection, pid
            connection.close()

    def close(self) -> None:
        """Stop listening and remove the socket file; calling again is harmless."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _private_folder(self) -> None:
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.stat()
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made for the socket ({error.strerror})") from error
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise InvalidArgumentError(f"{folder}: must belong to this user alone (mode 0700); choose another folder")

    def _bind(self) -> None:
        try:
            self._socket.bind(str(self.path))
        except OSError as error:
            if not self.path.is_socket():
                raise StorageError(f"{self.path}: cannot be bound ({error.strerror})") from error
            try:
                connect_handoff(self.path, timeout_s=1.0).close()
            except UnavailableError:
                self.path.unlink(missing_ok=True)
                self._socket.bind(str(self.path))
            else:
                raise AlreadyExistsError(f"{self.path}: another process is listening there") from error


def connect_handoff(path: Path, timeout_s: float = 10.0) -> socket.socket:
    """Connect to a HandoffListener; UnavailableError names the path if nobody listens."""
    path = _checked(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise UnavailableError(f"{path}: nobody listens there ({error.strerror or 'time-out'})") from error
    connection.settimeout(None)
    return connection


def _checked(path: Path) -> Path:
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise InvalidArgumentError(f"{path}: a socket's path has at most {_PATH_BYTES_MAX} bytes; use a shorter folder")
    return Path(path)
