"""`strata run` with its real coordinator: environment, output, exit codes, restarts, interrupts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

Launch = Callable[..., object]
WAIT = "time.sleep(60)\n"


def test_every_worker_gets_its_rank_and_where_everything_is(launch, script, tmp_path) -> None:
    names = [
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "WORKER_ID",
        "STRATA_JOB",
        "STRATA_RESTARTS",
        "STRATA_CHECKPOINT_PATH",
        "STRATA_SUPERVISOR_PID",
    ]
    path = script(
        f"print(*(os.environ[name] for name in {names}), *sys.argv[1:], sep='|')\n"
        "assert os.path.isdir(os.environ['STRATA_RUN_DIR'])\n"
        "assert os.environ['COORDINATOR_URL'].startswith('ipc://')\n"
        "assert 'STRATA_SUPERVISOR_TOKEN' not in os.environ\n"
        "assert {os.readlink(f'/proc/self/fd/{fd}')[:5] for fd in range(3)} == {'/dev/', 'pipe:'}\n"
        "assert not any(os.path.exists(f'/proc/self/fd/{fd}') for fd in range(3, 64))\n"
    )
    outer = "of a run around this one"
    run = launch("-n", 3, "--writers", 0, path, "--lr", "0.1", "-n", "9", STRATA_SUPERVISOR_TOKEN=outer)
    assert run.wait() == 0, run.story()
    for rank in range(3):
        values = f"{rank}|{rank}|3|3|worker-{rank}|train|0|{tmp_path}/checkpoints|{run.pid}|--lr|0.1|-n|9"
        assert f"[worker-{rank}] {values}\n" in run.out
    assert run.err.count("all 3 workers finished in") == 1
    assert run.leftovers() == []


def test_a_module_runs_as_with_python_dash_m(launch, script) -> None:
    script("print(__name__, sys.argv[1:])\n", name="job_as_module.py")
    run = launch("--writers", 0, "-m", "job_as_module", "--flag")
    assert run.wait() == 0, run.story()
    assert "[worker-0] __main__ ['--flag']\n" in run.out


def test_output_keeps_its_stream_its_bytes_and_its_last_partial_line(launch, script) -> None:
    path = script(
        "sys.stdout.buffer.write(b'caf\\xc3\\xa9 \\xff\\xfe end\\n')\n"
        "sys.stderr.write('to stderr\\n')\n"
        "sys.stdout.write('x' * 100_000 + '\\n')\n"
        "sys.stdout.flush()\n"
        "sys.stdout.write('no newline')\n"
    )
    run = launch("--writers", 0, path)
    assert run.wait() == 0, run.story()
    out = run._out.read_bytes()
    assert b"[worker-0] caf\xc3\xa9 \xff\xfe end\n" in out
    assert out.endswith(b"[worker-0] no newline\n")
    assert "[worker-0] to stderr\n" in run.err
    assert "to stderr" not in run.out
    long = [line.removeprefix("[worker-0] ") for line in run.out.splitlines() if "xxx" in line]
    assert "".join(long) == "x" * 100_000
    assert max(map(len, long)) <= 16 * 1024


def test_loopback_tcp_takes_free_ports(launch, script) -> None:
    run = launch("--tcp", "--writers", 0, script("print(os.environ['COORDINATOR_URL'])\n"))
    assert run.wait() == 0, run.story()
    assert "[worker-0] tcp://127.0.0.1:" in run.out


def test_a_killed_worker_is_started_again_and_the_job_ends_well(launch, script) -> None:
    path = script("if name == 'worker-1' and lives < 2: os.kill(os.getpid(), 9)\n")
    run = launch("-n", 2, "--writers", 0, path)
    assert run.wait() == 0, run.story()
    assert run.out.count("[worker-1] life ") == 3
    assert run.out.count("[worker-0] life ") == 1
    assert "worker-1 was killed by SIGKILL; restarting it (2 more restarts allowed)" in run.err
    assert "2 restarts" in run.err


@pytest.mark.parametrize(("death", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_a_worker_lost_beyond_the_limit_fails_the_job_with_its_code(launch, script, death, code) -> None:
    path = script(f"if name == 'worker-0': {death}\ntime.sleep(60)\n")
    run = launch("-n", 2, "--writers", 0, "--max-restarts", 1, path)
    assert run.wait() == code, run.story()
    assert run.out.count("[worker-0] life ") == 2
    assert f"exit code {code}" in run.err
    assert run.leftovers() == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_reaches_the_workers_and_their_children_and_ends_the_job(
    launch, script, eventually, signum, code
) -> None:
    heard = "INT" if signum == signal.SIGINT else "TERM"
    path = script(
        "import signal, subprocess\n"
        "def hear(signum, frame):\n    print('heard', signal.Signals(signum).name)\n    sys.exit(0)\n"
        f"signal.signal(signal.SIG{heard}, hear)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('ready')\n"
        "child.wait()\ntime.sleep(60)\n"
    )
    run = launch("-n", 2, "--writers", 0, path)
    eventually(lambda: run.out.count("ready") == 2, message=run)
    os.kill(run.pid, signum)
    assert run.wait() == code, run.story()
    assert run.out.count(f"heard SIG{heard}") == 2
    eventually(lambda: run.leftovers() == [])


def test_a_worker_that_ignores_ctrl_c_is_terminated_and_then_killed(launch, script, eventually) -> None:
    path = script(
        "import signal\n"
        "for signum in (signal.SIGINT, signal.SIGTERM): signal.signal(signum, signal.SIG_IGN)\n"
        "print('ready')\n" + WAIT
    )
    run = launch("--writers", 0, "--grace", 0.2, path)
    eventually(lambda: "ready" in run.out, message=run)
    os.kill(run.pid, signal.SIGINT)
    assert run.wait() == 130, run.story()
    assert "worker-0 still running: sending SIGTERM" in run.err
    assert "worker-0 still running: sending SIGKILL" in run.err
    assert run.leftovers() == []


def test_the_second_ctrl_c_does_not_wait(launch, script, eventually) -> None:
    path = script("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready')\n" + WAIT)
    run = launch("-n", 2, "--writers", 0, "--grace", 600, path)
    eventually(lambda: run.out.count("ready") == 2, message=run)
    os.kill(run.pid, signal.SIGINT)
    eventually(lambda: "SIGINT received" in run.err)
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(20) == 130, run.story()
    assert run.leftovers() == []


def test_a_run_folder_keeps_journal_and_logs_and_a_later_run_goes_on_with_them(launch, script, tmp_path) -> None:
    path = script("print('a line')\n")
    folder = tmp_path / "kept"
    for runs in (1, 2):
        run = launch("--run-dir", folder, "--writers", 0, path)
        assert run.wait() == 0, run.story()
        assert (folder / "logs" / "worker-0.log").read_text().count("a line\n") == runs
        assert f"term {runs}," in run.err
    assert run.leftovers() == []


def test_two_runs_do_not_share_a_run_folder(launch, script, tmp_path, eventually) -> None:
    first = launch("--run-dir", tmp_path / "kept", "--writers", 0, script(WAIT))
    eventually(lambda: "life 0" in first.out, message=first)
    second = launch("--run-dir", tmp_path / "kept", "--writers", 0, script(""))
    assert second.wait() == 1
    assert f"is in use by process {first.pid}" in second.err
    assert second.err.count("\n") == 1
    os.kill(first.pid, signal.SIGINT)
    assert first.wait() == 130


def test_what_a_worker_leaves_in_its_group_ends_with_it(launch, script, eventually) -> None:
    path = script(
        "import subprocess\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('left one behind')\n"
    )
    run = launch("--writers", 0, path)
    assert run.wait(20) == 0, run.story()
    eventually(lambda: run.leftovers() == [])
