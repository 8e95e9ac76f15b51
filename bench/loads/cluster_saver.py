"""A worker's saves through a storage writer of its own, in an interpreter of their own, asked as the peers are.

Coordinator and writer are real processes; the CPU time that is told is the worker's alone.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from strata_zmq import WorkerMixin
from strata_zmq.bench.loads.process import child_process
from strata_zmq.bench.loads.state import State
from strata_zmq.bench.peers.training_loop import slowdown

if TYPE_CHECKING:
    from strata_zmq.checkpoint.handle import SaveHandle

__all__ = ["MODULE", "Peer"]

MODULE = __name__
_TIMEOUT_S = 120.0


class _Worker(WorkerMixin):
    """A rank without a training script of Strata's: its loop is the benchmark's."""


class Peer:
    """A state of `tensors` arrays, `state_bytes` in all, saved by a job of one worker into the folder `place`.

    Nothing is deleted before `close`.
    """

    def __init__(self, place: str, state_bytes: int, tensors: int) -> None:
        self._state = State(state_bytes, tensors)
        self._steps = count(1)
        self._handles: list[SaveHandle] = []
        self._stack = ExitStack()
        try:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="st-")))
            coordinator = self._stack.enter_context(
                child_process(
                    "strata_zmq.coordinator",
                    f"--control=ipc://{folder}/control",
                    f"--broadcast=ipc://{folder}/broadcast",
                    f"--journal={folder}/journal.sqlite",
                    "--initial-workers=1",
                    "--keep-count=1000",
                )
            )
            url = coordinator.ready["control"]
            self._stack.enter_context(
                child_process("strata_zmq.workers", "writer", f"--path={place}", f"--coordinator={url}")
            )
            self._worker = _Worker()
            self._worker.coordinator_url = url
            self._worker.worker_id = "bench"
            self._worker.connect(_TIMEOUT_S)
            self._stack.callback(self._worker.deregister)
        except BaseException:
            self._stack.close()
            raise

    def training(self, steps: int, saves: int) -> dict[str, float]:
        """A training loop without saves and with them."""

        def save() -> None:
            self._state.change()
            self._handles.append(self._worker.checkpoint(extra=self._state.arrays, step=next(self._steps)))

        return slowdown(steps, saves, save, self._settle)

    def _settle(self) -> None:
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.result(_TIMEOUT_S)

    def close(self) -> None:
        """Finish what is under way and end the processes."""
        self._stack.close()
