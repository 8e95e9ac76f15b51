"""Training across hosts, which are network namespaces here: cables are pulled, connections die, and history is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faultkit.invariants import check_run
from faultkit.job import let_pass
from processkit.patience import until

TOTAL, EPOCHS = 240, 2
HEALED_S = 10.0
# A lease and this: TCP repeats itself 12.6 and 25.4 s after the last acknowledgement, never in the 10 s that follow.
PARTITION_S = 12.0


@pytest.fixture
def start_job(
    start_network: Callable[..., Any], start_far_coordinator: Callable[..., Any], start_worker: Callable[..., Any]
) -> Callable[..., Any]:
    """`start_job(3, "--lease-s", "2")` gives a network, the coordinator on its host "head", and a worker on each other.

    All talk CURVE over TCP, as between machines.
    """

    def start(count: int, *options: str, **training: Any) -> tuple[Any, Any, list[Any]]:
        hosts = [f"host-{number}" for number in range(count)]
        network = start_network("head", *hosts)
        coordinator = start_far_coordinator(network, "head", "--initial-workers", str(count), *options)
        told = {"total": TOTAL, "epochs": EPOCHS, **training}
        workers = [
            start_worker(f"worker-{number}", coordinator.url, *network.prefix(host), **told)
            for number, host in enumerate(hosts)
        ]
        return network, coordinator, workers

    return start


def wait_for_training(workers: list[Any], steps: int = 5) -> None:
    until(lambda: all(worker.committed >= steps for worker in workers), 30, "training begins")


def finish(coordinator: Any, workers: list[Any]) -> None:
    """Wait for the end and check everything that a run must show."""
    for worker in workers:
        worker.finish()
    check_run(workers, coordinator.status(), total=TOTAL, epochs=EPOCHS)


def generations(workers: list[Any]) -> set[int]:
    """Return the generations that anybody trained in."""
    return {event["generation"] for worker in workers for event in worker.events("membership")}


def left(coordinator: Any) -> list[list[str]]:
    """Who left, in order, before the first worker had finished."""
    return [change["left"] for change in coordinator.status().rebalances if change["left"]]


def test_a_minority_behind_a_pulled_cable_is_fenced_and_returns(start_job: Callable[..., Any], run_dir: Path) -> None:
    """Cut off both ways for longer than its lease: the others go on without it, and it comes back as a newcomer."""
    network, coordinator, workers = start_job(3, "--lease-s", "1.5", hold_at=18)
    wait_for_training(workers)
    with network.unplugged("host-1"):
        until(lambda: coordinator.members() == ["worker-0", "worker-2"], HEALED_S, "the lease of worker-1 ends")
        until(lambda: workers[0].committed == workers[2].committed == 17, HEALED_S, "the others go on")
    until(lambda: "worker-1" in coordinator.members(), HEALED_S, "worker-1 comes back")
    assert left(coordinator) == [["worker-1"]]
    (run_dir / "go").touch()
    finish(coordinator, workers)


@pytest.mark.parametrize(("deaf", "other"), [("head", "host-1"), ("host-1", "head")])
def test_a_worker_behind_a_one_way_partition_is_fenced_and_returns(
    start_job: Callable[..., Any], run_dir: Path, deaf: str, other: str
) -> None:
    """Whichever way is lost, TCP falls silent: the worker is taken for lost, and comes back when both ways are open."""
    network, coordinator, workers = start_job(2, "--lease-s", "1.5", hold_at=20)
    wait_for_training(workers)
    with network.deaf(deaf, other):
        until(lambda: coordinator.members() == ["worker-0"], HEALED_S, "the lease of worker-1 ends")
        until(lambda: workers[0].committed == 19, HEALED_S, "the other goes on")
    until(lambda: coordinator.members() == ["worker-0", "worker-1"], HEALED_S, "worker-1 comes back")
    (run_dir / "go").touch()
    finish(coordinator, workers)


def test_a_slow_link_is_slow_and_nothing_else(start_job: Callable[..., Any], run_dir: Path) -> None:
    """Over a thin wire the heartbeats get through in time, and training goes on."""
    network, coordinator, workers = start_job(2, "--lease-s", "5", hold_at=5)
    wait_for_training(workers, 4)
    with network.slow("host-1", kbit_per_s=128):
        (run_dir / "go").touch()
        finish(coordinator, workers)
    assert generations(workers) == {1}, "a member was lost"


def test_killed_connections_come_back(start_job: Callable[..., Any], run_dir: Path) -> None:
    """Every connection of a host is destroyed under it, again and again: a pause each time, and nobody is lost."""
    network, coordinator, workers = start_job(2, "--lease-s", "30", hold_at=24)
    for at in (4, 10, 16, 22):
        until(lambda at=at: workers[0].committed >= at, HEALED_S + 10, f"commit point {at}")
        until(lambda: network.kill_connections("host-1"), HEALED_S, "a connection to kill")
    (run_dir / "go").touch()
    finish(coordinator, workers)
    assert generations(workers) == {1}, "a member was lost"


def test_a_switch_that_fails_for_everybody_evicts_nobody(start_job: Callable[..., Any], run_dir: Path) -> None:
    """Workers that fall silent together are not all dead: their leases are frozen for as long again."""
    network, coordinator, workers = start_job(4, "--lease-s", "5", hold_at=8)
    wait_for_training(workers)
    with network.unplugged("host-0", "host-1", "host-2", "host-3"):
        until(lambda: coordinator.status().frozen, HEALED_S, "the coordinator doubts what it sees")
        assert len(coordinator.members()) == 4
    told = max(worker.committed for worker in workers)
    (run_dir / "go").touch()
    until(lambda: min(worker.committed for worker in workers) > told, HEALED_S, "training goes on")
    finish(coordinator, workers)
    assert generations(workers) == {1}, "a member was lost"


def test_workers_that_all_stay_away_are_lost_and_return_soon(start_job: Callable[..., Any], run_dir: Path) -> None:
    """A partition that outlives the doubt ends every lease; history waits, and whoever comes back goes on with it.

    All are back within 10 s, however long it took: by itself, TCP would wait for about as long again.
    """
    network, coordinator, workers = start_job(2, "--lease-s", "1.5", hold_at=20)
    wait_for_training(workers)
    with network.deaf("head", "host-0", "host-1"):
        until(lambda: coordinator.members() == [], HEALED_S, "all leases end")
        let_pass(PARTITION_S)
    (run_dir / "go").touch()
    told = max(worker.committed for worker in workers)
    until(lambda: min(worker.committed for worker in workers) > told, HEALED_S, "training goes on")
    finish(coordinator, workers)
