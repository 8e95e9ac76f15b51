"""The dispatcher's own children, in mode `local`: to the core they are one more worker. It decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context

from strata_zmq.domain.task import Task
from strata_zmq.errors import UnavailableError
from strata_zmq.functions.dispatch.events import (
    Attempt,
    Event,
    Finished,
    Returned,
    Started,
    WorkerAlive,
    WorkerEnlisted,
)
from strata_zmq.functions.pool.options import PoolOptions
from strata_zmq.functions.pool.pool import ChildPool

from .blobs import Blobs
from .config import DispatcherConfig

__all__ = ["LocalPool"]


class LocalPool:
    """A pool of children under one session of the core that never ends."""

    def __init__(self, config: DispatcherConfig, session: int, blobs: Blobs) -> None:
        self.session = session
        self._blobs = blobs
        self._config = config
        self._pool = ChildPool(
            PoolOptions(
                config.workers,
                context=get_context("forkserver"),
                memory_bytes=config.memory_bytes,
                gpus=config.gpus,
                grow="all",
                worker_name="local",
                packets_ahead=1,
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
        return WorkerEnlisted(self.session, "local", config.workers, "push", labels, python)

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
        self.offered = True

    def recall(self, count: int) -> Returned:
        """Give unstarted tasks back."""
        return Returned(self.session, self._pool.withdraw(count))

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
            add(Finished(self.session, turn.outcomes))
        if turn.lacking:
            self._bring(turn.lacking)
        if turn.broken:
            raise UnavailableError(f"the children of mode 'local' cannot be started: {turn.broken}")

    def close(self) -> None:
        """End the children."""
        self._pool.close(kill=True)

    def _bring(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            payload = self._blobs.get(digest)
            if payload is None:
                self._pool.give_up(digest)
            else:
                self._pool.keep(digest, payload)
        self.offered = True
