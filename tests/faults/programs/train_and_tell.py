"""A training process that writes down, with fsync, every batch that was committed and every barrier that it passed.

Its model is the sum of all samples' mixed ids over committed history: data-parallel training in small. At each step
every rank adds what all ranks have read, exchanged through a memory-mapped file. After whole epochs the sum is known,
so that model and data can be seen to be one history.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from strata_zmq import WorkerMixin
from strata_zmq.domain.shuffle import checksum
from strata_zmq.errors import GenerationChangedError, StaleGenerationError
from strata_zmq.protocol.messages import Membership, Released

FOLDER = Path(sys.argv[1])
OPTIONS: dict[str, Any] = {
    "total": 1000,
    "shard_size": 17,
    "batch_size": 8,
    "epochs": 3,
    # Seconds of work for each batch, so that faults find the job in the middle of something.
    "work_s": 0.0,
    # A commit point, with the batch for it in hand, at which everybody waits for the file "go" in the folder.
    "hold_at": 0,
    **json.loads(sys.argv[2]),
}
RANKS_MAX = 16
TIMEOUT_S = 60.0


class TellingTrainer(WorkerMixin):
    """The model is one 64-bit word."""

    def __init__(self) -> None:
        self.model = np.zeros(1, dtype=np.uint64)
        self.track(model=self.model)
        self.slots = np.zeros(0, dtype=np.uint64)
        self.file = os.open(FOLDER / f"{os.environ['WORKER_ID']}.events", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tell(self, event: str, **what: Any) -> None:
        """Write one line that survives this process."""
        line = json.dumps({"event": event, "at": time.monotonic(), **what}) + "\n"
        os.write(self.file, line.encode())
        os.fsync(self.file)

    def meet(self, name: str, step: int) -> Released:
        """Pass a barrier and tell when."""
        generation = self.generation
        self.tell("arrive", name=name, step=step, generation=generation)
        released = self.barrier(name, step, timeout_s=TIMEOUT_S)
        self.tell("released", name=name, step=step, generation=generation, participants=released.participants)
        return released

    def on_membership(self, membership: Membership) -> None:
        """Everybody takes the model of rank 0, which has been there longest."""
        generation = membership.generation
        self.tell("membership", generation=generation, members=membership.members, commit=membership.commit_index)
        model, slots = FOLDER / f"model-{generation}.npy", FOLDER / f"slots-{generation}"
        if membership.rank == 0:
            np.save(model, self.model)
            slots.write_bytes(bytes(8 * RANKS_MAX))
        self.meet("model", generation)
        self.model[:] = np.load(model)
        self.slots = np.memmap(slots, dtype=np.uint64, mode="r+")

    def train_epoch(self) -> None:
        """Read this rank's share of the epoch; what the next turn of the loop finds committed is told."""
        batches = self.batches("numbers", OPTIONS["batch_size"], every_rank=True, timeout_s=TIMEOUT_S)
        for batch in batches:
            generation, ids = self.generation, batch.indices.tolist()
            self.work(batch.step)
            self.slots[self.rank] = checksum(batch.indices)
            try:
                self.meet("sum", batch.step)
            except (GenerationChangedError, StaleGenerationError):
                continue
            # The commit point behind each batch keeps anybody from writing before all have read.
            self.model += self.slots[: self.world_size].sum()
            if batches.settle() == "committed":
                self.tell("committed", epoch=batch.epoch, step=batch.step, generation=generation, ids=ids)

    def work(self, step: int) -> None:
        """Take the time that a batch takes, or wait for the test."""
        time.sleep(OPTIONS["work_s"])
        if OPTIONS["hold_at"] and step >= OPTIONS["hold_at"]:
            self.tell("holding", step=step)
            while not (FOLDER / "go").exists():
                time.sleep(0.005)


def main() -> None:
    """Train the given epochs and tell the model."""
    trainer = TellingTrainer()
    trainer.register_dataset("numbers", "", OPTIONS["total"], OPTIONS["shard_size"])
    trainer.tell("joined", generation=trainer.generation, pid=os.getpid())
    while trainer.epoch < OPTIONS["epochs"]:
        trainer.train_epoch()
        trainer.advance_epoch(timeout_s=TIMEOUT_S)
        trainer.tell("epoch", epoch=trainer.epoch, step=trainer.step, model=int(trainer.model[0]))
    trainer.deregister()


main()
