"""What a test waits for while a job is done harm to, and the workers that write down what they see."""

from __future__ import annotations

import time
from pathlib import Path

from processkit.trainer import Trainer

__all__ = ["PROGRAM", "Worker", "let_pass"]

PROGRAM = Path(__file__).parents[1] / "programs" / "train_and_tell.py"


def let_pass(seconds: float) -> None:
    """Let a fault last."""
    time.sleep(seconds)


class Worker(Trainer):
    """One training process; every line that it writes, it writes with fsync."""

    @property
    def committed(self) -> int:
        """The last commit point that it was told of; 0 before the first."""
        return max((event["step"] for event in self.events("committed")), default=0)
