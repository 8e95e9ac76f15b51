"""The supervisor's line to the coordinator: deaths go out, snapshots for the view come in, and nobody waits for either.

Owns what is asked and what was answered last; never decides anything. The client behind it reconnects and repeats by
itself. A coordinator that does not answer costs the view its figures, nothing else.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from strata_zmq.errors import StrataError
from strata_zmq.protocol.messages import GetStatus, ReportLost, Request, Status

if TYPE_CHECKING:
    from strata_zmq.workers.client import CoordinatorClient

__all__ = ["Coordinator", "Link", "dial", "reach"]

_REACH_S = 30.0


class Coordinator(Protocol):
    """What is needed of a connection to the coordinator."""

    def submit(self, message: Request) -> Future[Any]:
        """Send one request, again and again until it is answered; return the future of its reply."""

    def close(self) -> None:
        """Give the connection up."""


def dial(url: str, token: str) -> Coordinator:
    """Connect to the coordinator at `url` as a supervisor that may report dead workers."""
    from strata_zmq.workers.client import CoordinatorClient

    return CoordinatorClient(url, role="supervisor", token=token)


def reach(url: str, token: str, job: str) -> CoordinatorClient:
    """Connect to a coordinator that runs elsewhere, and wait until it answers; raises its error, or UnavailableError.

    Without a token the connection sees the job, and reports nobody.
    """
    from strata_zmq.workers.client import CoordinatorClient

    return CoordinatorClient(url, role="supervisor" if token else "client", token=token, job=job).connect(_REACH_S)


class Link:
    """Carries deaths to the coordinator and takes snapshots.

    `on_news` is called from another thread whenever `take_reported` or `latest` has something new.
    """

    def __init__(self, coordinator: Coordinator, on_news: Callable[[], None]) -> None:
        self._coordinator = coordinator
        self._on_news = on_news
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reported: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._poll: Future[Any] | None = None
        self._latest: tuple[float, Status] | None = None

    def report(self, name: str, pid: int, reason: str) -> Future[Any]:
        """Have the coordinator told of a dead worker; an answer of any kind is one, it may not know the worker."""
        told = self._coordinator.submit(ReportLost(worker_id=name, pid=pid, reason=reason))

        def answered(_: Future[Any]) -> None:
            self._told.put(name)
            self._on_news()

        told.add_done_callback(answered)
        return told

    def bury(self, names: Collection[str], reason: str, timeout_s: float) -> None:
        """Report those of `names` that the coordinator remembers; wait up to `timeout_s` seconds for each answer."""
        self.refresh(timeout_s)
        if self._latest is None:
            return
        for row in self._latest[1].workers:
            if row.worker_id in names:
                with suppress(FutureTimeoutError, StrataError):
                    self.report(row.worker_id, row.pid, reason).result(timeout_s)

    def take_reported(self) -> list[str]:
        """Return the workers whose death the coordinator has taken in, and given a snapshot since."""
        names = _drain(self._told)
        if names:

            def answered(_: Future[Any]) -> None:
                for name in names:
                    self._reported.put(name)
                self._on_news()

            survey = self._coordinator.submit(GetStatus())
            survey.add_done_callback(self._take)
            survey.add_done_callback(answered)
        return _drain(self._reported)

    def poll(self) -> None:
        """Ask for a snapshot, unless one is on its way."""
        if self._poll is None or self._poll.done():
            self._poll = self._coordinator.submit(GetStatus())
            self._poll.add_done_callback(self._take)

    def refresh(self, timeout_s: float) -> None:
        """Take a snapshot and wait for it, for at most `timeout_s` seconds."""
        future = self._coordinator.submit(GetStatus())
        try:
            future.result(timeout_s)
        except (FutureTimeoutError, StrataError):
            return
        self._take(future)

    def latest(self) -> tuple[float, Status] | None:
        """Return the age in seconds of the newest snapshot, and the snapshot; None before the first."""
        latest = self._latest
        return latest and (time.monotonic() - latest[0], latest[1])

    def close(self) -> None:
        """Give the connection up; what was not answered never will be."""
        self._coordinator.close()

    def _take(self, future: Future[Any]) -> None:
        try:
            status = future.result()
        except (StrataError, CancelledError):
            return
        if isinstance(status, Status):
            self._latest = (time.monotonic(), status)
            self._on_news()


def _drain(names: queue.SimpleQueue[str]) -> list[str]:
    found = []
    while not names.empty():
        found.append(names.get())
    return found
