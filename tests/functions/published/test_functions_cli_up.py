"""`strata functions up` keeps a service alive while it runs, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from publishedkit import Published, pack_call
from publishedkit.service import Service

from strata_zmq.cli import main


def double(x):
    return 2 * x


@pytest.fixture
def up(tmp_path):
    """`up(mode="push", *options)` starts a service with two workers, and ends it after the test."""
    made = []

    def start(mode="push", *options):
        made.append(Service(tmp_path, mode, 2, *options))
        return made[-1]

    yield start
    for service in made:
        service.stop()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("push-worker 2", "Missing argument 'URL'. (strata functions push-worker --help)"),
        ("up -w many", "unable to parse string as an integer (strata functions up --help)"),
    ],
)
def test_a_wrong_line_is_told_whose_help_to_read(capsys, line, told) -> None:
    assert main(["functions", *line.split()]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("member", ["dispatcher", "function_worker", "coordinator.api"])
def test_whoever_is_killed_is_started_again_at_the_same_address(up, eventually, member) -> None:
    service = up()
    function_id = service.client.register(double)
    before = service.pid_of(member)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: back(service, member, before), 30)
    fresh = Published(service.url)
    assert fresh.wait(fresh.execute(function_id, 21)) == ("COMPLETED", 42)
    assert "starting it again" in service.process.log.read_text()
    fresh.close()


def back(service, member, before):
    """Whether another process has taken the place, and the service answers with its workers."""
    names = " ".join(command for pid, command in service.members().items() if pid != before)
    if member not in names:
        return False
    try:
        with Published(service.url).http as http:
            return http.get("/health").json().get("slots") == 2
    except OSError:
        return False
    except Exception as error:
        if type(error).__module__.startswith("httpx"):
            return False
        raise


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_it_is_told_to_and_everything_ends_with_it(tmp_path, signum) -> None:
    service = Service(tmp_path, "push", 2)
    members = service.members()
    service.client.close()
    service.process.signal(signum)
    assert service.process.wait() == 0
    assert not [pid for pid in members if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in service.process.log.read_text()


def test_a_task_that_runs_is_completed_before_the_end(tmp_path, eventually) -> None:
    """The worker gets its grace, and the answer can still be read: HTTP goes last."""
    service = Service(tmp_path, "push", 2)
    task_id = service.client.execute(service.client.register(linger), str(tmp_path / "gate"))
    eventually(lambda: service.client.status(task_id) == "RUNNING")
    service.process.signal(signal.SIGTERM)
    (tmp_path / "gate").touch()
    assert service.process.wait() == 0  # not `stop`: told twice, it ends at once
    service.client.close()
    again = Service(tmp_path, "push", 2)
    try:
        assert again.client.wait(task_id) == ("COMPLETED", "through")
    finally:
        again.stop()


def test_told_twice_it_does_not_wait_for_what_runs(tmp_path, eventually) -> None:
    service = Service(tmp_path, "push", 1, "--grace", "3600")
    task_id = service.client.execute(service.client.register(linger), str(tmp_path / "never"))
    eventually(lambda: service.client.status(task_id) == "RUNNING")
    members = service.members()
    service.client.close()
    service.process.signal(signal.SIGTERM)
    service.process.signal(signal.SIGINT)  # another one: two of a kind may arrive as one
    assert service.process.wait() == 0
    assert not [pid for pid in members if Path(f"/proc/{pid}").exists()]


def linger(gate):
    """Return once the file is there."""
    import pathlib
    import time

    while not pathlib.Path(gate).exists():
        time.sleep(0.005)
    return "through"


def test_killed_it_leaves_nothing_behind(tmp_path, eventually) -> None:
    service = Service(tmp_path, "push", 2)
    members = service.members()
    service.client.close()
    service.process.kill()
    eventually(lambda: not [pid for pid in members if running(pid)])


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_who_cannot_be_kept_alive_ends_it_with_1(eventually, tmp_path) -> None:
    service = Service(tmp_path, "local", 1)
    service.client.close()
    for _ in range(4):
        before = eventually(lambda: [pid for pid, name in service.members().items() if "coordinator.api" in name])
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda before=before: before[0] not in service.members(), 20)
    assert service.process.wait() == 1
    assert "for the 4th time within 60 s" in service.process.log.read_text()


def test_a_port_that_is_taken_ends_it_with_1_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [
                *(sys.executable, "-m", "strata_zmq", "functions", "up", "-p", "0"),
                "--api-port",
                port,
                "--store",
                "none",
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert f"--port {port} cannot be listened at" in done.stderr
    assert "api ended with 1 before it served" in done.stderr


@pytest.mark.parametrize("mode", ["local", "pull"])
def test_devices_are_dealt_out_by_the_label_gpu(up, mode) -> None:
    service = up(mode, "--gpus", "6,7")
    body = {"function_id": service.client.register(devices), "payload": pack_call(), "labels": {"gpu": 1}}
    told = [service.client.http.post("/execute_function", json=body).json()["task_id"] for _ in range(4)]
    assert {service.client.wait(task_id)[1] for task_id in told} <= {"6", "7"}
    assert service.client.call(devices) == ""


def devices():
    import os

    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_without_a_store_tasks_that_name_no_durability_are_executed_too(tmp_path) -> None:
    service = Service(tmp_path, "local", 1, "--store", "none")
    try:
        assert service.client.call(double, 21) == 42
    finally:
        service.stop()
    assert not list(tmp_path.glob("*.sqlite"))


@pytest.mark.parametrize(
    ("options", "said"),
    [(("-w", "0"), "workers is 0"), (("-m", "sideways"), "sideways"), (("--grace", "-1"), "grace_s is -1")],
)
def test_a_mistake_is_one_line_and_code_2(options, said) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "strata_zmq", "functions", "up", *options], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
