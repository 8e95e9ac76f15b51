"""The API is a process of its own: it comes and goes with whoever started it, and its end costs a job nothing."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from processkit.coordinator import Coordinator
from processkit.patience import until
from processkit.served import Served

from strata_zmq.coordinator.api_child import RESTARTS_MAX, ApiChild

API = "strata_zmq.coordinator.api.state"
ADDRESS = re.compile(r"dashboard at (http://127\.0\.0\.1:\d+)")


def get(url: str, path: str) -> Any:
    with urlopen(f"{url}{path}", timeout=10) as answer:  # noqa: S310 - our own server
        return json.load(answer)


def children(pid: int) -> dict[int, str]:
    """Every process whose parent is `pid`: pid -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"\nPPid:\t{pid}\n" in (entry / "status").read_text():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


@contextmanager
def coordinator(folder: Path, api_port: str, *options: str) -> Iterator[Coordinator]:
    running = Coordinator(folder, *options, env={"STRATA_API_PORT": api_port}).start()
    try:
        yield running
    finally:
        running.stop()


def addresses(log: Path) -> list[str]:
    return ADDRESS.findall(log.read_text())


def test_a_coordinator_has_an_api_that_dies_and_comes_back_and_goes_with_it(run_dir: Path) -> None:
    """One life of it for all: an API takes seconds to start."""
    with coordinator(run_dir, "0", "--job", "digits") as running:
        (first,) = until(lambda: addresses(running.log), 30)
        until(lambda: get(first, "/api/health")["status"] == "ok")
        assert get(first, "/api/status")["job"] == "digits"
        settings = {row["name"]: row for row in get(first, "/api/settings") if row["process"] == "coordinator"}
        assert settings["job"] == {"process": "coordinator", "name": "job", "value": "digits", "source": "option"}
        assert settings["lease_s"]["source"] == "default"
        (api,) = children(running.pid)
        os.kill(api, signal.SIGKILL)
        second = until(lambda: addresses(running.log)[1:], 30)[0]
        until(lambda: get(second, "/api/health")["status"] == "ok")
        assert running.status().job == "digits"
        (api,) = children(running.pid)
        os.kill(api, signal.SIGSTOP)
        running.kill()
        until(lambda: not is_running(api), message="the API outlived a coordinator that was killed")


def test_with_none_a_coordinator_starts_no_process(run_dir: Path) -> None:
    with coordinator(run_dir, "none") as running:
        assert running.status().workers == []
        assert children(running.pid) == {}


def test_a_port_that_is_taken_costs_the_dashboard_and_says_so_once(run_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with coordinator(run_dir, port) as running:
            said = "the API ended with status 2; the job goes on without a dashboard"
            until(lambda: said in running.log.read_text(), 30)
            assert f"--port {port} cannot be listened at" in running.log.read_text()
            assert "name another port, or 0 for a free one" in running.log.read_text()
            assert running.status().workers == []
            assert children(running.pid) == {}


def test_a_word_that_is_no_port_is_refused_at_once(run_dir: Path) -> None:
    command = [sys.executable, "-m", "strata_zmq.coordinator", "--journal", str(run_dir / "j"), "--api-port", "http"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "--api-port (STRATA_API_PORT) is 'http': it takes 1 to 65535, 0 for a free one, or none" in done.stderr


def test_two_take_ports_of_their_own_and_one_ends_with_the_process_that_it_was_told_of(tmp_path: Path) -> None:
    """The usual port may be another's on this machine: whoever does not have it says so."""
    other = subprocess.Popen(["sleep", "600"])
    two: list[Served] = []
    try:
        nobody = ("--coordinator", f"ipc://{tmp_path}/no")
        two = [Served(tmp_path / f"{n}.log", API, *nobody, "--parent", str(other.pid)) for n in range(2)]
        ports = [int(one.told["url"].rpartition(":")[2]) for one in two]
        assert ports[0] != ports[1]
        assert all(3000 <= port <= 3020 for port in ports)
        assert [one.told["note"] for one in two] == ["" if port == 3000 else "3000 is taken" for port in ports]
        health = get(two[0].told["url"], "/api/health")
        assert (health["status"], health["clients"]) == ("waiting", 0)
        other.kill()
        other.wait()
        assert [one.process.wait(20) for one in two] == [0, 0]
    finally:
        other.kill()
        other.wait()
        for one in two:
            one.stop()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "would show this job to anybody"),  # noqa: S104 - it is refused
        (["--coordinator", ""], "name one, there is nothing to show"),
        (["--port", "70000"], "it takes 1 to 65535"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_status_2(options: list[str], told: str) -> None:
    done = subprocess.run([sys.executable, "-m", API, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.startswith("error: ")


def test_a_child_that_always_fails_is_started_a_few_times_and_then_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = tmp_path / "lives"
    code = f"open({str(told)!r}, 'a').write('x'); raise SystemExit(1)"
    with caplog.at_level(logging.WARNING, "strata.coordinator"):
        with ApiChild([sys.executable, "-I", "-S", "-c", code], wait_s=0.01):
            until(lambda: "goes on without" in caplog.text)
    assert told.read_text() == "x" * (RESTARTS_MAX + 1)
    assert "the API ended with status 1 after 3 restarts; the job goes on without a dashboard" in caplog.text


def test_a_child_that_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w'); signal.pause()"
    with ApiChild([sys.executable, "-I", "-S", "-c", code]):
        until(ready.exists)


def test_a_child_that_cannot_be_started_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "strata.coordinator"):
        with ApiChild(["/nowhere/python"]):
            until(lambda: "goes on without" in caplog.text)
