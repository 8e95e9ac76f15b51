"""What one seed stands for: the size of the job, what its workers do, and which faults are on, and how strong.

Every seed leaves some kinds of faults and of work out (swarm testing): what is on everywhere hides what it masks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .network import Conditions

__all__ = ["HEARTBEAT_S", "LEASE_S", "Dataset", "Plan"]

LEASE_S = 3.0
HEARTBEAT_S = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset of the run."""

    dataset_id: str
    total: int
    shard_size: int
    shuffle: bool
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is decided before a run begins. Rates are faults per second of the storm, times in seconds."""

    workers: int
    initial_workers: int
    min_workers: int
    writers: int
    supervised: bool
    storm_s: float
    datasets: tuple[Dataset, ...]
    batch: int
    step_s: float
    save_every: int
    """Commit points from one checkpoint to the next; 0 for none."""
    barrier_every: int
    """Commit points from one plain barrier to the next; 0 for none."""
    pair_every: int
    """Commit points from one barrier of two to the next; 0 for none."""
    reform: bool
    """Whether plain barriers re-form when the membership changes."""
    commands: float
    """Commands from a supervisor, per second of the storm."""
    join_window_s: float
    hang_s: float
    evict_hung: bool
    save_fails: float
    """How often a rank gives a checkpoint up."""
    impatient: bool
    """Whether plain barriers have short time limits."""
    keep_count: int
    snapshot_every: int
    sync_s: float
    storage_s: float
    conditions: Conditions
    kills: float
    stops: float
    crashes: float
    leaves: float
    pauses: float
    cuts: float
    resets: float
    slow_disk: float
    writer_crashes: float
    massacres: float
    twins: float
    hangs: float
    looks: float
    hosts: int
    """Hosts with an agent, which share the workers out between them; 0: every worker is on its own."""
    folded_bytes_max: int
    agent_crashes: float
    agent_pauses: float

    @property
    def stages(self) -> bool:
        """Whether savers leave their bytes in a writer's reach, and are slow then. It is no draw of its own: the others
        would become others.
        """
        return self.writers > 0 and self.datasets[0].seed % 3 == 0

    @classmethod
    def draw(cls, rng: random.Random) -> Plan:
        """Draw a plan."""
        workers = rng.randint(2, 6)
        initial = rng.randint(1, workers)

        def some(low: float, high: float, share: float = 0.4) -> float:
            return rng.uniform(low, high) if rng.random() < share else 0.0

        def often(low: int, high: int, share: float = 0.6) -> int:
            return rng.randint(low, high) if rng.random() < share else 0

        datasets = tuple(
            Dataset(
                dataset_id=f"data-{number}",
                total=rng.randint(20, 160),
                shard_size=rng.randint(3, 24),
                shuffle=rng.random() < 0.5,
                seed=rng.randrange(2**32),
            )
            for number in range(1 if rng.random() < 0.7 else 2)
        )
        return cls(
            workers=workers,
            initial_workers=initial,
            min_workers=rng.randint(1, initial),
            writers=rng.choice((0, 1, 2, 2)),
            supervised=rng.random() < 0.5,
            storm_s=rng.uniform(15.0, 40.0),
            datasets=datasets,
            batch=rng.randint(1, 8),
            step_s=rng.uniform(0.1, 0.8),
            save_every=often(1, 8),
            barrier_every=often(1, 6),
            pair_every=often(1, 6, 0.3),
            reform=rng.random() < 0.5,
            commands=some(0.05, 0.4),
            join_window_s=rng.choice((0.0, 0.0, 0.3)),
            hang_s=rng.choice((0.0, 4.0, 60.0)),
            evict_hung=rng.random() < 0.5,
            save_fails=some(0.02, 0.2, 0.3),
            impatient=rng.random() < 0.4,
            keep_count=rng.randint(1, 3),
            snapshot_every=rng.choice((5, 20, 100, 10_000)),
            sync_s=rng.choice((0.0005, 0.005, 0.05)),
            storage_s=rng.choice((0.001, 0.02, 0.3)),
            conditions=Conditions(
                delay_s=rng.choice((0.0002, 0.002, 0.03)),
                spread_s=rng.choice((0.0002, 0.002, 0.05)),
                slow=some(0.01, 0.2),
                slow_s=rng.choice((0.2, 1.0, 4.0)),
                loss=some(0.005, 0.15),
                duplicate=some(0.01, 0.3),
                reorder=some(0.02, 0.5),
            ),
            kills=some(0.02, 0.25, 0.6),
            stops=some(0.02, 0.15),
            crashes=some(0.02, 0.2, 0.5),
            leaves=some(0.02, 0.1, 0.3),
            pauses=some(0.02, 0.2, 0.5),
            cuts=some(0.02, 0.2, 0.5),
            resets=some(0.02, 0.3),
            slow_disk=some(0.02, 0.1, 0.3),
            writer_crashes=some(0.02, 0.2, 0.3),
            massacres=some(0.02, 0.06, 0.3),
            twins=some(0.02, 0.15, 0.3),
            hangs=some(0.02, 0.1, 0.3),
            looks=some(0.1, 0.5),
            hosts=rng.choice((1, 1, 2)) if rng.random() < 0.35 else 0,
            folded_bytes_max=rng.choice((400, 2000, 100_000)),
            agent_crashes=some(0.02, 0.2, 0.6),
            agent_pauses=some(0.02, 0.2, 0.5),
        )
