"""A training script whose state is a function of its step, so that whoever reads a checkpoint knows what it must hold.

It saves by the run's policy and appends `STEP ID` to a file for every save that it was told is durable.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from strata_zmq import CheckpointManager, WorkerMixin

SAMPLES, SHARD, BATCH = 400, 10, 5
WORK_S = 0.01
SAVED_S = 60.0
CONSTANT_BYTES = 9 * 2**20
"""More than a chunk: the second save refers to the first one's."""


def expected(step: int) -> dict[str, Any]:
    """The state behind commit point `step`, on every rank."""
    return {
        "model": np.random.default_rng(step).standard_normal(5000),
        "steps": np.array([step]),
        "constant": np.full(CONSTANT_BYTES, 7, dtype=np.uint8),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two states are equal to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


class Trainer(WorkerMixin):
    """Learns nothing: behind each step its arrays are what the step says."""

    def __init__(self) -> None:
        self.state = expected(0)
        self.saves: list[Any] = []

    def on_membership(self, membership: Any) -> None:
        self.learn(membership.commit_index)

    def on_checkpoint_requested(self) -> None:
        self.saves.append(self.save_checkpoint())

    def learn(self, step: int) -> None:
        for name, array in expected(step).items():
            if name != "constant":
                np.copyto(self.state[name], array)

    def train(self, told: Path) -> None:
        self.track(**self.state)
        self.register_dataset("numbers", total_samples=SAMPLES, shard_size=SHARD)
        for batch in self.batches("numbers", BATCH, every_rank=True):
            self.learn(batch.step)
            time.sleep(WORK_S)
            self.tell(told)
        for save in self.saves:
            save.wait(SAVED_S)
        self.tell(told)

    def tell(self, told: Path) -> None:
        """Write down what is durable by now."""
        for save in [save for save in self.saves if save.done]:
            self.saves.remove(save)
            if save.is_durable:
                with told.open("a") as file:
                    file.write(f"{save.step} {save.checkpoint_id}\n")


def read_back() -> None:
    """Load the newest checkpoint, as another job would."""
    with CheckpointManager(os.environ["STRATA_CHECKPOINT_PATH"]) as manager:
        state = manager.load()
        newest = manager.last_restore.manifest.step
    if not same(state, expected(newest)):
        sys.exit(f"the checkpoint of step {newest} holds something else")


if __name__ == "__main__":
    with Trainer() as trainer:
        trainer.train(Path(sys.argv[1]) / os.environ["WORKER_ID"])
    read_back()
