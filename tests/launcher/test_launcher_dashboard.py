"""A run has a dashboard that comes with its workers, goes with them, and is never waited for."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from processkit.patience import until

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.workers.launcher.job import Effect, Finish, Job, Limits, Phase, Say, Signal, Spawn
from strata_zmq.workers.launcher.logs import LogFiles
from strata_zmq.workers.launcher.options import RunOptions

ADDRESS = re.compile(r"\[strata\] dashboard at (http://127\.0\.0\.1:\d+)")
WAITS = """
print("hello from", name, flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
"""


def get(url: str, path: str) -> Any:
    with urlopen(f"{url}{path}", timeout=10) as answer:  # noqa: S310 - our own server
        return json.load(answer)


def started(api_restarts: int = 3) -> tuple[Job, list[Effect]]:
    """Return a job of two workers whose services are up, and what its start of the workers' stage was."""
    job = Job(workers=2, writers=1, api=True, limits=Limits(service_restarts=api_restarts))
    job.begin(0.0)
    job.ready("coordinator", 0.1)
    return job, job.ready("writer-0", 0.2)


def said(effects: list[Effect]) -> str:
    return " / ".join(effect.text for effect in effects if isinstance(effect, Say))


def test_the_api_starts_behind_the_workers_and_nobody_waits_for_it() -> None:
    job, effects = started()
    assert effects == [Spawn("worker-0", 0), Spawn("worker-1", 0), Spawn("api", 0)]
    assert job.phase is Phase.RUNNING
    job.exited("worker-0", 0, 1.0)
    assert job.exited("worker-1", 0, 1.0)[-1] == Signal("api", signal.SIGTERM)
    assert job.exited("api", 0, 1.2) == [Signal("writer-0", signal.SIGTERM)]
    job.exited("writer-0", 0, 1.3)
    assert job.exited("coordinator", 0, 1.4) == [Finish(0, "all 2 workers finished")]


def test_an_api_that_dies_comes_back_three_times_and_the_job_goes_on_without_it() -> None:
    job, _ = started()
    now = 1.0
    for restarts, wait_s in enumerate((0.5, 1.0, 2.0)):
        job.ready("api", now)
        assert said(job.exited("api", -9, now)) == f"the api was killed by SIGKILL; restarting it in {wait_s:g} s"
        assert job.tick(now + wait_s - 0.1) == []
        now += wait_s
        assert job.tick(now) == [Spawn("api", restarts + 1)]
    left = job.exited("api", -9, now)
    assert said(left) == "the api was killed by SIGKILL after 3 restarts; the job goes on without a dashboard"
    assert job.next_deadline() is None
    assert job.phase is Phase.RUNNING


def test_what_cannot_be_served_as_it_was_asked_for_is_not_tried_again() -> None:
    job, _ = started()
    text = "the api exited with code 2; its log lines above say why; the job goes on without a dashboard"
    assert said(job.exited("api", 2, 1.0)) == text
    assert job.next_deadline() is None


def test_an_api_that_is_not_ready_in_time_or_does_not_end_is_killed() -> None:
    job, _ = started()
    assert job.tick(31.0) == [Signal("api", signal.SIGKILL)]
    assert said(job.exited("api", -9, 31.0)) == "the api was not ready within 30 s; restarting it in 0.5 s"
    job.tick(31.5)
    job.ready("api", 32.0)
    effects = job.interrupted(signal.SIGINT, 40.0)
    assert Signal("api", signal.SIGTERM) in effects
    assert Signal("worker-0", signal.SIGINT) not in effects
    assert Signal("api", signal.SIGKILL) in job.tick(43.0)
    assert Signal("worker-0", signal.SIGINT) in job.exited("api", -9, 43.1)


def test_a_log_that_nobody_keeps_begins_anew_where_it_would_grow_too_long(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path, bytes_max=100)
    for number in range(40):
        logs.write("worker-0", b"line %02d!\n" % number)
        assert (tmp_path / "worker-0.log").stat().st_size <= 100
    logs.close()
    assert (tmp_path / "worker-0.log").read_bytes().endswith(b"line 39!\n")


def test_a_word_that_is_no_port_is_a_mistake_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "x.py").touch()
    with pytest.raises(InvalidArgumentError, match=r"--api-port .* is '80 80': it takes 1 to 65535"):
        RunOptions(str(tmp_path / "x.py"), api_port="80 80")


@pytest.fixture
def run(launch: Callable[..., Any], script: Callable[[str], Path]) -> Callable[..., Any]:
    return lambda *options, **env: launch(
        *("-n", "1", "--writers", "0", "--no-agent", "--progress", "off", *options, script(WAITS)), **env
    )


def test_a_run_shows_its_dashboard_with_all_logs_and_both_end_at_once(run: Callable[..., Any], tmp_path: Path) -> None:
    """One run for all: an API takes seconds to start."""
    job = run("--api-port", "0")
    (first,) = until(lambda: ADDRESS.findall(job.err), 40, job)

    def lines() -> dict[str, str]:
        return {f"{line['source']}: {line['message']}": line["level"] for line in get(first, "/api/logs")["lines"]}

    until(lambda: "worker-0: hello from worker-0" in lines() and any(one.startswith("coord") for one in lines()), 20)
    found = get(first, "/api/logs?source=coordinator&search=serving+job")["lines"][0]
    assert found["fields"]["logger"] == "strata.coordinator"
    assert re.search(r"\[coordinator\] \d{4}-\d\d-\d\d .* INFO strata\.coordinator: serving job train,", job.err)
    os.kill(job.pid_of("coordinator.api.state"), signal.SIGKILL)
    second = until(lambda: ADDRESS.findall(job.err)[1:], 40, job)[0]
    assert "the api was killed by SIGKILL; restarting it in 0.5 s" in job.err
    until(lambda: get(second, "/api/health")["status"] == "ok", 20)
    host, port = second.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as reader:
        reader.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in reader.recv(1000)
        (tmp_path / "go").touch()
        assert job.wait() == 0, job
    assert "still running: sending SIGKILL" not in job.err
    assert job.leftovers() == []


def test_killed_with_its_supervisor_nothing_is_left_of_it(run: Callable[..., Any]) -> None:
    job = run("--api-port", "0")
    until(lambda: ADDRESS.findall(job.err), 40, job)
    job.process.kill()
    job.process.wait()
    until(lambda: job.leftovers() == [], 20, job)


def test_a_port_that_is_taken_costs_the_dashboard_and_not_the_job(run: Callable[..., Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        job = run(STRATA_API_PORT=str(taken.getsockname()[1]))
        until(lambda: "the job goes on without a dashboard" in job.err, 40, job)
        (tmp_path / "go").touch()
        assert job.wait() == 0, job
    assert "cannot be listened at" in job.err
    assert job.leftovers() == []
