"""The simulated workers: where their time goes, what they use, and their rows. It decides no incident."""

from __future__ import annotations

from bisect import bisect_left
from random import Random

from strata_zmq.protocol.fields import DATA_WAIT_BOUNDS_S, Resources, Spent
from strata_zmq.protocol.sight_rows import LostSight, WorkerSight

__all__ = ["LEASE_S", "Member"]

LEASE_S = 3.0
_GIB = 2**30


class Member:
    """One worker, there or lost."""

    def __init__(self, place: int, workers: int, random: Random, at: float) -> None:
        self._random = random
        digits = max(2, len(str(workers)))
        self.worker_id = f"worker-{place + 1:0{digits}d}"
        self.host = f"gpu-host-{place + 1 if workers <= 16 else place // 8 + 1}"
        self.gpus = 0 if place % 3 == 2 else 1 + place % 2
        self.slowness = random.uniform(0.0, 0.06)
        self.beat = random.randrange(1_000_000)
        """Its place in the row of heartbeats: not all of them come at one moment."""
        self.rank = place
        self.lost_at: float | None = None
        self.shards = 0
        self.last_at_barriers = 0
        self.pid = 4000 + place
        self.step = self.epoch = 0
        self._begin(at)

    def _begin(self, at: float) -> None:
        self.incarnation = f"{self._random.getrandbits(64):016x}"
        self.state = "RECOVERING"
        self.registered_at = self.heard_at = self.moved_at = at
        self.progress = self.samples = self.batches = 0
        self.seconds = {"training": 0.0, "data": 0.0, "barrier": 0.0, "checkpoint": 0.0}
        self.data_waits = [0] * (len(DATA_WAIT_BOUNDS_S) + 1)

    def restart(self, at: float) -> None:
        """Come back as a new process."""
        self.pid += 1000
        self.lost_at = None
        self._begin(at)

    def spend(self, *, training: float = 0.0, data: float = 0.0, barrier: float = 0.0, checkpoint: float = 0.0) -> None:
        """Add seconds to what it has spent."""
        for phase, seconds in (
            ("training", training),
            ("data", data),
            ("barrier", barrier),
            ("checkpoint", checkpoint),
        ):
            self.seconds[phase] += seconds

    def take(self, samples: int, waited_s: float) -> None:
        """Be handed a batch after a wait."""
        self.samples += samples
        self.batches += 1
        self.data_waits[bisect_left(DATA_WAIT_BOUNDS_S, waited_s)] += 1

    def row(self) -> WorkerSight:
        """Return its row, as a heartbeat of now would leave it."""
        busy = 0.0 if self.state != "TRAINING" else 0.85
        about = self._random.uniform
        resources = Resources(
            cpu_percent=round(100 * (0.3 + 1.4 * busy) + about(0, 15), 1),
            memory_bytes=int((3.1 + about(0, 0.1)) * _GIB),
            gpu_percent=[round(100 * busy + about(0, 12), 1) for _ in range(self.gpus)],
            gpu_memory_bytes=[int((11.5 + gpu) * _GIB) for gpu in range(self.gpus)],
            gpu_celsius=[round(46 + 24 * busy + about(0, 2), 1) for _ in range(self.gpus)],
            disk_read_bytes=self.samples * 150_000,
            disk_write_bytes=self.samples * 2_400,
            network_sent_bytes=self.samples * 5_200,
            network_received_bytes=self.samples * 4_800,
        )
        spent = Spent(
            training_s=self.seconds["training"],
            data_s=self.seconds["data"],
            barrier_s=self.seconds["barrier"],
            checkpoint_s=self.seconds["checkpoint"],
            samples=self.samples,
            batches=self.batches,
            data_waits=list(self.data_waits),
        )
        return WorkerSight(
            worker_id=self.worker_id,
            incarnation=self.incarnation,
            rank=self.rank,
            state=self.state,
            step=self.step,
            epoch=self.epoch,
            progress=self.progress,
            task="train",
            hostname=self.host,
            port=0,
            pid=self.pid,
            run="",
            registered_at=self.registered_at,
            heard_at=self.heard_at,
            moved_at=self.moved_at,
            expires_at=self.heard_at + LEASE_S,
            gpu_count=self.gpus,
            memory_bytes=64 * _GIB,
            shards=self.shards,
            last_at_barriers=self.last_at_barriers,
            resources=resources,
            spent=spent,
            metadata={"zone": f"zone-{1 + self.beat % 2}", "image": "trainer:2.4"},
        )

    def lost_row(self, reason: str, at: float) -> LostSight:
        """Be given up, and return the row of that."""
        self.lost_at = at
        self.rank = -1
        self.shards = 0
        return LostSight(
            worker_id=self.worker_id,
            incarnation=self.incarnation,
            hostname=self.host,
            pid=self.pid,
            lost_at=at,
            reason=reason,
        )
