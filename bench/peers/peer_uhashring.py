"""uhashring (ketama): builds its ring and asks it for the owner of every shard."""

from __future__ import annotations

from time import perf_counter, process_time
from typing import TYPE_CHECKING

from uhashring import HashRing

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Peer"]


class Peer:
    """`shards` keys over `workers` nodes."""

    def __init__(self, shards: int, workers: int) -> None:
        self._keys = [f"shard-{shard}" for shard in range(shards)]
        self._nodes = [f"worker-{worker:05d}" for worker in range(workers)]
        self._ring = HashRing(nodes=self._nodes)
        self._left = ""

    def assign(self) -> dict[str, float]:
        """A ring from nothing, and the owner of every shard."""

        def build() -> None:
            ring = HashRing(nodes=self._nodes)
            for key in self._keys:
                ring.get_node(key)

        return _timed(build)

    def update(self) -> dict[str, float]:
        """One worker leaves, or the one that left comes back; then the owner of every shard."""

        def change() -> None:
            if self._left:
                self._ring.add_node(self._left)
                self._left = ""
            else:
                self._left = self._nodes[0]
                self._ring.remove_node(self._left)
            for key in self._keys:
                self._ring.get_node(key)

        return _timed(change)

    def close(self) -> None:
        """Nothing to undo."""


def _timed(call: Callable[[], None]) -> dict[str, float]:
    cpu, wall = process_time(), perf_counter()
    call()
    return {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
