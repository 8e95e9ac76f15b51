"""Our own saves in an interpreter of their own, asked as the peers are: so both sides' CPU time is told alike."""

from __future__ import annotations

import sys
from itertools import count
from time import perf_counter, process_time

from strata_zmq.bench.loads.state import State
from strata_zmq.bench.peers.training_loop import slowdown
from strata_zmq.checkpoint.manager import CheckpointManager

__all__ = ["INTERPRETER", "MODULE", "Peer"]

MODULE = __name__
INTERPRETER = sys.executable


class Peer:
    """A state of `tensors` arrays, `state_bytes` in all, saved at `place`: a folder or `s3://bucket/prefix`.

    Nothing is deleted before `close`: that is no part of becoming durable.
    """

    def __init__(self, place: str, state_bytes: int, tensors: int) -> None:
        self._state = State(state_bytes, tensors)
        self._manager = CheckpointManager(place, keep_count=1000)
        self._steps = count(1)

    def save(self) -> dict[str, float]:
        """One save, until it is durable."""
        self._state.change()
        cpu, wall = process_time(), perf_counter()
        self._begin()
        self._manager.wait_pending()
        return {
            "wall_s": perf_counter() - wall,
            "cpu_s": process_time() - cpu,
            "bytes": self._state.bytes,
        }

    def training(self, steps: int, saves: int) -> dict[str, float]:
        """A training loop without saves and with them."""

        def save() -> None:
            self._state.change()
            self._begin()

        return slowdown(steps, saves, save, self._manager.wait_pending)

    def _begin(self) -> None:
        self._manager.save(self._state.arrays, step=next(self._steps), epoch=0)

    def close(self) -> None:
        """Finish what is under way."""
        self._manager.close()
