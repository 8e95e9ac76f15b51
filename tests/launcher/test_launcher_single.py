"""One process at a time: `strata coordinator`, `worker`, `status`, and the scripts that start them from a checkout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strata_zmq.protocol import messages as wire
from strata_zmq.workers.client import CoordinatorClient

ROOT = Path(__file__).parents[2]
STRATA = [sys.executable, "-m", "strata_zmq"]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*command, **popen)` starts a process in tmp_path; it is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def popen(*command: object, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def coordinator(start: Start) -> str:
    """The endpoint of a coordinator started by its script on a free port."""
    reading, writing = os.pipe()
    start(
        ROOT / "scripts/start_coordinator",
        *("--control", "tcp://127.0.0.1:0", "--broadcast", "tcp://127.0.0.1:0", "--ready-fd", writing),
        pass_fds=[writing],
    )
    os.close(writing)
    with os.fdopen(reading) as ready:
        return str(json.loads(ready.readline())["control"])


def _status(url: str) -> dict[str, object]:
    command = [*STRATA, "status", "--coordinator-url", url, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return dict(json.loads(done.stdout))


def test_a_worker_without_a_script_registers_heartbeats_and_leaves_when_interrupted(
    start: Start, coordinator: str, eventually
) -> None:
    worker = start(
        *(ROOT / "scripts/start_worker", "--coordinator-url", coordinator.removeprefix("tcp://")),
        *("--worker-id", "by-hand"),
    )
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("by-hand is registered at 127.0.0.1:")

    def rows() -> list[tuple[str, int, str]]:
        workers = _status(coordinator)["workers"]
        assert isinstance(workers, list)
        return [(row["worker_id"], row["pid"], row["state"]) for row in workers]

    # Its first heartbeat, within a second, says so.
    eventually(lambda: rows() == [("by-hand", worker.pid, "IDLE")])
    table = subprocess.run(
        [*STRATA, "status"],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"COORDINATOR_URL": coordinator},
    ).stdout
    assert "by-hand" in table
    assert "job default" in table
    worker.send_signal(signal.SIGINT)
    assert worker.wait(20) == 0
    eventually(lambda: _status(coordinator)["workers"] == [])


def test_a_worker_with_a_script_becomes_the_script(start: Start, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import os, sys\n"
        "print(os.getpid(), os.environ['WORKER_ID'], os.environ['COORDINATOR_URL'], *sys.argv[1:])\nsys.exit(5)\n"
    )
    worker = start(*STRATA, "worker", "--worker-id", "w", "--coordinator-url", "host:1", "train.py", "--lr", "1")
    out, err = worker.communicate(timeout=30)
    assert (worker.returncode, out) == (5, f"{worker.pid} w host:1 --lr 1\n"), err


def test_what_a_worker_says_of_itself_does_nothing_to_the_terminal(coordinator: str) -> None:
    told = wire.RegisterWorker(worker_id="one", incarnation="1", hostname="\x1b[31mred\n[bold]")
    with CoordinatorClient(coordinator, role="worker", introduce=lambda: told).connect(30.0):
        table = subprocess.run(
            [*STRATA, "status", "--coordinator-url", coordinator],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=os.environ | {"COLUMNS": "200"},
        )
    assert "\\x1b[31mred\\n[bold]" in table.stdout
    assert "\x1b" not in table.stdout


@pytest.mark.parametrize("command", [["worker", "--timeout", "0.3"], ["status", "--timeout", "0.3"]])
def test_nobody_at_the_address_is_one_line_that_says_what_to_do(start: Start, command: list[str]) -> None:
    process = start(*STRATA, *command, "--coordinator-url", "127.0.0.1:9")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert "strata: no coordinator answers at tcp://127.0.0.1:9 within 0.3 s" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["start_coordinator", "start_worker", "start_storage_writer"])
def test_the_scripts_hand_their_arguments_on(start: Start, name: str) -> None:
    script = ROOT / "scripts" / name
    assert os.access(script, os.X_OK)
    process = start(script, "--help")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "--help" in out


@pytest.mark.parametrize("command", ["stop", "drain"])
def test_a_worker_without_a_script_leaves_when_it_is_told_to(start: Start, eventually, command: str) -> None:
    token = os.environ | {"STRATA_SUPERVISOR_TOKEN": "a test's"}
    reading, writing = os.pipe()
    start(
        ROOT / "scripts/start_coordinator",
        *("--control", "tcp://127.0.0.1:0", "--broadcast", "tcp://127.0.0.1:0", "--ready-fd", writing),
        *("--lease-s", 3),  # a worker that does nothing hears of commands with its heartbeats
        pass_fds=[writing],
        env=token,
    )
    os.close(writing)
    with os.fdopen(reading) as ready:
        url = str(json.loads(ready.readline())["control"])
    worker = start(*STRATA, "worker", "--coordinator", url, "--worker-id", "by-hand")
    eventually(lambda: _status(url)["have"] == 1)
    subprocess.run([*STRATA, "command", command, "--coordinator", url], env=token, timeout=30, check=True)
    assert worker.wait(20) == 0
    assert _status(url)["workers"] == _status(url)["lost"] == []
