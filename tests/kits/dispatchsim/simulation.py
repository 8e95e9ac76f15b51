"""One seeded run: a cluster under a storm of faults, then calm, in which everything has to come to its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import inf

from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.events import Mode

from .broken import BrokenPromiseError
from .client import Client
from .dispatcher import Dispatcher
from .timeline import Timeline
from .watch import Watch
from .worker import Worker

__all__ = ["BrokenPromiseError", "Run", "Simulation", "simulate"]

STORM_S = 5.0
CALM_S = 100.0
STEPS_MAX = 60_000


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a seed: how often what happened, and a digest of every effect."""

    seed: int
    counts: dict[str, int]
    digest: str


class Simulation:
    """A dispatcher, some workers and clients, and what chance does to them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.time = Timeline(seed)
        chance = self.time.chance
        self.counts: Counter[str] = Counter()
        sure = self.time.lossy == 0 and self.time.doubling == 0
        self.config = CoreConfig(
            lease_s=1.5,
            queue_tasks_max=chance.choice((1_000_000, 30)),
            queue_bytes_max=chance.choice((2**31, 12_000)),
            client_tasks_max=chance.choice((0, 0, 15)),
            results_bytes_max=chance.choice((2**30, 300)),
            results_max=chance.choice((1_000_000, 20)),
            # A doubled submission finds the task or its tombstone, or is another task.
            tombstone_s=chance.choice((3600.0, 1.0, 0.0)) if sure else 3600.0,
            tombstones_max=chance.choice((100_000, 5)) if sure else 100_000,
            key_keep_s=chance.choice((86_400.0, 2.0)),
            unseen_s=chance.choice((86_400.0, 3.0)),
            quarantine_deaths=chance.choice((5, 2)),
            quarantine_s=2.0,
            worker_bytes_max=chance.choice((2**28, 4_000)),
            wall_offset_s=1e9,
        )
        self.crash_rate = chance.choice((0.0, 0.0, 0.005, 0.02))
        self.clients: list[Client] = []
        self.watch = Watch(self)
        self.dispatcher = Dispatcher(self)
        self.workers: list[Worker] = []
        self.made = 0
        for _ in range(chance.randrange(1, 5)):
            self.add_worker()
        self.clients = [Client(self, number) for number in range(chance.randrange(1, 4))]
        self._busy_s = chance.choice((0.05, 0.3))
        self._faulty_s = chance.choice((inf, 1.0, 0.3))
        self._live()
        if self._faulty_s != inf:
            self.time.after(self._faulty_s, self._misfortune)

    def add_worker(self) -> None:
        """Start a worker's process."""
        chance = self.time.chance
        self.made += 1
        modes: tuple[Mode, Mode] = ("push", "pull")
        labels = chance.choice(({}, {"gpu": 2}, {"gpu": 3, "tape": 1}))
        self.workers.append(
            Worker(self, self.made, chance.randrange(1, 5), chance.choice(modes), labels, chance.choice((0, 0, 3)))
        )
        self.workers[-1].python = chance.choice(("3.11", "3.11", "3.12"))

    def run(self) -> Run:
        """Run to the end; BrokenPromiseError where a promise does not hold."""
        end = self.time.now + STORM_S
        self._run_until(end)
        self._calm_down()
        self._run_until(end + CALM_S)
        self.watch.ends(self.clients)
        return Run(self.seed, dict(self.counts), self.watch.digest())

    def _run_until(self, end: float) -> None:
        for _ in range(STEPS_MAX):
            if self.time.now >= end or (self.time.calm and self._is_over()):
                return
            self.time.step()
        raise BrokenPromiseError(f"seed {self.seed}: no end of calls at {self.time.now}")

    def _is_over(self) -> bool:
        if self.time.now < self._calm_at + 3 * self.config.lease_s:
            return False
        return self.dispatcher.up and not self.dispatcher.unfinished() and not self.watch.unheard(self.clients)

    def _live(self) -> None:
        if self.time.calm:
            return
        chance = self.time.chance
        client = chance.choice(self.clients)
        what = chance.random()
        if what < 0.8:
            client.submit()
        elif what < 0.9:
            client.cancel()
        elif what < 0.95:
            client.watch(chance.choice(self.clients))
        elif what < 0.97:
            client.leave()
        else:
            client.come_back()
        self.time.after(chance.random() * 2 * self._busy_s, self._live)

    def _misfortune(self) -> None:
        if self.time.calm:
            return
        chance = self.time.chance
        worker = chance.choice(self.workers)
        what = chance.randrange(5)
        if what == 0:
            self.counts["stops"] += 1
            worker.pause(chance.choice((0.1, 1.0, 5.0)))
        elif what == 1:
            self._replace(worker)
        elif what == 2:
            self.counts["reconnects"] += 1
            worker.call(worker.enlist)
        elif what == 3 and len(self.workers) < 8:
            self.add_worker()
        elif not worker.retiring:
            self.counts["retirements"] += 1
            worker.call(worker.retire)
            self.add_worker()
        self.time.after(chance.random() * 2 * self._faulty_s, self._misfortune)

    def _replace(self, worker: Worker) -> None:
        self.counts["kills"] += 1
        worker.kill()
        self.workers.remove(worker)
        if self.time.chance.random() < 0.5:
            # Its connection breaks, and the dispatcher sees it.
            self.dispatcher.hear(worker, worker.connection, "bye", ())
        self.add_worker()

    def _calm_down(self) -> None:
        """No more faults; there is a worker for everything, and everybody has come back."""
        self._calm_at = self.time.now
        self.time.calm = True
        for mode in ("push", "pull"):
            self.add_worker()
            worker = self.workers[-1]
            worker.mode, worker.labels, worker.python, worker.slots = (
                ("push" if mode == "push" else "pull"),
                {"gpu": 2},
                "3.11",
                2,
            )
        self.add_worker()
        self.workers[-1].python = "3.9"
        self.workers[-1].labels = {"gpu": 2}
        for client in self.clients:
            for second in range(12):
                self.time.after(second * self.config.lease_s + 0.5, client.come_back)


def simulate(seed: int) -> Run:
    """Run one seed."""
    return Simulation(seed).run()
