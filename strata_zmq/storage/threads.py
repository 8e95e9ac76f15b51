"""Blocking work for an event loop: threads whose end is waited for, and calls that several of them share; no files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["SharedCalls", "Stopped", "in_thread"]

_SMALL_THREADS = 8
_BULK_THREADS = 4
_pools: dict[tuple[int, bool], ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()

T = TypeVar("T")
K = TypeVar("K", bound="Hashable")


class Stopped(Exception):  # noqa: N818 - not an error: the one who asked has gone
    """The caller was cancelled: the work ends here. Nobody outside sees it."""


async def in_thread(
    work: Callable[[Callable[[], None]], T], *, bulk: bool = False, drop: Callable[[T], None] | None = None
) -> T:
    """Return what `work` returns in a thread; large transfers (`bulk`) have threads of their own.

    `work` is given a function to call between its steps, which raises Stopped when the caller was cancelled. This
    function returns only when `work` has ended, cancelled or not: what it was using is free then. `drop` gets a result
    that nobody will take.
    """
    stopped = threading.Event()

    def proceed() -> None:
        if stopped.is_set():
            raise Stopped

    running = asyncio.wrap_future(_pool(bulk=bulk).submit(work, proceed))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stopped.set()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if running.exception() is None and drop is not None:
            drop(running.result())
        raise


def _pool(*, bulk: bool) -> ThreadPoolExecutor:
    """Return this process's threads; a forked child gets its own."""
    key = os.getpid(), bulk
    with _pools_lock:
        if key not in _pools:
            count, name = (_BULK_THREADS, "strata-bulk") if bulk else (_SMALL_THREADS, "strata-files")
            _pools[key] = ThreadPoolExecutor(count, name)
        return _pools[key]


@dataclass(slots=True, eq=False)
class _Turn:
    after: _Turn | None
    done: Future[None] = field(default_factory=Future)


class SharedCalls(Generic[K]):
    """A slow call whose effect covers whatever was done before it began: who comes while one runs shares the next."""

    def __init__(self, call: Callable[[K], None]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._running: dict[K, _Turn] = {}
        self._next: dict[K, _Turn] = {}

    def __call__(self, key: K) -> None:
        """Return when a call for `key` that began after this one has ended; raises what it raised."""
        with self._lock:
            turn = self._next.get(key)
            leads = turn is None
            if turn is None:
                turn = self._next[key] = _Turn(self._running.get(key))
        if not leads:
            turn.done.result()
            return
        if turn.after is not None:
            turn.after.done.exception()
            turn.after = None
        with self._lock:
            del self._next[key]
            self._running[key] = turn
        try:
            self._call(key)
        except BaseException as error:
            turn.done.set_exception(error)
            raise
        else:
            turn.done.set_result(None)
        finally:
            with self._lock:
                if self._running.get(key) is turn:
                    del self._running[key]
