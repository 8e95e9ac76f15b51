"""Whatever a training script passes: a mistake is a named error at the call, with the field and the way out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processkit.coordinator import Coordinator

from strata_zmq import TrainingOrchestrator
from strata_zmq.coordinator.config import CoordinatorConfig
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.codec import MAX_REQUEST_BYTES, encode

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def worker() -> Iterator[TrainingOrchestrator]:
    """One connected worker with a dataset and something to save; it goes on from mistake to mistake."""
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        coordinator = Coordinator(Path(folder), "--initial-workers", "1", "--lease-s", "30").start()
        try:
            with TrainingOrchestrator(coordinator.url, "worker-0").track(model=np.zeros(3)) as connected:
                connected.register_dataset("data", "", 10, 5)
                yield connected
        finally:
            coordinator.stop()


Call = Callable[[TrainingOrchestrator], Any]

MISTAKES: dict[str, tuple[Call, str]] = {
    **{
        f"batch_size={value}": (lambda worker, v=value: next(worker.batches("data", v)), "batch_size")
        for value in (None, "8", 1.5, 0, -1)
    },
    **{
        f"commit_every={value}": (lambda worker, v=value: worker.batches("data", 8, commit_every=v), "commit_every")
        for value in (None, "1", 2.5, 0)
    },
    **{
        f"{name} timeout_s={value}": (lambda worker, c=call, v=value: c(worker, v), "timeout_s")
        for value in (None, "x", NAN, INF, -1.0)
        for name, call in {
            "barrier": lambda worker, v: worker.barrier("b", 1, timeout_s=v),
            "advance_epoch": lambda worker, v: worker.advance_epoch(v),
            "batches": lambda worker, v: next(worker.batches("data", 8, timeout_s=v)),
        }.items()
    },
    **{f"epochs({value!r})": (lambda worker, v=value: worker.epochs(v), "count") for value in (None, "x", 1.5, -1)},
    "step beyond 64 bits": (lambda worker: worker.barrier("b", 2**70), "arrive cannot be sent"),
    "path of another type": (lambda worker: worker.register_dataset("p", Path("/x"), 10, 5), "cannot be sent"),  # type: ignore[arg-type]
    "metadata as text": (lambda worker: worker.save_checkpoint(metadata="x"), "metadata"),  # type: ignore[arg-type]
    "metadata as a list": (lambda worker: worker.save_checkpoint(metadata=[1]), "metadata"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_named_error_and_the_worker_goes_on(worker: TrainingOrchestrator, mistake: str) -> None:
    call, words = MISTAKES[mistake]
    with pytest.raises(InvalidArgumentError, match=words):
        call(worker)
    assert worker.barrier(f"after {mistake}", 1, timeout_s=60).participants == ["worker-0"]


def test_a_numpy_integer_is_a_batch_size(worker: TrainingOrchestrator) -> None:
    assert [len(batch) for batch in worker.batches("data", np.int64(5))] == [5, 5]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"memory_bytes": 2**80}, "cannot be sent"),
        ({"port": -1}, "port"),
        ({"foo": 1}, "foo"),
        ({"metadata": [1]}, "metadata"),
    ],
)
def test_what_a_worker_cannot_be_is_said_before_or_at_the_connection(
    coordinator: Any, given: dict[str, Any], words: str
) -> None:
    worker = TrainingOrchestrator(coordinator.url)

    def join() -> None:
        worker.describe("worker-1", **given)
        worker.connect(20.0)

    with pytest.raises(InvalidArgumentError, match=words):
        join()


@pytest.mark.parametrize("url", [5, b"localhost", ["localhost"]])
def test_an_address_of_another_type_is_a_named_error(url: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="COORDINATOR_URL"):
        TrainingOrchestrator(url, "worker-1").connect(1.0)


def test_all_checkpoints_that_may_be_kept_fit_into_a_writers_registration() -> None:
    with pytest.raises(InvalidArgumentError, match=r"keep_count .* 1 to 1000"):
        CoordinatorConfig(keep_count=1001)
    info = wire.WriterInfo("w" * 128, "i" * 32, "ipc://" + "d" * 107, "ipc://" + "c" * 107, "b" * 36, "f" * 40)
    kept = [
        wire.CheckpointSummary(f"step-{2**40 + i:012d}-g1000-t1000", 2**40, 999, 2**40, 1.5, 1024) for i in range(1000)
    ]
    assert len(encode(wire.RegisterWriter(writer=info, checkpoints=kept))) < MAX_REQUEST_BYTES
