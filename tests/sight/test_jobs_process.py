"""docs/jobs.md, with a real coordinator, a real API and real agents: jobs join the run that is shown."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processkit.coordinator import Coordinator
from processkit.patience import until
from processkit.served import Served

from strata_zmq.coordinator.api.state.job_keeper import started_of

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
TOKEN = "the supervisor's"  # noqa: S105 - of a test


def block(kind: str) -> str:
    """The page's block of that kind."""
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


class Site:
    """A coordinator, a list of jobs, and an API that can be killed and started again."""

    def __init__(self, folder: Path, coordinator: Coordinator) -> None:
        self.folder = folder
        self.coordinator = coordinator
        self.list = folder / "jobs.toml"
        self.list.write_text(block("toml"))
        (folder / "train.py").write_text(block("python"))

    def start(self) -> Served:
        """Start an API; another takes its place when it is started again."""
        self.api = Served(
            self.folder / "api.log",
            *("strata_zmq.coordinator.api.state", "--coordinator", self.coordinator.url),
            *("--port", "0", "--jobs", str(self.list)),
            env={"STRATA_SUPERVISOR_TOKEN": TOKEN},
        )
        return self.api

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own
            self.api.told["url"] + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def begin(self, **fields: Any) -> str:
        status, told = self.ask("/api/jobs", {**json.loads(block("json")), **fields})
        assert status == 201, told
        task_id: str = told["task_id"]
        return task_id

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = next(row for row in self.ask("/api/jobs")[1] if row["id"] == job_id)
        return found

    def workers(self) -> set[str]:
        return {row["id"] for row in self.ask("/api/workers")[1] if row["status"] != "failed"}

    def until_status(self, job_id: str, status: str) -> dict[str, Any]:
        return until(lambda: (row := self.job(job_id))["status"] == status and row, message=job_id)  # type: ignore[return-value]

    def end(self) -> None:
        """End the API and every job, however they stand."""
        if self.api.process.poll() is None:
            self.api.kill()
        for path in (self.folder / "strata-jobs").glob("*/keeper.json"):
            keeper = json.loads(path.read_text())
            pid, started = keeper["pid"], keeper["started"]
            if started_of(pid) == started:
                os.kill(pid, signal.SIGTERM)
                until(lambda pid=pid, started=started: started_of(pid) != started)  # type: ignore[misc]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("jobs")
    folder.chmod(0o700)
    started = Coordinator(folder, "--lease-s", "3", env={"STRATA_SUPERVISOR_TOKEN": TOKEN}).start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def site(tmp_path: Path, coordinator: Coordinator) -> Iterator[Site]:
    made = Site(tmp_path, coordinator)
    made.start()
    try:
        yield made
    finally:
        made.end()


def test_a_jobs_workers_join_the_run_that_is_shown_and_outlive_an_api_that_is_killed(site: Site) -> None:
    job_id = site.begin()
    row = site.until_status(job_id, "running")
    assert (row["type"], row["worker_count"], row["config"]) == ("mean", 2, {"epochs": 100000})
    until(lambda: site.workers() >= {f"{job_id}-0", f"{job_id}-1"})

    def said() -> list[str]:
        lines = site.ask(f"/api/tasks/{job_id}/logs?source={job_id}-0")[1]["lines"]
        return [line["message"] for line in lines]

    until(lambda: said() == ["first trains 100000 epochs"])
    templates = site.ask("/api/dashboard")[1]["templates"]
    assert templates[0]["parameters"] == {"epochs": "int from 1 to 100000, default 3"}

    before = site.job(job_id)
    site.api.kill()
    site.start()
    assert site.job(job_id) == before
    until(lambda: site.workers() >= {f"{job_id}-0"})
    assert said() == ["first trains 100000 epochs"]
    status, told = site.ask(f"/api/jobs/{job_id}/stop", {})
    assert (status, told["task_id"]) == (200, job_id)
    ended = site.until_status(job_id, "stopped")
    assert ended["ended_at"] >= ended["started_at"]
    until(lambda: not site.workers())
    assert site.ask(f"/api/jobs/{job_id}/stop", {})[0] == 409


def test_the_coordinators_own_run_is_stopped_on_its_token_at_a_commit_point(site: Site) -> None:
    job_id = site.begin(name="second", worker_count=1)
    until(lambda: site.workers() >= {f"{job_id}-0"})
    (own,) = [row for row in site.ask("/api/jobs")[1] if row["origin"] == "coordinator"]
    assert own["stoppable"] is True
    assert site.ask(f"/api/jobs/{own['id']}/stop", {})[0] == 200
    site.until_status(job_id, "completed")
    site.api.signal(signal.SIGTERM)
    assert site.api.wait() == 0
    assert f"job {job_id} is started" in site.api.log.read_text()


def test_what_is_not_in_the_list_is_refused_and_says_what_is(site: Site) -> None:
    for fields, status, detail in (
        ({"type": "shell"}, 404, "there is mean"),
        ({"config": {"epochs": "3; ls"}}, 400, "config.epochs"),
        ({"config": {"path": "/"}}, 400, "mean takes epochs"),
        ({"worker_count": 5}, 400, "mean takes 1 to 4"),
        ({"name": "-x"}, 422, "name"),
        ({"name": "x\n"}, 400, "name is"),
        ({"program": "/bin/sh"}, 422, "program"),
    ):
        found, told = site.ask("/api/jobs", {**json.loads(block("json")), **fields})
        assert (found, detail in str(told["detail"])) == (status, True), told
    assert [row["origin"] for row in site.ask("/api/jobs")[1]] in ([], ["coordinator"])


def test_a_list_with_a_mistake_ends_the_api_at_once(tmp_path: Path) -> None:
    path = tmp_path / "jobs.toml"
    path.write_text("[jobs.a]\nshell = 'ls'\n")
    told = subprocess.run(
        [sys.executable, "-m", "strata_zmq", "api", "--port", "0", "--jobs", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 2
    assert "jobs.a has 'shell'" in told.stderr
