"""A thousand real connections lose their coordinator and get it back: everybody stays who he was."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from faultkit.herd import Herd

WORKERS = 1000
LEASE_S = 3.0


@pytest.fixture
def job(start_coordinator: Callable[..., Any], start_herd: Callable[..., Herd]) -> tuple[Any, Herd]:
    """A coordinator and a thousand workers, who are its first generation."""
    coordinator = start_coordinator("--initial-workers", str(WORKERS), "--lease-s", str(LEASE_S))
    herd = start_herd(coordinator.url, WORKERS)
    herd.run_until(lambda: herd.terms() == [1] * WORKERS, 60, "all are registered")
    assert coordinator.status().generation == 1
    return coordinator, herd


def test_a_restart_under_a_thousand_workers_is_no_rebalance(job: tuple[Any, Herd]) -> None:
    """All say hello again within their leases, and are the same generation; also when a lease more has passed."""
    coordinator, herd = job
    before = coordinator.status()
    coordinator.kill()
    coordinator.start()
    herd.run_until(lambda: herd.terms() == [2] * WORKERS, LEASE_S, "all are registered again")
    herd.run_for(1.25 * LEASE_S)
    after = coordinator.status()
    assert len(after.workers) == WORKERS
    assert {row.worker_id: row.rank for row in after.workers} == {row.worker_id: row.rank for row in before.workers}
    assert (after.generation, after.rebalances) == (before.generation, before.rebalances)
    assert "leases_expired" not in after.counters


def test_a_coordinator_that_sleeps_through_a_lease_loses_none_of_a_thousand(job: tuple[Any, Herd]) -> None:
    """Awake, it finds every lease over and more messages than it can read at once; it knows whose doing that was."""
    coordinator, herd = job
    coordinator.signal(signal.SIGSTOP)
    herd.run_for(1.25 * LEASE_S)
    coordinator.signal(signal.SIGCONT)
    herd.run_for(1.25 * LEASE_S)
    after = coordinator.status()
    assert (len(after.workers), after.generation) == (WORKERS, 1)
    assert "leases_expired" not in after.counters
    assert herd.terms() == [1] * WORKERS
