"""A training script that is told to leave by a signal: it saves by policy, and tells how its loop has ended."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from strata_zmq import WorkerMixin


class Trainer(WorkerMixin):
    """Its model counts the commit points."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = np.zeros(1000)
        self.saves: list[Any] = []

    def on_membership(self, membership: Any) -> None:
        self.model[:] = membership.commit_index

    def on_checkpoint_requested(self) -> None:
        self.saves.append(
            self.checkpoint(model={"count": self.model}, extra={"note": "by policy"}, metrics={"loss": 1.0})
        )

    def train(self) -> None:
        self.track(model=self.model)
        self.register_dataset("numbers", total_samples=100_000, shard_size=100)
        for batch in self.batches("numbers", 5, every_rank=True):
            self.model[:] = batch.step
            time.sleep(0.01)
            self.tell(batch.step)
        self.tell(self.step, left=True)

    def tell(self, step: int, *, left: bool = False) -> None:
        saves = [[save.step, save.is_durable] for save in self.saves]
        text = json.dumps({"pid": os.getpid(), "step": step, "left": left, "stopping": self.stopping, "saves": saves})
        path = self.folder / f"{os.environ['WORKER_ID']}.json"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)


if __name__ == "__main__":
    with Trainer(Path(sys.argv[1])) as trainer:
        trainer.train()
