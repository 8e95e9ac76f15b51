"""What a person sees: a live view on a terminal, plain lines elsewhere; and readers that stop never stop the end."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from strata_zmq.protocol.messages import CheckpointSummary, Status, WorkerRow
from strata_zmq.workers.launcher.progress import JobView, MemberView, line

ENDLESS = "while True: print('y' * 200)\n"


def _run(args: list[object], cwd, **streams) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "strata_zmq", "run", *map(str, args)]
    return subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, start_new_session=True, **streams)


def _read(fd: int, until: bytes, timeout_s: float = 30.0) -> bytes:
    """Read from `fd` until `until` was seen or everybody has closed it."""
    seen, deadline = b"", time.monotonic() + timeout_s
    while until not in seen:
        assert select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0], seen[-2000:]
        try:
            data = os.read(fd, 65536)
        except OSError:  # a terminal whose other end is closed
            break
        if not data:
            break
        seen += data
    return seen


def test_a_terminal_gets_a_live_view_with_the_log_lines_above_it(script, tmp_path) -> None:
    path = script("for step in range(20): print('step', step); time.sleep(0.1)\n")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    streams = {"stdout": theirs, "stderr": theirs, "env": os.environ | {"TERM": "xterm-256color"}}
    process = _run(["-n", 2, "--writers", 0, path], tmp_path, **streams)
    os.close(theirs)
    seen = _read(ours, b"workers finished")
    seen += _read(ours, b"\0")
    os.close(ours)
    assert process.wait(20) == 0
    text = seen.decode()
    assert text.count("[worker-1] step ") == 20
    assert "2/2 workers up" in text
    assert "restarts" in text  # the table's head
    assert "\x1b[1A" in text  # the view is drawn over, not again and again
    assert "all 2 workers finished in" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_a_terminal_that_is_closed_costs_its_lines_and_not_the_job(script, tmp_path) -> None:
    path = script("for step in range(4000): print('s' * 2000)\nopen('trained', 'w').close()\n")
    ours, theirs = pty.openpty()
    process = _run(["--writers", 0, path], tmp_path, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    _read(ours, b"ssss")
    os.close(ours)
    assert process.wait(30) == 0
    assert (tmp_path / "trained").exists()


def test_elsewhere_there_are_plain_lines_without_escape_codes(launch, script) -> None:
    run = launch("-n", 2, "--writers", 0, "--progress-interval", "0.2", script("time.sleep(1.5)\n"))
    assert run.wait() == 0, run.story()
    assert "[strata] " in run.err
    assert "running, 2/2 workers up" in run.err
    assert "[strata] on a terminal: strata status --watch --coordinator ipc:///" in run.err
    assert "epoch 0 · generation 0" in run.err  # from the coordinator's snapshot
    assert "\x1b" not in run.err + run.out


def test_progress_off_says_nothing_but_the_summary(launch, script) -> None:
    run = launch("--writers", 0, "--progress", "off", "--progress-interval", "0.1", script("time.sleep(0.5)\n"))
    assert run.wait() == 0, run.story()
    lines = [text for text in run.err.splitlines() if text.startswith("[strata]")]
    assert len(lines) == 1
    assert "all 1 workers finished" in lines[0]


def _written(pid: int) -> int:
    """Bytes that a process has written so far."""
    counters = dict(text.split(": ") for text in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["wchar"])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_reader_that_stops_reading_holds_the_workers_but_not_the_end(script, tmp_path, eventually, signum) -> None:
    process = _run(
        ["--writers", 0, "--grace", 1, script(ENDLESS)], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    worker = int(_read(process.stdout.fileno(), b"yyyy").split(b" pid ")[1].split()[0])
    # With everything between full, the worker's own writes stop: what waits in the supervisor is bounded.
    eventually(lambda: _written(worker) == (time.sleep(0.3), _written(worker))[1], 30)
    assert 60_000 < _written(worker) < 20_000_000
    process.send_signal(signum)
    assert process.wait(30) == (130 if signum == signal.SIGINT else -9)
    process.stdout.close()
    process.stderr.close()


def test_a_slow_reader_gets_every_line_in_order(script, tmp_path) -> None:
    count = 60_000  # about 12 MB: three times what may wait
    path = script(f"for number in range({count}): print(number, 'z' * 190)\n")
    process = _run(["--writers", 0, path], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    numbers = [int(text.split()[1]) for text in process.stdout if b"life" not in text]
    assert numbers == list(range(count))
    process.stdout.close()
    assert process.wait(30) == 0


def test_a_reader_that_leaves_costs_its_lines_and_not_the_job(script, tmp_path) -> None:
    path = script(
        "for step in range(4000): print('s' * 2000)  # 8 MB, more than may wait\nopen('trained', 'w').close()\n"
    )
    process = _run(["--writers", 0, path], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 0
    assert (tmp_path / "trained").exists()


def _status() -> Status:
    rows = [
        WorkerRow(
            worker_id=f"worker-{rank}",
            rank=rank,
            state="TRAINING",
            step=100 + rank,
            epoch=1,
            hostname="here",
            pid=1,
            heard_s=0.1,
            gpu_count=0,
        )
        for rank in range(2)
    ]
    kept = [CheckpointSummary("c1", 50, 0, 10, 1.0), CheckpointSummary("c2", 90, 1, 10, 2.0)]
    return Status(
        epoch=1,
        generation=3,
        commit_index=100,
        need=2,
        workers=rows,
        checkpoints=kept,
        barriers=[{"name": "step", "step": 101, "arrived": 1, "total": 2, "missing": ["worker-1"]}],
        counters={},
        barrier_wait_ms={},
        writers=[],
        datasets=[],
        certificates=[],
        rebalances=[],
        open_checkpoints=[],
    )


def test_the_line_tells_states_steps_history_checkpoints_and_who_is_waited_for() -> None:
    members = tuple(MemberView(f"worker-{rank}", "worker", "up", 7, rank) for rank in range(2))
    text = line(JobView(12.4, "running", members, _status(), 0.2))
    assert text == (
        "12 s · running, 2/2 workers up · TRAINING 2 · step 100-101 · epoch 1 · generation 3 · "
        "2 checkpoints, newest of step 90 · barrier step 1/2, missing worker-1 · 1 restart"
    )


def test_the_line_says_when_the_coordinator_is_silent_and_never_invents_figures() -> None:
    members = (MemberView("worker-0", "worker", "up", 7, 0),)
    text = line(JobView(9.0, "running", members, None, 0.0))
    assert text == "9 s · running, 1/1 workers up · the coordinator has not answered for 9 s"
