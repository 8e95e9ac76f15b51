"""The dispatcher's own children, in mode `local`: to the core they are one more worker. It decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context

from strata_zmq.domain.service import credit
from strata_zmq.domain.task import Task
from strata_zmq.errors import UnavailableError
from strata_zmq.functions.dispatch.events import (
    Attempt,
    BeginAsked,
    Event,
    Finished,
    Returned,
    Started,
    Wanted,
    WorkerAlive,
    WorkerEnlisted,
    WorkerLost,
    WorkerRetiring,
)
from strata_zmq.functions.pool.options import PoolOptions
from strata_zmq.functions.pool.pool import ChildPool

from .blobs import Blobs
from .config import DispatcherConfig

__all__ = ["LocalPool"]

_PACKETS_AHEAD = 6
"""A commit lasts longer than the short calls of two packets. What lies unread at a child is granted already: no more is
lost with it."""


class LocalPool:
    """A pool of children under one session of the core that never ends."""

    def __init__(self, config: DispatcherConfig, session: int, incarnation: str, blobs: Blobs) -> None:
        self.session = session
        self._blobs = blobs
        # A name of this life: what an earlier one had assigned to its children ended with them.
        self._name = f"local:{incarnation}"
        self._held = 0
        self._function = b""
        self._retiring = False
        self._config = config
        self._pool = ChildPool(
            PoolOptions(
                config.workers,
                context=get_context("forkserver"),
                memory_bytes=config.memory_bytes,
                gpus=config.gpus,
                grow="all",
                worker_name=self._name,
                packets_ahead=_PACKETS_AHEAD,
            )
        )
        self.offered = False
        """Whether there is something to hand out before anything else happens."""

    def start(self) -> WorkerEnlisted:
        """Start the children, and return their enlistment."""
        self._pool.start()
        config = self._config
        labels = {"gpu": len(config.gpus)} if config.gpus else {}
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return WorkerEnlisted(self.session, self._name, config.workers, "pull", labels, python)

    def fileno(self) -> int:
        """Return what is readable when `turn` has something to do."""
        return self._pool.fileno()

    def next_wakeup(self) -> float | None:
        """Return when `turn` is due, at the latest."""
        return self._pool.next_wakeup()

    def alive(self) -> WorkerAlive:
        """Say that the children are there."""
        return WorkerAlive(self.session)

    def assign(self, tasks: Sequence[Task], now: float) -> None:
        """Take tasks to run."""
        self._pool.offer(tasks, now)
        self._held += len(tasks)
        self._function = tasks[-1].function
        self.offered = True

    @property
    def busy(self) -> bool:
        """Whether any call has not ended."""
        return self._held > 0

    def retire(self) -> tuple[WorkerRetiring, Returned]:
        """Begin nothing new: what waits is given back, what runs goes on."""
        self._retiring = True
        return WorkerRetiring(self.session), self.recall(self._pool.waiting)

    def grant(self, attempts: Sequence[Attempt]) -> None:
        """Let attempts begin that ask: it is written down that they may have."""
        self._pool.grant(attempts)
        self.offered = True

    def recall(self, count: int) -> Returned:
        """Give unstarted tasks back."""
        returned = self._pool.withdraw(count)
        self._held -= len(returned)
        return Returned(self.session, returned)

    def stop(self, attempts: Sequence[Attempt]) -> None:
        """Drop attempts that wait, and kill those that run."""
        for task_id, attempt in attempts:
            self._pool.stop(task_id, attempt)
        self.offered = True

    def turn(self, now: float, add: Callable[[Event], None]) -> None:
        """See what has happened, and hand out what waits; UnavailableError if no child can be started any more."""
        self.offered = False
        turn = self._pool.turn(now)
        if turn.started:
            add(Started(self.session, turn.started))
        if turn.outcomes:
            self._held -= len(turn.outcomes)
            add(Finished(self.session, turn.outcomes))
        if turn.returned:
            self._held -= len(turn.returned)
            add(Returned(self.session, turn.returned))
        if turn.asking:
            add(BeginAsked(self.session, turn.asking))
        if turn.lacking:
            self._bring(turn.lacking)
        if turn.broken:
            raise UnavailableError(f"the children of mode 'local' cannot be started: {turn.broken}")
        if self._retiring:
            return
        if turn.outcomes or turn.returned or not self._held:
            depth = credit(self._config.workers, self._pool.service(self._function))
            add(Wanted(self.session, max(0, depth - self._held)))

    def close(self) -> WorkerLost:
        """End the children, and return what that means for what they had."""
        self._pool.close(kill=True)
        return WorkerLost(self.session, "its dispatcher was asked to end")

    def _bring(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            payload = self._blobs.get(digest)
            if payload is None:
                self._pool.give_up(digest)
            else:
                self._pool.keep(digest, payload)
        self.offered = True
