"""Processes that are stopped, killed and started again in the middle of training: one history, and nobody evicted."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faultkit.invariants import check_acknowledged, check_run
from faultkit.job import let_pass
from processkit.patience import until

TOTAL, EPOCHS = 240, 2
HEALED_S = 10.0
LEASE_S = 1.5


@pytest.fixture
def start_job(start_coordinator: Callable[..., Any], start_worker: Callable[..., Any]) -> Callable[..., Any]:
    """`start_job(2, "--lease-s", "2", work_s=0.01)` gives a coordinator and its workers."""

    def start(count: int, *options: str, **training: Any) -> tuple[Any, list[Any]]:
        coordinator = start_coordinator("--initial-workers", str(count), *options)
        told = {"total": TOTAL, "epochs": EPOCHS, **training}
        return coordinator, [start_worker(f"worker-{number}", coordinator.url, **told) for number in range(count)]

    return start


def finish(coordinator: Any, workers: list[Any], *, total: int = TOTAL, epochs: int = EPOCHS) -> None:
    """Wait for the end and check everything that a run must show."""
    for worker in workers:
        worker.finish()
    check_run(workers, coordinator.status(), total=total, epochs=epochs)


def generations(workers: list[Any]) -> set[int]:
    """Return the generations that anybody trained in."""
    return {event["generation"] for worker in workers for event in worker.events("membership")}


def wait_for_training(workers: list[Any], steps: int = 5) -> None:
    until(lambda: all(worker.committed >= steps for worker in workers), 30, "training begins")


def test_workers_that_sleep_through_their_leases_are_fenced_and_rejoin(
    start_job: Callable[..., Any], run_dir: Path
) -> None:
    """Two of three are stopped in the middle of anything, one after the other, and come back as newcomers."""
    coordinator, workers = start_job(3, "--lease-s", str(LEASE_S), hold_at=18)
    wait_for_training(workers)
    for number in (1, 2):
        workers[number].signal(signal.SIGSTOP)
        until(lambda name=f"worker-{number}": name not in coordinator.members(), HEALED_S, "its lease ends")
        workers[number].signal(signal.SIGCONT)
        until(lambda: len(coordinator.members()) == 3, HEALED_S, "it comes back")
    (run_dir / "go").touch()
    finish(coordinator, workers)
    assert coordinator.status().counters["leases_expired"] == 2


def test_a_coordinator_that_was_stopped_for_longer_than_a_lease_evicts_nobody(
    start_job: Callable[..., Any], run_dir: Path
) -> None:
    """It has heard nobody for two leases, and knows that this was its own doing."""
    coordinator, workers = start_job(3, "--lease-s", str(LEASE_S), hold_at=15)
    wait_for_training(workers)
    coordinator.signal(signal.SIGSTOP)
    let_pass(2 * LEASE_S)
    told = max(worker.committed for worker in workers)
    (run_dir / "go").touch()
    coordinator.signal(signal.SIGCONT)
    until(lambda: min(worker.committed for worker in workers) > told + 1, HEALED_S, "training goes on")
    finish(coordinator, workers)
    assert generations(workers) == {1}
    assert "leases_expired" not in coordinator.status().counters


def test_kills_of_the_coordinator_at_any_moment_lose_nothing_that_was_acknowledged(
    start_job: Callable[..., Any],
) -> None:
    """kill -9 at random moments, four times: workers carry on within 2 s, in the same generation, where they were.

    A machine that has other things to do may take longer now and then, but not three times in four.
    """
    chance = random.Random(20)
    coordinator, workers = start_job(3, "--lease-s", "10", work_s=0.02, epochs=3, total=2 * TOTAL)
    took = []
    for _ in range(4):
        before = max(worker.committed for worker in workers)
        until(lambda before=before: max(worker.committed for worker in workers) > before, 30, "training")
        let_pass(chance.uniform(0.0, 0.1))
        coordinator.kill()
        told = max(worker.committed for worker in workers)
        coordinator.start()
        served_at = time.monotonic()
        until(lambda told=told: max(worker.committed for worker in workers) > told, 30, "workers carry on")
        took.append(time.monotonic() - served_at)
        told = max(worker.committed for worker in workers)
        check_acknowledged(told, coordinator.status())
    assert sorted(took)[1] < 2, took
    finish(coordinator, workers, total=2 * TOTAL, epochs=3)
    assert generations(workers) == {1}
    assert coordinator.status().term == 5


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (Debian package strace)")
@pytest.mark.skipif(os.geteuid() != 0, reason="tracing a process that is no child takes root")
def test_a_disk_that_stalls_for_longer_than_a_lease_evicts_nobody(start_job: Callable[..., Any], run_dir: Path) -> None:
    """The journal waits for the disk, and everybody for the journal: a pause, and nobody is taken for lost."""
    coordinator, workers = start_job(3, "--lease-s", str(LEASE_S), hold_at=5)
    wait_for_training(workers, 4)
    stall = f"inject=fsync,fdatasync:delay_enter={2 * LEASE_S * 1e6:.0f}"
    with slow_calls(coordinator.pid, stall):
        (run_dir / "go").touch()
        let_pass(2 * LEASE_S)
        assert max(worker.committed for worker in workers) <= 5, "the disk was not slow"
    until(lambda: min(worker.committed for worker in workers) > 6, HEALED_S, "training goes on")
    finish(coordinator, workers)
    assert generations(workers) == {1}
    assert "leases_expired" not in coordinator.status().counters


@contextlib.contextmanager
def slow_calls(pid: int, inject: str) -> Iterator[None]:
    """Within, system calls of a process are tampered with, as strace does it."""
    command = ["strace", "--follow-forks", "--attach", str(pid), "--trace", "fsync,fdatasync", "-e", inject]
    with subprocess.Popen([*command, "--output", "/dev/null"], stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        yield
        tracer.terminate()
