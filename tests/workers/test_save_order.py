"""A save belongs to the commit point at which it was called, however long it has to wait for its turn."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.checkpoint_client import CheckpointClient
from strata_zmq.workers.session import WorkerIdentity

if TYPE_CHECKING:
    from strata_zmq.workers.client import CoordinatorClient


class SilentClient:
    """A connection that takes every request and answers none."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.is_ready = False

    def submit(self, message: wire.Request) -> Future[Any]:
        self.sent.append(message)
        return Future()


class Session:
    """What a save needs of a worker's session."""

    def __init__(self, client: CoordinatorClient) -> None:
        self.client = client
        self.identity = WorkerIdentity(worker_id="worker-0")
        self.generation = 4
        self.step = 0


def test_every_save_is_announced_with_its_commit_point_before_the_call_returns() -> None:
    """The next commit point cannot overtake it, so the manifest's ledger is the one that the state belongs to."""
    client: Any = SilentClient()
    session = Session(client)
    saves = CheckpointClient(session)
    announced = []
    for session.step in (10, 20):
        saves.save({"model": np.zeros(3)}, step=session.step, epoch=0)
        announced.append([(one.step, one.commit_index, one.generation) for one in client.sent])
    saves.close(0.1)
    assert announced == [[(10, 10, 4)], [(10, 10, 4), (20, 20, 4)]]
