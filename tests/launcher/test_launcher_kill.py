"""kill -9 in the middle of a job: the job survives the loss of any part, and nothing survives the loss of the whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processkit.signals import ignores

from strata_zmq.workers.launcher import child as shim
from strata_zmq.workers.launcher import warden

# A worker that trains until told to stop: it meets the others at commit points, and goes on after every loss.
TRAIN = """
from strata_zmq.errors import GenerationChangedError, StaleGenerationError
from strata_zmq.workers.session import WorkerIdentity, WorkerSession

session = WorkerSession(WorkerIdentity(worker_id=name))
session.connect(30)
session.join(30)
while not os.path.exists("stop"):
    try:
        session.commit([], timeout_s=30)
    except (GenerationChangedError, StaleGenerationError):
        session.join(30)
    time.sleep(0.02)
    if session.step % 10 == 0 and session.step:
        print("step", session.step, "with", len(session.membership.members))
session.close()
"""

GRANDCHILD = """
import subprocess
subprocess.Popen([sys.executable, "-c", "import time; print('grandchild', flush=True); time.sleep(600)"])
"""


def test_the_supervisor_killed_takes_everything_with_it(launch, script, eventually) -> None:
    shared = set(Path("/dev/shm").iterdir())  # noqa: S108 - looked at, never written
    path = script(GRANDCHILD + "print('ready')\ntime.sleep(600)\n")
    run = launch("-n", 2, path)
    eventually(lambda: run.out.count("grandchild") == 2, 30, message=run)
    assert (
        len(run.processes()) >= 6
    )  # the coordinator, a writer, two workers, two grandchildren; the warden has no mark
    os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: run.leftovers() == [], 15)
    assert set(Path("/dev/shm").iterdir()) <= shared  # noqa: S108


def test_children_that_ignore_everything_die_with_the_supervisor(launch, script, eventually) -> None:
    stubborn = "import signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\n"
    path = script(
        stubborn + f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {stubborn + 'time.sleep(600)'!r}])\n"
        "print('ready')\ntime.sleep(600)\n"
    )
    run = launch("--writers", 0, path)
    eventually(lambda: "ready" in run.out, 30, message=run)
    os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: run.leftovers() == [], 15)


def test_killing_warden_and_supervisor_together_still_ends_every_child(launch, script, eventually) -> None:
    run = launch("-n", 2, "--writers", 0, script("print('ready')\ntime.sleep(600)\n"))
    eventually(lambda: run.out.count("ready") == 2, 30, message=run)
    wardens = _children_of(run.pid, "warden.py")
    assert len(wardens) == 1
    os.kill(run.pid, signal.SIGSTOP)  # so that it cannot replace its warden
    os.kill(wardens[0], signal.SIGKILL)
    os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: run.processes() == {}, 15)


def test_a_killed_warden_is_replaced_and_the_new_one_knows_everything(launch, script, eventually) -> None:
    run = launch("-n", 2, "--writers", 0, script(GRANDCHILD + "print('ready')\ntime.sleep(600)\n"))
    eventually(lambda: run.out.count("grandchild") == 2, 30, message=run)
    first = _children_of(run.pid, "warden.py")
    os.kill(first[0], signal.SIGKILL)
    # One that runs already has been told: the supervisor writes at once, and Python takes a while to start.
    eventually(
        lambda: any(ignores(pid, signal.SIGQUIT) for pid in _children_of(run.pid, "warden.py") if pid not in first)
    )
    os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: run.leftovers() == [], 15)


@pytest.mark.parametrize("part", ["worker", "coordinator", "writer"])
def test_a_job_goes_on_after_kill_9_of(launch, script, eventually, tmp_path, part) -> None:
    run = launch("-n", 3, script(TRAIN))
    eventually(lambda: "with 3" in run.out, 30, message=run)
    eventually(lambda: len(run.processes()) == 7, message=run)
    if part == "worker":
        text = next(line for line in run.out.splitlines() if line.startswith("[worker-1] life 0 pid"))
        victim = int(text.split()[-1])
    else:
        victim = run.pid_of({"coordinator": "strata_zmq.coordinator", "writer": "strata_zmq.workers writer"}[part])
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: "was killed by SIGKILL; restarting it" in run.err, message=run)
    seen = len(run.out)
    eventually(lambda: run.out[seen:].count("with 3") >= 6, 30, message=run)
    (tmp_path / "stop").touch()
    assert run.wait() == 0, run.story()
    lives = 4 if part == "worker" else 3
    assert run.out.count("life ") == lives
    assert "1 restart" in run.err
    assert run.leftovers() == []


def test_a_coordinator_that_hangs_costs_figures_and_the_job_can_still_be_ended(launch, script, eventually) -> None:
    run = launch("--writers", 0, "--progress-interval", 0.5, script("print('ready')\ntime.sleep(600)\n"))
    eventually(lambda: "ready" in run.out and "epoch 0 · generation 0" in run.err, 30, message=run)
    os.kill(run.pid_of("strata_zmq.coordinator"), signal.SIGSTOP)
    eventually(lambda: "the coordinator has not answered for" in run.err, 30, message=run)
    os.kill(run.pid, signal.SIGINT)
    assert run.wait() == 130, run.story()
    assert run.leftovers() == []


def test_a_lost_worker_is_known_at_once_and_not_after_its_lease(launch, script, eventually, tmp_path) -> None:
    run = launch("-n", 2, "--lease", 60, "--writers", 0, script(TRAIN))
    eventually(lambda: "with 2" in run.out, 30, message=run)
    victim = int(next(line for line in run.out.splitlines() if line.startswith("[worker-1] life")).split()[-1])
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: run.out.count("[worker-1] step") and "[worker-1] life 1" in run.out, 30, message=run)
    seen = len(run.out)
    eventually(lambda: "with 2" in run.out[seen:], 30, message=run)
    (tmp_path / "stop").touch()
    assert run.wait() == 0, run.story()


def test_the_run_folder_stays_locked_until_the_last_process_of_a_killed_run_is_gone(
    launch, script, eventually, tmp_path
) -> None:
    deaf = "import signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\nprint('deaf', flush=True)\n"
    code = f"import subprocess\nsubprocess.run([sys.executable, '-c', {deaf + 'time.sleep(600)'!r}])\n"
    run = launch("--writers", 0, "--run-dir", tmp_path / "kept", script(code))
    eventually(lambda: "deaf" in run.out, 30, message=run)
    os.kill(run.pid, signal.SIGKILL)
    with (tmp_path / "kept" / "lock").open() as lock:
        eventually(lambda: _locks(lock.fileno()), 15)
    assert [command for command in run.processes().values() if "deaf" in command] == []


def _locks(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_a_later_run_goes_on_where_a_killed_one_stood(launch, script, eventually, tmp_path) -> None:
    args = ("-n", 2, "--lease", 60, "--writers", 0, "--run-dir", tmp_path / "kept", script(TRAIN))
    first = launch(*args)
    eventually(lambda: "step 20 with 2" in first.out, 30, message=first)
    os.kill(first.pid, signal.SIGKILL)
    second = launch(*args)  # at once, while the first one's warden is still at work
    eventually(lambda: second.out.count("with 2") >= 2, 40, message=second)
    (tmp_path / "stop").touch()
    assert second.wait() == 0, second.story()
    steps = [int(line.split()[2]) for line in second.out.splitlines() if " step " in line]
    assert min(steps) > 20
    assert first.leftovers() == second.leftovers() == []


def _children_of(pid: int, part: str) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if part in Path(f"/proc/{child}/cmdline").read_text():
                found.append(int(child))
    return found


# ---- the warden and the shim alone ----------------------------------------------------------------------------------


def _warden(grace_s: float) -> tuple[subprocess.Popen[bytes], int]:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", warden.__file__, str(grace_s)], stdin=reading, start_new_session=True
    )
    os.close(reading)
    return process, writing


def test_the_warden_gives_time_to_end_and_then_takes_it(tmp_path, eventually) -> None:
    gentle = "import signal, sys\nsignal.signal(15, lambda *_: (open('gentle', 'w').close(), sys.exit()))\n"
    deaf = "import signal\nsignal.signal(15, signal.SIG_IGN)\n"
    rest = "print('up', flush=True)\nimport time\ntime.sleep(600)\n"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code + rest], cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True
        )
        for code in (gentle, deaf)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        child.stdout.close()
    folder = tmp_path / "scratch"
    (folder / "deep").mkdir(parents=True)
    process, pipe = _warden(0.3)
    for child in children:
        os.write(pipe, b"group %d\n" % child.pid)
    os.write(pipe, b"folder " + os.fsencode(folder) + b"\n")
    eventually(lambda: ignores(process.pid, signal.SIGQUIT))
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        process.send_signal(signum)
    assert process.poll() is None
    os.close(pipe)
    assert [child.wait(10) for child in children] == [0, -9]
    assert (tmp_path / "gentle").exists()
    assert process.wait(10) == 0
    assert not folder.exists()


def test_the_warden_leaves_forgotten_groups_and_strangers_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        process, pipe = _warden(0.1)
        os.write(pipe, b"group %d\nforget %d\n" % (child.pid, child.pid))
        os.close(pipe)
        assert process.wait(10) == 0
        assert child.poll() is None
        born = warden.born(child.pid)
        assert born is not None
        warden.end({child.pid: born - 1}, 0.1)  # the number was registered for a process that started earlier
        assert child.poll() is None
        warden.end({child.pid: born}, 1)
        assert child.wait(10) == -15
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def test_a_child_whose_supervisor_is_gone_never_runs_its_program(tmp_path) -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", shim.__file__, "1", str(writing), "9", "touch", str(tmp_path / "ran")],
            pass_fds=[writing],
            timeout=10,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 1
    assert not (tmp_path / "ran").exists()
