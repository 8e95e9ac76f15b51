"""A training process whose model is the sum of all samples' mixed ids over committed history, on every rank.

Data-parallel training in small: at each step every rank adds what all ranks have read, exchanged through a
memory-mapped file. After whole epochs the sum is known, so model and data can be seen to be one history.
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
from strata_zmq.protocol.messages import Membership

FOLDER = Path(sys.argv[1])
OPTIONS: dict[str, Any] = {
    "total": 1000,
    "shard_size": 17,
    "batch_size": 8,
    "epochs": 1,
    # A gate's name -> the number of the batch, counted in this process, at which it waits for the gate: with the batch
    # in hand, or when the model has taken it in and the commit point comes next.
    "hold": {},
    "hold_trained": {},
    **json.loads(sys.argv[2]),
}
RANKS_MAX = 16


class SumTrainer(WorkerMixin):
    """The model is one 64-bit word."""

    def __init__(self) -> None:
        self.model = np.zeros(1, dtype=np.uint64)
        self.track(model=self.model)
        self.handed_out = 0
        self.slots = np.zeros(0, dtype=np.uint64)

    def say(self, event: str, **what: Any) -> None:
        """Append one line to this worker's events."""
        line = json.dumps({"event": event, "pid": os.getpid(), **what}) + "\n"
        with (FOLDER / f"{os.environ['WORKER_ID']}.events").open("a") as events:
            events.write(line)

    def on_membership(self, membership: Membership) -> None:
        """Everybody takes the model of rank 0, which has been there longest."""
        generation, rank = membership.generation, membership.rank
        self.say("membership", generation=generation, members=membership.members, commit=membership.commit_index)
        model = FOLDER / f"model-{generation}.npy"
        slots = FOLDER / f"slots-{generation}"
        if rank == 0:
            np.save(model, self.model)
            slots.write_bytes(bytes(8 * RANKS_MAX))
        self.barrier("model", generation, timeout_s=30)
        self.model[:] = np.load(model)
        self.slots = np.memmap(slots, dtype=np.uint64, mode="r+")

    def train_epoch(self) -> None:
        """Read this rank's share of the epoch."""
        for batch in self.batches("numbers", OPTIONS["batch_size"], every_rank=True, timeout_s=30):
            self.handed_out += 1
            self.say(
                "batch",
                number=self.handed_out,
                epoch=batch.epoch,
                step=batch.step,
                generation=self.generation,
                ids=batch.indices.tolist(),
            )
            self.wait_at_gates(OPTIONS["hold"])
            self.slots[self.rank] = checksum(batch.indices)
            try:
                self.barrier("sum", batch.step, timeout_s=30)
            except (GenerationChangedError, StaleGenerationError):
                continue
            # The commit point behind each batch keeps anybody from writing before all have read.
            self.model += self.slots[: self.world_size].sum()
            self.wait_at_gates(OPTIONS["hold_trained"])

    def wait_at_gates(self, gates: dict[str, int]) -> None:
        """Wait for the test where it asked for that."""
        for gate, number in gates.items():
            if number == self.handed_out:
                self.say("holding", gate=gate)
                opened = FOLDER / f"{os.environ['WORKER_ID']}.{gate}"
                while not opened.exists():
                    time.sleep(0.005)


def main() -> None:
    """Train the given epochs and tell the model."""
    trainer = SumTrainer()
    trainer.register_dataset("numbers", "", OPTIONS["total"], OPTIONS["shard_size"])
    trainer.say("joined", generation=trainer.generation)
    while trainer.epoch < OPTIONS["epochs"]:
        trainer.train_epoch()
        trainer.advance_epoch(timeout_s=30)
        trainer.say("epoch", epoch=trainer.epoch, step=trainer.step, model=int(trainer.model[0]))
    trainer.deregister()


main()
