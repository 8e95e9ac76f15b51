"""What a fleet of simulated workers is told to do. It does nothing itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from strata_zmq.domain.names import WORKER_NAME_MAX, check_dataset, check_name
from strata_zmq.errors import InvalidArgumentError

__all__ = ["WORKERS_MAX", "FleetPlan"]

WORKERS_MAX = 10_000
_NUMBER_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """How many workers, and how each of them spends its time.

    A worker takes `step_s` seconds a step on average, between half and one and a half of it, and then commits
    `batch_size` samples. `churn` and `hangs` are per minute for the whole fleet: workers that are killed or leave and
    come back `away_s` seconds later, and training loops that stand still for `hang_s` seconds.
    """

    workers: int
    prefix: str = "sim"
    step_s: float = 1.0
    batch_size: int = 32
    dataset_id: str = "simulated"
    total_samples: int = 1_000_000
    shard_size: int = 1_000
    gpus: int = 0
    churn: float = 0.0
    away_s: float = 5.0
    hangs: float = 0.0
    hang_s: float = 90.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= WORKERS_MAX:
            raise InvalidArgumentError(f"workers is {self.workers}: one process simulates 1 to {WORKERS_MAX}")
        check_name("prefix", self.prefix, WORKER_NAME_MAX - _NUMBER_DIGITS)
        check_dataset(
            dataset_id=self.dataset_id, total_samples=self.total_samples, shard_size=self.shard_size, seed=self.seed
        )
        for name, least in (("step_s", 0.0), ("churn", 0.0), ("away_s", 0.0), ("hangs", 0.0), ("hang_s", 0.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise InvalidArgumentError(f"{name} is {value}: it takes a finite number of {least:g} or more")
        if self.batch_size < 1:
            raise InvalidArgumentError(f"batch_size is {self.batch_size}: it takes 1 or more samples")
        if not 0 <= self.gpus <= 1024:
            raise InvalidArgumentError(f"gpus is {self.gpus}: it takes 0 to 1024")

    def name(self, index: int) -> str:
        """Return the worker id of worker `index`."""
        return f"{self.prefix}-{index}"
