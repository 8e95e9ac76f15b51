"""A fresh process that knows nothing but a checkpoint folder: load the latest checkpoint, print its test accuracy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from images import prepare
from perceptron import accuracy

from strata_zmq import CheckpointManager

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with CheckpointManager(sys.argv[2]) as manager:
        latest = manager.latest()
        if latest is None:
            raise SystemExit(f"{sys.argv[2]}: no committed checkpoint")
        state = manager.load(latest.checkpoint_id)
    print(
        json.dumps(
            {
                "checkpoint": latest.checkpoint_id,
                "step": latest.step,
                "accuracy": accuracy(state["model"], *prepare(folder / "images").load("test")),
            }
        )
    )
