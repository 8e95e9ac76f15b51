"""One thread that runs an event loop, so that synchronous code can start asynchronous work; knows nothing of the work.

Work that is under way when the program ends normally is finished first: `at_exit` hooks run while threads still work.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # registers its own exit hook first, so that ours runs before it
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["BackgroundLoop", "at_exit"]

T = TypeVar("T")


class BackgroundLoop:
    """An event loop in a daemon thread; starts with its first use."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start `work` on the loop and return its future."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for its result; not to be called from the loop itself."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def is_this_thread(self) -> bool:
        """Whether the caller runs on the loop's own thread, where nothing of it can be waited for."""
        return self._thread is threading.current_thread()

    def stop(self) -> None:
        """Cancel what is still running, end the thread and close the loop; calling again is harmless."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop


def at_exit(hook: Callable[[], None]) -> None:
    """Call `hook` when the program ends normally, while threads can still be used."""
    # atexit proper runs after the executors have been shut down, when nothing can be handed to a thread any more.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(hook)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
