"""One rank of the quickstart's job. `strata run -n 4 train.py` starts four."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from averaging import Averaging
from images import prepare
from perceptron import accuracy, descend, initial

from strata_zmq import WorkerMixin
from strata_zmq.errors import GenerationChangedError
from strata_zmq.feed import ArrayReader

SAVE_EVERY = 100


class Trainer(WorkerMixin):
    """An ordinary training loop; what makes it a Strata worker are the calls on `self`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = prepare(folder / "images")
        pixels = self.images.load("train")[0].shape[1]
        self.parameters = initial(pixels)
        self.averaging = Averaging(folder / "parameters.npy", self.parameters, ranks_max=16)
        self.is_new = True
        self.barrier_waits_s: list[float] = []
        self.saves: list[Any] = []

    def on_membership(self, membership: Any) -> None:
        """Rank 0 is the longest-standing member: the others take its parameters."""
        if membership.rank == 0:
            if self.session.astray or (self.is_new and membership.commit_index):
                # So is everybody else: nobody remembers the model, it and the data go back to the last checkpoint.
                self.restore_checkpoint()
            self.averaging.publish()
        self.barrier("sync", membership.generation)
        self.averaging.adopt()
        self.is_new = False

    def train(self) -> None:
        """Train all epochs, then leave a report."""
        images = self.images
        x, _ = images.load("train")
        reader = ArrayReader({part: str(images.folder / f"train_{part}.npy") for part in "xy"})
        self.track(model=self.parameters)
        self.register_dataset("train", str(images.folder / "train_x.npy"), len(x), images.shard_size)
        while self.epoch < images.epochs:
            for batch in self.batches("train", images.batch_size, every_rank=True, reader=reader):
                if len(batch):
                    descend(self.parameters, batch.arrays["x"], batch.arrays["y"], images.learning_rate)
                try:
                    self.synchronise(batch.step, len(batch))
                except GenerationChangedError:
                    continue  # the step is void; the loop goes back to the last commit point
                self.note_progress(batch.step)
                if batch.step % SAVE_EVERY == 0:
                    self.saves.append(self.save_checkpoint())
            self.advance_epoch()
        self.saves.append(self.save_checkpoint())
        for save in self.saves:
            save.wait(60.0)
        self.report()

    def synchronise(self, step: int, samples: int) -> None:
        """Average the parameters of all ranks. The loop's commit point is the second barrier."""
        self.averaging.offer(self.rank, samples)
        started = time.perf_counter()
        self.barrier("average", step)
        self.barrier_waits_s.append(time.perf_counter() - started)
        self.averaging.average(range(self.world_size))

    def note_progress(self, step: int) -> None:
        """Tell the outside how far this process is."""
        path = self.folder / "progress" / f"{self.worker_id}.json"
        path.parent.mkdir(exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}")
        own.write_text(json.dumps({"pid": os.getpid(), "step": step}))
        own.rename(path)

    def report(self) -> None:
        """Leave what the summary needs."""
        report: dict[str, Any] = {
            "worker": self.worker_id,
            "rank": self.rank,
            "pid": os.getpid(),
            "restarts": int(os.environ.get("STRATA_RESTARTS", "0")),
            "parameters": hashlib.sha256(b"".join(array.tobytes() for array in self.parameters.values())).hexdigest(),
            "barrier_waits_s": self.barrier_waits_s,
            "stalls_s": [save.stall_s for save in self.saves],
            "slowdown_per_save_s": self.slowdown_per_save_s,
            "checkpoints": [save.checkpoint_id for save in self.saves if save.error is None],
        }
        if self.rank == 0:
            status = self.session.status()
            report |= {
                "dataset": self.images.name,
                "accuracy": accuracy(self.parameters, *self.images.load("test")),
                "certificates": status.certificates,
                "rebalances": status.rebalances,
                "committed": [checkpoint.checkpoint_id for checkpoint in status.checkpoints],
            }
        folder = self.folder / "reports"
        folder.mkdir(exist_ok=True)
        (folder / f"{self.worker_id}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    with Trainer(Path(sys.argv[1])) as trainer:
        trainer.train()
