"""A training script that goes on until it is stopped: it prints its steps, saves by the run's policy, and can be held.

`train_on.py FOLDER`: a worker stands still in its loop as long as FOLDER has a file `hold.WORKER_ID`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from strata_zmq import WorkerMixin

SAMPLES, SHARD, BATCH = 6000, 100, 20
WORK_S = 0.03
PRINT_EVERY = 25


class Trainer(WorkerMixin):
    """Learns nothing; its weights are there to be saved."""

    def __init__(self, hold: Path) -> None:
        self.hold = hold
        self.weights = np.zeros(1 << 17)

    def on_checkpoint_requested(self) -> None:
        self.save_checkpoint()

    def train(self) -> None:
        self.track(weights=self.weights)
        self.register_dataset("numbers", total_samples=SAMPLES, shard_size=SHARD)
        while True:
            for batch in self.batches("numbers", BATCH, every_rank=True):
                self.weights += 1e-3
                time.sleep(WORK_S)
                while self.hold.exists():
                    time.sleep(0.01)
                if batch.step % PRINT_EVERY == 0:
                    print(f"step {batch.step} of epoch {batch.epoch}", flush=True)
            self.advance_epoch()


if __name__ == "__main__":
    with Trainer(Path(sys.argv[1]) / f"hold.{os.environ['WORKER_ID']}") as trainer:
        trainer.train()
