"""Storms: random faults of every kind, one after another or several at once, on a job across hosts; from one seed.

They take long and are run by scripts/storm; the seed names the plan, while its moments are the machine's.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faultkit.invariants import check_acknowledged, check_run
from faultkit.job import let_pass
from processkit.patience import until

HOSTS = 4
TOTAL, EPOCHS = 1600, 2
HEALED_S = 10.0
FAULTS_PER_STORM = 12

pytestmark = [pytest.mark.storm, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", [int(os.environ.get("STORM_SEED", "1"))])
def test_history_outlives_the_storm(
    start_network: Callable[..., Any],
    start_far_coordinator: Callable[..., Any],
    start_worker: Callable[..., Any],
    run_dir: Path,
    seed: int,
) -> None:
    """Whatever happened: training goes on within 10 s of the last fault's end, and history is one, exactly once."""
    chance = random.Random(seed)
    hosts = [f"host-{number}" for number in range(HOSTS)]
    network = start_network("head", *hosts)
    options = ("--initial-workers", str(HOSTS), "--lease-s", "2")
    coordinator = start_far_coordinator(network, "head", *options)
    told = {"total": TOTAL, "epochs": EPOCHS, "work_s": 0.1, "hold_at": 80}
    workers = [
        start_worker(f"worker-{number}", coordinator.url, *network.prefix(host), **told)
        for number, host in enumerate(hosts)
    ]
    until(lambda: all(worker.committed >= 3 for worker in workers), 60, "training begins")
    storm = Storm(chance, network, coordinator, dict(zip(hosts, workers, strict=True)))
    for _ in range(FAULTS_PER_STORM):
        storm.blow()
        acknowledged = max(worker.committed for worker in workers)
        check_acknowledged(acknowledged, coordinator.status())
        let_pass(chance.uniform(0.0, 1.0))
    before = max(worker.committed for worker in workers)
    (run_dir / "go").touch()
    until(lambda: max(worker.committed for worker in workers) > before, HEALED_S, "training goes on")
    for worker in workers:
        worker.finish(120)
    check_run(workers, coordinator.status(), total=TOTAL, epochs=EPOCHS)


class Storm:
    """Picks faults and lets each last for a while; sometimes a second one falls into the first."""

    def __init__(self, chance: random.Random, network: Any, coordinator: Any, workers: dict[str, Any]) -> None:
        self._chance = chance
        self._network = network
        self._coordinator = coordinator
        self._workers = workers

    def blow(self) -> None:
        """One or two faults, from beginning to end."""
        with contextlib.ExitStack() as stack:
            for kind in self._chance.sample(self._kinds(), self._chance.choice([1, 1, 2])):
                self._say(kind)
                stack.enter_context(kind())
                let_pass(self._chance.uniform(0.0, 0.3))
            let_pass(self._chance.choice([0.2, 1.0, 3.0, 6.0]) * self._chance.random())

    def _kinds(self) -> list[Callable[[], contextlib.AbstractContextManager[object]]]:
        return [self._killed, self._stopped, self._frozen, self._unplugged, self._deaf, self._slow, self._cut]

    def _some(self) -> list[str]:
        """One host, some, or all."""
        return self._chance.sample(list(self._workers), self._chance.choice([1, 1, 2, HOSTS]))

    @contextlib.contextmanager
    def _killed(self) -> Any:
        self._coordinator.kill()
        yield
        self._coordinator.start()

    @contextlib.contextmanager
    def _stopped(self) -> Any:
        process = self._coordinator.process
        # It may be dead already, or be killed in the meantime: the signal is not sent then.
        process.send_signal(signal.SIGSTOP)
        yield
        process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def _frozen(self) -> Any:
        sleepers = [self._workers[host] for host in self._some()]
        for sleeper in sleepers:
            sleeper.signal(signal.SIGSTOP)
        yield
        for sleeper in sleepers:
            sleeper.signal(signal.SIGCONT)

    def _unplugged(self) -> contextlib.AbstractContextManager[object]:
        return self._network.unplugged(*self._some())

    def _deaf(self) -> contextlib.AbstractContextManager[object]:
        if self._chance.random() < 0.5:
            return self._network.deaf("head", *self._some())
        return self._network.deaf(self._chance.choice(list(self._workers)), "head")

    def _slow(self) -> contextlib.AbstractContextManager[object]:
        return self._network.slow(*self._some(), kbit_per_s=self._chance.choice([64, 256]))

    @contextlib.contextmanager
    def _cut(self) -> Any:
        for host in self._some():
            self._network.kill_connections(host)
        yield

    def _say(self, kind: Callable[..., object]) -> None:
        print(f"fault {getattr(kind, '__name__', kind)}")
