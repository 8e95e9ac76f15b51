"""Simulated workers speak to a real coordinator as real ones do: exactly once, through losses, restarts and hangs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient
from strata_zmq.workers.simulated.fleet import Fleet
from strata_zmq.workers.simulated.plan import FleetPlan

SMALL = {"step_s": 0.02, "batch_size": 40, "total_samples": 2000, "shard_size": 50}
LIMIT_S = 40.0


def turn_until(fleet: Fleet, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not reached():
        assert time.monotonic() < deadline, (fleet.connected, fleet.generation, fleet.commits, fleet.last_error)
        fleet.turn(0.1)


def complete(status) -> list[int]:
    return [one["epoch"] for one in status.certificates if one["complete"]]


def test_a_fleet_commits_every_sample_of_an_epoch_exactly_once_and_leaves_in_the_end(start_coordinator) -> None:
    coordinator = start_coordinator("--initial-workers", "12", "--lease-s", "5", "--heartbeat-s", "0.5")
    with Fleet(FleetPlan(workers=12, gpus=2, **SMALL), coordinator.url) as fleet:
        turn_until(fleet, lambda: 0 in complete(coordinator.status()))
        status = coordinator.status()
        assert fleet.members == 12
        assert {row.worker_id for row in status.workers} == {f"sim-{index}" for index in range(12)}
        turn_until(fleet, lambda: all(row.resources for row in coordinator.status().workers))
        assert all(len(row.resources.gpu_percent) == 2 for row in coordinator.status().workers)
        assert fleet.errors == 0
    assert coordinator.status().workers == []


def test_workers_that_are_killed_and_come_back_cost_no_sample(start_coordinator) -> None:
    coordinator = start_coordinator("--lease-s", "1", "--heartbeat-s", "0.2", "--initial-workers", "8")
    plan = FleetPlan(workers=8, churn=90, away_s=1.5, seed=7, **SMALL)
    with Fleet(plan, coordinator.url) as fleet:
        turn_until(fleet, lambda: fleet.lives >= 14 and len(complete(coordinator.status())) >= 2)
        certificates = coordinator.status().certificates
    assert all(one["complete"] for one in certificates)
    assert coordinator.status().generation > 1


def test_a_fleet_goes_on_with_a_coordinator_that_was_killed_and_started_again(start_coordinator) -> None:
    coordinator = start_coordinator("--initial-workers", "6", "--lease-s", "5", "--heartbeat-s", "0.5")
    with Fleet(FleetPlan(workers=6, **SMALL), coordinator.url) as fleet:
        turn_until(fleet, lambda: fleet.commits >= 3)
        generation = fleet.generation
        coordinator.restart()
        commits = fleet.commits
        turn_until(fleet, lambda: fleet.commits >= commits + 3)
        assert fleet.generation == generation
        assert fleet.members == 6


def test_a_training_loop_that_stands_still_is_named_by_the_coordinator(start_coordinator) -> None:
    coordinator = start_coordinator("--initial-workers", "4", "--lease-s", "5", "--heartbeat-s", "0.2", "--hang-s", "1")
    with Fleet(FleetPlan(workers=4, hangs=600, hang_s=20, seed=1, **SMALL), coordinator.url) as fleet:
        turn_until(fleet, lambda: bool(coordinator.status().hangs))
        hang = coordinator.status().hangs[0]
        assert hang.worker_id.startswith("sim-")
        assert hang.since_s >= 1


def test_a_fleet_stops_when_the_ranks_are_told_to(start_coordinator) -> None:
    coordinator = start_coordinator(
        "--initial-workers", "4", "--heartbeat-s", "0.2", env={"STRATA_SUPERVISOR_TOKEN": "secret"}
    )
    with Fleet(FleetPlan(workers=4, **SMALL), coordinator.url) as fleet:
        turn_until(fleet, lambda: fleet.commits >= 2)
        with CoordinatorClient(coordinator.url, role="supervisor", token="secret").connect() as supervisor:  # noqa: S106
            supervisor.request(wire.SendCommand(command="stop", workers=["sim-2"]))
        turn_until(fleet, lambda: fleet.connected == 0)
        assert coordinator.status().workers == []


def test_the_command_ends_when_its_workers_were_told_to_stop(start_coordinator, eventually) -> None:
    coordinator = start_coordinator("--heartbeat-s", "0.2", env={"STRATA_SUPERVISOR_TOKEN": "secret"})
    command = [sys.executable, "-m", "strata_zmq", "sim-workers", "3", "--coordinator", coordinator.url]
    process = subprocess.Popen([*command, "--step", "0.05"], stderr=subprocess.DEVNULL)
    try:
        with CoordinatorClient(coordinator.url, role="supervisor", token="secret").connect() as supervisor:  # noqa: S106
            eventually(lambda: coordinator.status().commit_index >= 3, LIMIT_S)
            supervisor.request(wire.SendCommand(command="stop"))
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
    assert coordinator.status().workers == []


def test_the_command_says_how_the_fleet_is_and_ends_when_its_time_is_over(start_coordinator) -> None:
    coordinator = start_coordinator("--initial-workers", "3")
    command = [sys.executable, "-m", "strata_zmq", "sim-workers", "3", "--coordinator", coordinator.url]
    done = subprocess.run(
        [*command, "--step", "0.05", "--duration", "3"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 3 workers connected" in done.stderr
    assert "3 in generation 1" in done.stderr


def test_the_command_says_so_when_nobody_takes_the_workers_in(run_dir) -> None:
    command = [sys.executable, "-m", "strata_zmq", "sim-workers", "2", "--coordinator", f"ipc://{run_dir}/nobody"]
    done = subprocess.run([*command, "--duration", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "0 of 2 workers connected" in done.stderr
    assert "is a coordinator running there" in done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workers", 0),
        ("workers", 10_001),
        ("prefix", "two words"),
        ("step_s", -1.0),
        ("step_s", float("nan")),
        ("batch_size", 0),
        ("gpus", -1),
        ("churn", float("inf")),
        ("shard_size", 0),
        ("seed", -1),
    ],
)
def test_a_plan_names_the_field_that_makes_no_sense(field: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        FleetPlan(**{"workers": 1, field: value})
