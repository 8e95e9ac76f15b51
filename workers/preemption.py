"""A signal that says that this process will be taken away: the training loop saves, and leaves, while there is time.

It keeps what the signal said; the loop asks at each commit point. Where no loop runs, or the time is over, the signal
does what it would have done without this.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

__all__ = ["GRACE_S", "Preemption"]

log = logging.getLogger("strata.worker")

GRACE_S = 25.0
"""Between SIGTERM and SIGKILL most schedulers leave 30 s."""


class Preemption:
    """The handlers of one worker. `obeyed` tells whether a loop runs that will come to a commit point.

    A second signal is not waited for, and neither is a loop that comes to no commit point within `grace_s`.
    """

    def __init__(self, obeyed: Callable[[], bool], grace_s: float = GRACE_S) -> None:
        self._obeyed = obeyed
        self._grace_s = grace_s
        self._before: dict[int, Any] = {}
        self._deadline: float | None = None
        self._timer: threading.Timer | None = None

    def install(self, signals: Iterable[int]) -> None:
        """Listen to these signals from now on; what is ignored stays so. Only the main thread may, others may not."""
        if threading.current_thread() is not threading.main_thread():
            log.info("signals are not listened to: the worker was not connected by the main thread")
            return
        for number in signals:
            before = signal.getsignal(number)
            # None: a handler that was not set from Python, which could not be put back.
            if before not in {signal.SIG_IGN, None} and number not in self._before:
                self._before[number] = before
                signal.signal(number, self._take)

    def remove(self) -> None:
        """Put the handlers back that were there before; safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._take:
                signal.signal(number, before)
        self._before.clear()

    @property
    def told(self) -> bool:
        """Whether this process is to save and to leave."""
        return self._deadline is not None

    @property
    def left_s(self) -> float | None:
        """Seconds of the time that is left; None: nobody has said that it is short."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def _take(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if self._deadline is not None or not self._obeyed():
            self._pass_on(number, frame)
            return
        self._deadline = time.monotonic() + self._grace_s
        log.warning(
            "%s: saving behind the next commit point and leaving, within %g s",
            signal.Signals(number).name,
            self._grace_s,
        )
        self._timer = threading.Timer(self._grace_s, os.kill, (os.getpid(), number))
        self._timer.daemon = True
        self._timer.start()
        if callable(before):
            before(number, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number, signal.SIG_DFL)
        if callable(before):
            before(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
