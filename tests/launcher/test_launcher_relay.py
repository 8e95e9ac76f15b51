"""`strata run` and its relay: workers share its connection while it lives, and do without it while it does not."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from strata_zmq.workers.launcher.job import Job, Limits, Phase, Report, Say, Signal, Spawn

TRAIN = """
from strata_zmq.errors import GenerationChangedError, StaleGenerationError
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

session = WorkerSession(WorkerIdentity(worker_id=name))
session.connect(30)
session.join(30)
told = ""
while not os.path.exists("stop"):
    try:
        session.commit([], timeout_s=30)
    except (GenerationChangedError, StaleGenerationError):
        session.join(30)
    time.sleep(0.02)
    if session.step % 10 == 0 or session.client.endpoint != told:
        told = session.client.endpoint
        print("step", session.step, "over", told, "in generation", session.membership.generation, flush=True)
session.close()
"""


def over(run, name: str) -> list[str]:
    """The ways that workers have said they take, `agent` or `control`, in order."""
    return re.findall(rf"\[{name}\] step \d+ over ipc://\S*/(\w+) in generation 1", run.out)


def test_workers_go_over_the_relay_past_its_death_and_back_when_it_is_restarted(
    launch, script, eventually, tmp_path: Path
) -> None:
    run = launch("-n", 2, "--writers", 0, "--lease", 30, script(TRAIN))
    eventually(lambda: all("agent" in over(run, f"worker-{rank}") for rank in range(2)), 30, message=run)
    os.kill(run.pid_of("strata_zmq.workers relay"), signal.SIGKILL)
    eventually(lambda: "the relay was killed by SIGKILL; restarting it in 0.5 s" in run.err, message=run)
    eventually(lambda: all("control" in over(run, f"worker-{rank}") for rank in range(2)), 30, message=run)
    eventually(lambda: all(over(run, f"worker-{rank}")[-1] == "agent" for rank in range(2)), 60, message=run)
    (tmp_path / "stop").touch()
    assert run.wait() == 0, run.story()
    assert run.leftovers() == []


def test_a_run_can_do_without_a_relay(launch, script, eventually, tmp_path: Path) -> None:
    run = launch("-n", 2, "--writers", 0, "--no-agent", script(TRAIN))
    eventually(lambda: all(over(run, f"worker-{rank}") for rank in range(2)), 30, message=run)
    assert not any("relay" in command for command in run.processes().values())
    (tmp_path / "stop").touch()
    assert run.wait() == 0, run.story()
    assert {way for rank in range(2) for way in over(run, f"worker-{rank}")} == {"control"}


# ---- the rules, without a process


def running(**limits: float) -> Job:
    job = Job(1, 0, Limits(**limits), relay=True)  # type: ignore[arg-type]
    job.begin(0.0)
    job.ready("coordinator", 0.0)
    job.ready("relay", 0.0)
    assert job.phase is Phase.RUNNING
    return job


def test_workers_wait_for_the_relay_and_it_starts_beside_the_writers() -> None:
    job = Job(1, 1, relay=True)
    job.begin(0.0)
    assert job.ready("coordinator", 0.1) == [Spawn("writer-0", 0), Spawn("relay", 0)]
    assert job.ready("writer-0", 0.2) == []
    assert job.ready("relay", 0.3) == [Spawn("worker-0", 0)]


def test_a_relay_that_does_not_start_costs_nothing_but_itself() -> None:
    job = Job(1, 0, relay=True)
    job.begin(0.0)
    job.ready("coordinator", 0.1)
    said, spawned = job.exited("relay", 1, 0.2)
    assert said == Say("the relay did not start: it exited with code 1; workers speak to the coordinator themselves")
    assert spawned == Spawn("worker-0", 0)
    assert job.tick(1000.0) == []
    assert job.exited("worker-0", 0, 2000.0)[-1] == Signal("coordinator", signal.SIGTERM)


def test_a_relay_that_is_not_ready_in_time_is_given_up() -> None:
    job = Job(1, 0, Limits(ready_s=30.0), relay=True)
    job.begin(0.0)
    job.ready("coordinator", 0.0)
    assert job.tick(30.0) == [Signal("relay", signal.SIGKILL)]
    assert job.exited("relay", -9, 30.1)[-1] == Spawn("worker-0", 0)


def test_a_relay_is_restarted_at_growing_intervals_and_as_often_as_it_takes() -> None:
    job = running(relay_wait_s=0.5, relay_wait_max_s=4.0)
    now = 10.0
    for life, wait_s in enumerate((0.5, 1.0, 2.0, 4.0, 4.0, 4.0), start=1):
        job.exited("relay", -9, now)
        assert job.next_deadline() == now + wait_s
        assert job.reported("relay", now) == [], "its restart does not wait for a report"
        assert job.tick(now + wait_s) == [Spawn("relay", life)]
        now += 100.0
        job.ready("relay", now)
    assert job.phase is Phase.RUNNING


def test_a_relay_that_dies_while_writers_start_holds_nothing_up() -> None:
    job = Job(1, 1, relay=True)
    job.begin(0.0)
    job.ready("coordinator", 0.0)
    job.ready("relay", 0.1)
    job.exited("relay", -9, 0.2)
    assert job.tick(1.0) == [Spawn("relay", 1)]
    assert job.ready("writer-0", 1.1) == [Spawn("worker-0", 0)]


def test_the_relay_ends_after_the_workers_and_before_the_coordinator() -> None:
    job = running()
    assert job.exited("worker-0", 0, 1.0)[-1] == Signal("relay", signal.SIGTERM)
    assert job.exited("relay", 0, 1.1) == [Signal("coordinator", signal.SIGTERM)]


def test_a_host_has_no_coordinator_and_names_its_members_after_itself() -> None:
    job = Job(2, 1, coordinator=False, relay=True, host="node-a")
    assert job.begin(0.0) == [Spawn("node-a-writer-0", 0), Spawn("relay", 0)]
    job.ready("relay", 0.1)
    assert job.ready("node-a-writer-0", 0.2) == [Spawn("node-a-0", 0), Spawn("node-a-1", 0)]
    job.exited("node-a-0", 0, 1.0)
    job.exited("node-a-1", 0, 1.0)
    job.exited("node-a-writer-0", 0, 1.0)
    assert job.exited("relay", 0, 1.0)[-1].code == 0  # type: ignore[union-attr]


def test_where_deaths_cannot_be_reported_a_restart_waits_for_the_lease() -> None:
    job = Job(2, 0, coordinator=False, unreported_s=30.0)
    job.begin(0.0)
    assert not any(isinstance(effect, Report) for effect in job.exited("worker-0", -9, 1.0))
    assert job.tick(30.9) == []
    assert job.tick(31.0) == [Spawn("worker-0", 1)]
    assert not any(isinstance(effect, Report) for effect in job.exited("worker-1", 0, 40.0))
