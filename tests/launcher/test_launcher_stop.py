"""A run whose ranks have agreed to stop stays stopped, whoever is lost meanwhile; the next run goes on."""

from __future__ import annotations

import os
import signal
from typing import Any

from strata_zmq.protocol.messages import GetStatus, SendCommand, Status
from strata_zmq.workers.client import CoordinatorClient
from strata_zmq.workers.launcher.job import Job, Limits, Phase, Signal, Spawn

TOKEN = "the run's own"  # noqa: S105 - a test's
TOTAL = 100_000

# Behind the loop, worker-1's first life waits; its later ones wait for the test before they connect.
TRAIN = """
from strata_zmq import WorkerMixin

print("coordinator", os.environ["COORDINATOR_URL"])
if lives:
    while not os.path.exists("go"): time.sleep(0.02)
worker = WorkerMixin()
worker.register_dataset("numbers", total_samples=int(sys.argv[1]), shard_size=100)
trained = 0
for batch in worker.batches("numbers", 5, every_rank=True, timeout_s=30):
    trained += 1
    time.sleep(0.02)
    if trained == 5:
        print("trains", flush=True)
print("ended behind", trained, "batches at", worker.step, "stopping", worker.stopping, flush=True)
if name == "worker-1" and not lives:
    while not os.path.exists("end"): time.sleep(0.02)
worker.deregister()
"""


def running(workers: int = 2, **limits: Any) -> Job:
    job = Job(workers, 0, Limits(**limits))
    job.begin(0.0)
    job.ready("coordinator", 0.0)
    return job


def only(effects: list[Any], *kinds: type) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kinds)]


# ---- the rules ------------------------------------------------------------------------------------------------------


def test_who_is_lost_behind_the_stop_is_not_restarted_and_its_code_is_the_runs() -> None:
    """The others end in their own time."""
    job = running()
    job.exited("worker-1", -9, 1.0)
    job.stopped = True  # the snapshot behind the report says so
    assert only(job.reported("worker-1", 1.1), Spawn, Signal) == []
    assert job.phase is Phase.RUNNING
    job.exited("worker-0", 0, 2.0)
    assert (job.phase, job.code) == (Phase.ENDING, 137)
    assert job.outcome == "worker-1 was killed by SIGKILL behind the stop"


def test_who_is_lost_before_the_stop_is_restarted_and_a_run_that_has_stopped_well_ends_with_0() -> None:
    job = running()
    job.exited("worker-1", -9, 1.0)
    assert only(job.reported("worker-1", 1.1), Spawn) == [Spawn("worker-1", 1)]
    job.stopped = True
    job.exited("worker-0", 0, 2.0)
    job.exited("worker-1", 0, 2.1)
    assert (job.phase, job.code) == (Phase.ENDING, 0)


def test_a_run_whose_last_worker_is_lost_behind_the_stop_ends() -> None:
    job = running(workers=1)
    job.stopped = True
    effects = job.exited("worker-0", 3, 1.0)
    assert only(effects, Spawn) == []
    assert (job.phase, job.code) == (Phase.ENDING, 3)


# ---- real processes -------------------------------------------------------------------------------------------------


def url_of(run) -> str:
    return str(next(line.split()[-1] for line in run.out.splitlines() if "coordinator ipc" in line))


def pid_of(run, name: str) -> int:
    return int(next(line for line in run.out.splitlines() if line.startswith(f"[{name}] life")).split()[-1])


def stop(run) -> None:
    with CoordinatorClient(url_of(run), role="supervisor", token=TOKEN).connect() as client:
        client.request(SendCommand(command="stop"))


def status(run) -> Status:
    with CoordinatorClient(url_of(run)).connect() as client:
        answer: Status = client.request(GetStatus())
        return answer


def test_a_rank_that_is_killed_between_the_stop_and_its_end_does_not_train_on_alone(
    launch, script, eventually, tmp_path
) -> None:
    args = ("-n", 3, "--writers", 0, "--run-dir", tmp_path / "kept", script(TRAIN), TOTAL)
    run = launch(*args, STRATA_SUPERVISOR_TOKEN=TOKEN)
    eventually(lambda: run.out.count("trains") == 3, 30, message=run)
    stop(run)
    eventually(lambda: run.out.count("stopping True") == 3, 30, message=run)
    os.kill(pid_of(run, "worker-1"), signal.SIGKILL)
    assert run.wait() == 137, run.story()
    assert "worker-1 is not restarted: the ranks have agreed to stop" in run.err
    assert run.out.count("life ") == 3
    assert run.leftovers() == []

    again = launch(*args, STRATA_SUPERVISOR_TOKEN=TOKEN)
    eventually(lambda: again.out.count("trains") == 3, 30, message=again)
    (tmp_path / "end").touch()
    stop(again)
    assert again.wait() == 0, again.story()
    ends = [int(line.split(" at ")[1].split()[0]) for line in again.out.splitlines() if "ended behind" in line]
    before = [int(line.split(" at ")[1].split()[0]) for line in run.out.splitlines() if "ended behind" in line]
    assert len(set(before)) == len(set(ends)) == 1
    assert ends[0] > before[0], "the next run goes on where the stopped one ended"


def test_a_rank_that_comes_back_only_behind_the_stop_ends_at_once(launch, script, eventually, tmp_path) -> None:
    """Its former life was lost before the others agreed."""
    run = launch("-n", 3, "--writers", 0, script(TRAIN), TOTAL, STRATA_SUPERVISOR_TOKEN=TOKEN)
    eventually(lambda: run.out.count("trains") == 3, 30, message=run)
    os.kill(pid_of(run, "worker-1"), signal.SIGKILL)
    eventually(lambda: "[worker-1] life 1" in run.out and len(status(run).workers) == 2, 30, message=run)
    stop(run)
    eventually(lambda: run.out.count("stopping True") == 2, 30, message=run)
    eventually(lambda: status(run).workers == [], message=run)
    (tmp_path / "go").touch()
    assert run.wait() == 0, run.story()
    assert "[worker-1] ended behind 0 batches" in run.out, run.story()
