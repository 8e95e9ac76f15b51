"""A save that fails is told in the log once: which step, and why."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from strata_zmq.errors import InvalidArgumentError, StorageError, StrataError
from strata_zmq.workers.checkpoint_client import CheckpointClient
from strata_zmq.workers.session import WorkerIdentity


class Refusing:
    """A connection to a coordinator that refuses every request with the same words."""

    is_ready = True

    def __init__(self, error: StrataError) -> None:
        self.error = error

    def submit(self, message: object) -> Any:
        refused: Future[Any] = Future()
        refused.set_exception(self.error)
        return refused


class Session:
    """What a save needs of a worker's session."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.identity = WorkerIdentity(worker_id="worker-0")
        self.generation = 4
        self.step = 8


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InvalidArgumentError("checkpoint of step 8: all ranks save at the same commit point"), "all ranks save"),
        (StorageError("checkpoint 'step-000000000008-g4-t1' is given up: rank 1 (w1): disk full"), "rank 1 (w1)"),
        (StorageError("no space left"), "no space left"),
    ],
)
def test_it_is_said_once_which_checkpoint_is_given_up(
    caplog: pytest.LogCaptureFixture, error: StrataError, said: str
) -> None:
    saves = CheckpointClient(Session(Refusing(error)))
    with caplog.at_level(logging.WARNING, logger="strata.checkpoint"):
        handle = saves.save({"model": np.zeros(3)}, step=8, epoch=0)
        assert handle.wait(20) is False
    saves.close(0.1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the checkpoint of step 8 is given up: {said}")
    assert handle.error is error
