"""Owns what looks at a job while it is measured: the API process, open dashboards, and workers that only beat.

Dashboards are WebSockets in a process of their own, which reads what it is sent and shows nothing. Run as
`python -m strata_zmq.bench.loads.dashboards URL COUNT --ready-fd N`; it announces itself once each has its snapshot.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect

from strata_zmq.errors import DeadlineExceededError, ProtocolError
from strata_zmq.protocol.codec import encode
from strata_zmq.protocol.messages import Heartbeat
from strata_zmq.startup import announce

from .http import connected
from .process import child_process
from .session import joined
from .wire import framed, wired

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .process import Child
    from .session import Worker
    from .wire import Wire

__all__ = ["Fleet", "api_process", "fleet", "open_dashboards"]

_FILLED_S = 30.0
_MESSAGE_BYTES_MAX = 64 * 2**20


class Fleet:
    """Workers that are registered and only beat: each beat is a request of its own, one after the other."""

    def __init__(self, workers: list[Worker[Wire]]) -> None:
        self._workers = workers
        self._turns = 0

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    def latencies(self, *, rate: float, count: int) -> list[float]:
        """Beat `count` times at `rate` a second, worker after worker, and return each answer's latency in seconds.

        A latency is from the moment that a beat was due: one that comes late holds up the next, and is charged for it.
        """
        found = []
        started = time.perf_counter()
        for number in range(count):
            due = started + number / rate
            left = due - time.perf_counter()
            if left > 0:
                time.sleep(left)
            self._beat()
            found.append(time.perf_counter() - due)
        return found

    @contextmanager
    def beating(self, rate: float) -> Iterator[None]:
        """Beat at `rate` a second in a thread while the block runs."""
        end = threading.Event()

        def beat() -> None:
            while not end.wait(1 / rate):
                self._beat()

        thread = threading.Thread(target=beat, name="beats")
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _beat(self) -> None:
        self._turns += 1
        worker = self._workers[self._turns % len(self._workers)]
        beat = Heartbeat(
            seq=3 + self._turns,
            session=worker.session,
            generation=worker.generation,
            state="TRAINING",
            step=self._turns // len(self._workers),
        )
        worker.socket.write(framed(encode(beat)))
        worker.socket.recv()


@contextmanager
def fleet(endpoint: str, workers: int) -> Iterator[Fleet]:
    """Register `workers` workers at a coordinator, each on a connection of its own."""
    with wired(endpoint, workers) as wires:
        yield Fleet(joined(wires))


@contextmanager
def api_process(coordinator: str, workers: int) -> Iterator[Child]:
    """Run the API over a coordinator; it is yielded once it shows `workers` workers."""
    with child_process("strata_zmq.coordinator.api.state", "--coordinator", coordinator, "--port", "0") as child:
        with connected(child.ready["url"]) as connection:
            deadline = time.monotonic() + _FILLED_S
            while len(connection.get("/api/workers")) < workers:
                if time.monotonic() > deadline:
                    raise DeadlineExceededError(
                        f"{workers} workers were not shown in {_FILLED_S:g} s", missing=("api",)
                    )
                time.sleep(0.05)
        yield child


def open_dashboards(url: str, count: int) -> AbstractContextManager[Child]:
    """Have `count` dashboards open, each of which reads the live feed."""
    return child_process(__name__, url, str(count))


async def _read(url: str, count: int, ready_fd: int) -> None:
    live = url.replace("http://", "ws://") + "/api/live"

    async def opened() -> ClientConnection:
        connection = await connect(live, max_size=_MESSAGE_BYTES_MAX, compression=None)
        await connection.recv()
        return connection

    async def reading(connection: ClientConnection) -> None:
        async for _ in connection:
            pass
        raise ProtocolError("a dashboard was let go while it read")

    connections = await asyncio.gather(*(opened() for _ in range(count)))
    announce(ready_fd, open=str(count))
    await asyncio.gather(*map(reading, connections))


def main() -> None:
    """Open dashboards and read until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("--ready-fd", type=int, default=-1)
    told = parser.parse_args()
    asyncio.run(_read(told.url, told.count, told.ready_fd))


if __name__ == "__main__":
    main()
