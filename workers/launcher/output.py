"""The terminal, on a thread of its own: a reader that stops reading never stops the supervisor.

Owns standard output and error while a job runs, and the live view on a terminal; never knows what the lines mean. What
waits to be written is bounded: above the limit `full` is true, and the supervisor stops reading its children's pipes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["STDERR", "STDOUT", "Output", "on_terminal"]

STDOUT, STDERR = 1, 2
WAITING_BYTES_MAX = 4 * 1024 * 1024
WAITING_BYTES_LOW = 1024 * 1024
_BATCH_BYTES = 256 * 1024
_REFRESH_S = 0.25


class Output(threading.Thread):
    """Writes lines to file descriptors 1 and 2 in the order in which they were posted.

    With `live`, a function that returns what to draw, a view is kept below the lines on standard error's terminal.
    `on_room` is called from this thread when `full` turns false again.
    """

    def __init__(self, on_room: Callable[[], None], live: Callable[[], RenderableType] | None = None) -> None:
        super().__init__(name="strata-output", daemon=True)
        self._on_room = on_room
        self._view = live
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._was_full = False
        self._closing = False
        self._changed = threading.Condition()
        self._broken: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether more waits to be written than may; post no more log lines until `on_room` is called."""
        with self._changed:
            if self._bytes > WAITING_BYTES_MAX:
                self._was_full = True
            return self._was_full

    def post(self, fd: int, line: bytes) -> None:
        """Queue one whole line, its end included, for standard output (1) or error (2)."""
        with self._changed:
            self._waiting.append((fd, line))
            self._bytes += len(line)
            self._changed.notify()

    def close(self, timeout_s: float) -> bool:
        """Write what waits and stop; returns False when the reader did not take it within `timeout_s`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        """Serve until `close`; called by the thread."""
        if self._view is not None:
            terminal = {fd for fd in (STDOUT, STDERR) if os.isatty(fd)} | {STDERR}
            try:
                self._run_live(self._view, terminal)
            except OSError:
                _forget(terminal)  # it was closed; what goes elsewhere still goes there
        while (batch := self._take(None)) is not None:
            for fd, data in batch:
                self._write(fd, data)

    def _run_live(self, view: Callable[[], RenderableType], terminal: set[int]) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False, markup=False)
        with Live(view(), console=console, auto_refresh=False, transient=True) as live:
            drawn = time.monotonic()
            while (batch := self._take(_REFRESH_S)) is not None:
                for fd, data in batch:  # first, because a terminal that is closed ends this loop
                    if fd not in terminal:
                        self._write(fd, data)
                for fd, data in batch:
                    if fd in terminal:
                        _print_above(console, data)
                if time.monotonic() - drawn >= _REFRESH_S:
                    live.update(view(), refresh=True)
                    drawn = time.monotonic()

    def _take(self, timeout_s: float | None) -> list[tuple[int, bytes]] | None:
        """Return what waits, neighbours of one stream joined; [] after `timeout_s`; None once closed and empty."""
        with self._changed:
            if not self._waiting and not self._closing:
                self._changed.wait(timeout_s)
            if not self._waiting and self._closing:
                return None
            taken: list[tuple[int, bytes]] = []
            size = 0
            while self._waiting and size < _BATCH_BYTES:
                taken.append(self._waiting.popleft())
                size += len(taken[-1][1])
            self._bytes -= size
            room = self._was_full and self._bytes <= WAITING_BYTES_LOW
            if room:
                self._was_full = False
        if room:
            self._on_room()
        return [(fd, b"".join(line for _, line in lines)) for fd, lines in groupby(taken, key=lambda posted: posted[0])]

    def _write(self, fd: int, data: bytes) -> None:
        """Write all of `data`; a reader that has gone costs its lines, never the job."""
        view = memoryview(data)
        while view and fd not in self._broken:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:  # somebody made the shared terminal non-blocking
                time.sleep(0.01)
            except OSError:
                self._broken.add(fd)


def _forget(terminal: set[int]) -> None:
    """Let what is still buffered for a closed terminal go nowhere: flushing it at exit would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for fd in terminal:
        os.dup2(nowhere, fd)
    os.close(nowhere)


def _print_above(console: Console, data: bytes) -> None:
    from rich.text import Text

    for line in data.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n"):
        console.print(Text.from_ansi(line), soft_wrap=True)


def on_terminal() -> bool:
    """Whether a live view can be drawn: standard error is a terminal that moves its cursor."""
    return sys.stderr is not None and os.isatty(STDERR) and os.environ.get("TERM", "dumb") != "dumb"
