"""Owns requests that each write one record: arrivals at barriers of one, every one of them at a new step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strata_zmq.errors import ProtocolError
from strata_zmq.protocol.codec import encode
from strata_zmq.protocol.messages import Arrive, Released

from .session import Kind, Worker, checked
from .wire import framed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Arrivals"]


class Arrivals:
    """What `workers` send when each passes one barrier of its own after another.

    A barrier that expects one is released by its first arrival. The release is a record, and its reply waits for the
    disk: nothing is shared between workers but the server, and nothing has to be waited for but the record.
    """

    def __init__(self, workers: Sequence[Worker[Kind]]) -> None:
        self._workers = workers
        self.steps = [0] * len(workers)
        """The step that each worker has sent last."""

    def __call__(self, place: int, count: int) -> bytes:
        """Return the next `count` frames of worker number `place`."""
        worker, step = self._workers[place], self.steps[place]
        self.steps[place] = step + count
        return b"".join(framed(self._arrival(worker, place, later)) for later in range(step + 1, step + count + 1))

    def check(self, last: Sequence[bytes]) -> None:
        """Raise unless `last`, the last reply of every worker, releases a barrier of its own that it has sent."""
        for place, (body, step) in enumerate(zip(last, self.steps, strict=True)):
            released = checked(body, Released)
            if released.name != f"own-{place}" or not 0 < released.step <= step:
                raise ProtocolError(f"worker {place} was released from {released.name!r} step {released.step}")

    @staticmethod
    def _arrival(worker: Worker[Kind], place: int, step: int) -> bytes:
        return encode(
            Arrive(
                seq=step,
                session=worker.session,
                generation=worker.generation,
                name=f"own-{place}",
                step=step,
                expected=1,
            )
        )
