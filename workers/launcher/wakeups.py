"""What wakes the supervisor's loop from outside: signals to the process, and its own threads.

Owns the signal handlers while they are entered, and puts the former ones back; never knows what a signal is good for.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["SignalInbox", "Wake"]


def _take(signum: int, frame: FrameType | None) -> None:
    """Do nothing: the number has been written to the wake-up descriptor before."""


class SignalInbox:
    """Collects `signums` in the main thread; `fileno()` is readable when one has arrived."""

    def __init__(self, *signums: signal.Signals) -> None:
        self._signums = signums
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for signum in self._signums:
            # nohup's wish counts: a hang-up that was ignored stays ignored.
            if signum is signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN:
                continue
            self._former[signum] = signal.signal(signum, _take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._former_fd)
        self._reading.close()
        self._writing.close()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._reading.fileno()

    def take(self) -> list[signal.Signals]:
        """Return the signals since the last call, in order of arrival."""
        try:
            numbers = self._reading.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in self._signums]


class Wake:
    """A flag that other threads set and a selector waits for; setting it after `close` does nothing."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._open = True

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def set(self) -> None:
        """Wake the loop."""
        with self._lock:
            if self._open:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Take the flag down."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Give the descriptor up."""
        with self._lock:
            self._open = False
            os.close(self._fd)
