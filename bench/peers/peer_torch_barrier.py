"""torch's TCPStore.barrier: one client per worker, each on a thread of its own, because its calls block."""

from __future__ import annotations

import threading
from datetime import timedelta
from queue import SimpleQueue
from time import perf_counter, sleep

from torch.distributed import TCPStore

__all__ = ["Peer"]

_SETTLE_S = 0.005
_TIMEOUT = timedelta(seconds=60)


class Peer:
    """A store server in this process, and `workers` clients of it."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)
        self._orders: list[SimpleQueue[str | None]] = [SimpleQueue() for _ in range(workers)]
        self._returns: SimpleQueue[float] = SimpleQueue()
        self._round = 0
        started = threading.Semaphore(0)
        for orders in self._orders:
            threading.Thread(target=self._work, args=(orders, started), daemon=True).start()
        for _ in range(workers):
            started.acquire()

    def barriers(self, count: int) -> dict[str, list[float]]:
        """Last arrival to last release of `count` barriers, in seconds."""
        return {"latencies": [self._barrier() for _ in range(count)]}

    def _barrier(self) -> float:
        self._round += 1
        key = f"barrier-{self._round}"
        for orders in self._orders[:-1]:
            orders.put(key)
        # The others block inside the store; nothing tells from outside when the last of them does.
        sleep(_SETTLE_S + 2e-5 * self._workers)
        start = perf_counter()
        self._orders[-1].put(key)
        return max(self._returns.get() for _ in range(self._workers)) - start

    def _work(self, orders: SimpleQueue[str | None], started: threading.Semaphore) -> None:
        store = TCPStore("127.0.0.1", self._server.port, is_master=False, timeout=_TIMEOUT)
        started.release()
        while (key := orders.get()) is not None:
            store.barrier(key, self._workers, _TIMEOUT)
            self._returns.put(perf_counter())

    def close(self) -> None:
        """Let the threads end."""
        for orders in self._orders:
            orders.put(None)
