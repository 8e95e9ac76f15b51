"""A worker that the coordinator gives up and that does not end by itself is ended, and started again."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from strata_zmq.protocol.messages import GetStatus, Status
from strata_zmq.workers.client import CoordinatorClient
from strata_zmq.workers.launcher.job import Job, Limits, Say, Signal, Spawn

SIGKILL = signal.SIGKILL

# It meets the others at commit points. In its first life, worker-1 does what it is told to when it is told to.
TRAIN = """
import re
from strata_zmq.errors import GenerationChangedError, StaleGenerationError
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

session = WorkerSession(WorkerIdentity(worker_id=name))
session.connect(30)
session.join(30)
print("coordinator", os.environ["COORDINATOR_URL"])
while not os.path.exists("stop"):
    try:
        session.commit([], timeout_s=30)
    except (GenerationChangedError, StaleGenerationError):
        session.join(30)
    time.sleep(0.02)
    if session.step % 10 == 0 and session.step:
        print("step", session.step, "with", len(session.membership.members))
    if name == "worker-1" and not lives and os.path.exists("hang"):
        print("hanging", flush=True)
        re.match(r"(a+)+$", "a" * 40 + "b")
session.close()
"""


def running(**limits: Any) -> Job:
    """A job of two workers that were started at 100 s; who is lost has 3 s to come back."""
    job = Job(2, 0, Limits(**limits), rejoin_s=3.0)
    job.begin(100.0)
    job.ready("coordinator", 100.0)
    return job


def only(effects: list[Any], *kinds: type) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kinds)]


# ---- the rules ------------------------------------------------------------------------------------------------------


def test_who_was_given_up_has_a_while_to_come_back_and_is_killed_then() -> None:
    """One line says why; it is restarted as every lost worker is."""
    job = running()
    assert job.given_up("worker-1", 2.9, "its lease is over", 110.0) == []
    say, kill = job.given_up("worker-1", 3.0, "its lease is over", 110.1)
    assert kill == Signal("worker-1", SIGKILL)
    assert isinstance(say, Say)
    assert "its lease is over" in say.text
    assert job.given_up("worker-1", 3.5, "its lease is over", 110.6) == [], "once is enough"
    job.exited("worker-1", -9, 110.7)
    assert job.reported("worker-1", 110.8) == [Spawn("worker-1", 1)]


def test_a_word_about_the_life_before_does_not_kill_the_next_one() -> None:
    job = running()
    job.exited("worker-1", -9, 105.0)
    job.reported("worker-1", 106.0)
    assert job.given_up("worker-1", 9.0, "its process was reported dead", 114.0) == []
    assert job.given_up("worker-1", 5.0, "its lease is over", 114.0) != []


@pytest.mark.parametrize("state", ["dead", "done", "ending"])
def test_only_a_worker_that_runs_in_a_job_that_runs_is_killed(state: str) -> None:
    job = running()
    if state == "ending":
        job.interrupted(signal.SIGINT, 101.0)
    else:
        job.exited("worker-1", 0 if state == "done" else 3, 101.0)
    assert job.given_up("worker-1", 4.0, "its lease is over", 110.0) == []


def test_lives_that_were_given_up_count_as_restarts() -> None:
    job = running(worker_restarts=1)
    for life in range(2):
        now = 110.0 + 10 * life
        assert only(job.given_up("worker-0", 5.0, "its training loop hangs", now), Signal)
        job.exited("worker-0", -9, now)
        job.reported("worker-0", now)
    assert job.code == 137


# ---- real processes -------------------------------------------------------------------------------------------------


def coordinator_of(run) -> CoordinatorClient:
    url = next(line.split()[-1] for line in run.out.splitlines() if "coordinator ipc" in line)
    return CoordinatorClient(url)


def pid_of(run, name: str) -> int:
    return int(next(line for line in run.out.splitlines() if line.startswith(f"[{name}] life")).split()[-1])


@pytest.mark.parametrize("how", ["in the GIL", "stopped"])
def test_a_worker_that_stands_still_is_killed_and_restarted(launch, script, eventually, tmp_path, how: str) -> None:
    """Nobody has to look for it: also a run without a view watches."""
    run = launch("-n", 3, "--lease", 2, "--writers", 0, "--progress", "off", script(TRAIN))
    eventually(lambda: "with 3" in run.out, 30, message=run)
    if how == "stopped":
        os.kill(pid_of(run, "worker-1"), signal.SIGSTOP)
    else:
        (tmp_path / "hang").touch()
    eventually(lambda: "[worker-1] life 1" in run.out, 30, message=run)
    seen = len(run.out)
    eventually(lambda: run.out[seen:].count("with 3") >= 6, 30, message=run)
    (tmp_path / "stop").touch()
    assert run.wait() == 0, run.story()
    lines = [line for line in run.err.splitlines() if "was given up" in line]
    assert len(lines) == 1, run.story()
    assert "worker-1 was given up by the coordinator (its lease is over, it was not heard for " in lines[0]
    assert run.out.count("life ") == 4
    assert run.leftovers() == []


def test_a_worker_that_was_stopped_for_longer_than_its_lease_comes_back_and_is_left_alone(
    launch, script, eventually, tmp_path
) -> None:
    run = launch("-n", 3, "--lease", 2, "--writers", 0, script(TRAIN))
    eventually(lambda: "with 3" in run.out, 30, message=run)
    victim = pid_of(run, "worker-1")
    with coordinator_of(run) as client:
        client.connect()

        def lost() -> list[tuple[str, int]]:
            status: Status = client.request(GetStatus())
            return [(row.worker_id, row.pid) for row in status.lost]

        os.kill(victim, signal.SIGSTOP)
        eventually(lambda: lost() == [("worker-1", victim)], message=run)
        os.kill(victim, signal.SIGCONT)
        eventually(lambda: lost() == [], message=run)
    seen, back_at = len(run.out), time.monotonic()
    eventually(
        lambda: "with 3" in run.out[seen:] and time.monotonic() > back_at + 3.0, 30, message=run
    )  # past the time at which it would have been killed
    (tmp_path / "stop").touch()
    assert run.wait() == 0, run.story()
    assert "was given up" not in run.err
    assert run.out.count("life ") == 3


def test_a_worker_that_takes_long_to_begin_is_not_lost(launch, script, eventually, tmp_path) -> None:
    """It has no lease yet."""
    slow = "while name == 'worker-1' and not os.path.exists('go'): time.sleep(0.05)\n"
    run = launch("-n", 2, "--lease", 0.5, "--writers", 0, "--progress-interval", 1, script(slow + TRAIN))
    eventually(lambda: run.err.count("2/2 workers up") >= 4, 30, message=run)
    (tmp_path / "go").touch()
    eventually(lambda: "with 2" in run.out, 30, message=run)
    (tmp_path / "stop").touch()
    assert run.wait() == 0, run.story()
    assert run.out.count("life ") == 2
