"""A real job on the page: `strata run` with three workers, one of which is killed, and what is saved meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browserkit import VIEWS, Viewer, get, violations
from playwright.sync_api import expect
from processkit.patience import until

Look = Callable[..., Viewer]

PROGRAM = Path(__file__).parent / "programs" / "train_on.py"


@dataclass(frozen=True)
class Job:
    """A run and its page. `folder` is where its workers look whether they are held."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def workers(self) -> list[dict[str, Any]]:
        """The workers as the API has them."""
        return list(get(f"{self.url}/api/workers"))

    def worker(self, place: int) -> dict[str, Any]:
        """One of the workers, in the order of their names."""
        return sorted(self.workers(), key=lambda row: str(row["id"]))[place]


@pytest.fixture(scope="module")
def job(folder: Path) -> Iterator[Job]:
    """`strata run` with three workers, which save every few seconds."""
    told = folder / "run.log"
    command = ["run", "-n", "3", "--api-port", "0", "--policy", "every-seconds:3", "--progress", "off"]
    with told.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "strata_zmq", *command, "--run-dir", "run", str(PROGRAM), str(folder)],
            cwd=folder,
            env={**os.environ, "TMPDIR": "/tmp"},  # noqa: S108 - a socket's path has 107 bytes
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        found = until(lambda: re.search(r"dashboard at (http://\S+)", told.read_text()), 60, told)
        running = Job(found[1], folder, process)
        until(lambda: [row["state"] for row in running.workers()] == ["TRAINING"] * 3, 60, told.read_text)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(40)
        finally:
            process.kill()


def test_a_person_sees_at_a_glance_whether_the_job_is_healthy(look: Look, job: Job) -> None:
    viewer = look(job.url)
    page = viewer.open("/")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    health = page.get_by_role("list", name="Health")
    expect(health).to_contain_text("3 of 3 active")
    expect(health).to_contain_text(re.compile(r"Goodput[0-9.]+ %"))
    expect(health).to_contain_text(re.compile("Last durable checkpoint(now|[0-9]+ s ago)"))
    expect(page.get_by_text(re.compile("joins|joined")).first).to_be_visible()
    expect(page.get_by_text("Simulated data")).to_have_count(0)
    viewer.screenshot("job-overview")


def test_what_is_saved_appears_and_says_what_is_known_of_it(look: Look, job: Job) -> None:
    viewer = look(job.url)
    page = viewer.open("/checkpoints")
    shown = viewer.row("Checkpoints", "Durable").count()
    newest = get(f"{job.url}/api/checkpoints")[0]["step"]
    until(lambda: any(row["step"] > newest and row["status"] == "durable" for row in checkpoints(job)), 60)
    expect(viewer.row("Checkpoints", "Durable")).not_to_have_count(shown)
    viewer.row("Checkpoints", "Durable").first.click()
    drawer = viewer.drawer("Checkpoint of step")
    expect(drawer).to_contain_text(re.compile("[0-9.]+ MB"))
    expect(page).to_have_url(re.compile("/checkpoints/step-"))
    viewer.screenshot("job-checkpoint")


def checkpoints(job: Job) -> list[dict[str, Any]]:
    return list(get(f"{job.url}/api/checkpoints"))


def test_who_is_waited_for_at_a_barrier_is_named(look: Look, job: Job) -> None:
    late = job.worker(1)["id"]
    viewer = look(job.url)
    page = viewer.open("/barriers")
    expect(viewer.row("Ended barriers", "Committed").first).to_be_visible()
    hold = job.folder / f"hold.{late}"
    hold.touch()
    try:
        expect(page.get_by_role("list", name=re.compile("^Awaited at"))).to_contain_text(late)
        viewer.visit("Overview")
        expect(page.get_by_role("list", name="Awaited now")).to_contain_text(late)
        viewer.screenshot("job-late")
    finally:
        hold.unlink()
    expect(page.get_by_role("list", name="Awaited now")).to_have_count(0)


def test_a_killed_worker_is_shown_as_failed_and_is_back_when_it_was_restarted(look: Look, job: Job) -> None:
    victim = job.worker(2)
    viewer = look(job.url, scheme="dark")
    page = viewer.open(f"/workers/{victim['id']}")
    drawer = viewer.drawer(victim["id"])
    expect(drawer).to_contain_text(f"pid {victim['pid']}")
    os.kill(victim["pid"], signal.SIGKILL)
    expect(page.get_by_text(re.compile("^(Given up|.*was lost|.*is lost).*")).first).to_be_visible()
    until(lambda: job.worker(2)["pid"] not in (None, victim["pid"]), 60, "another process of that name")
    expect(drawer).to_contain_text(f"pid {job.worker(2)['pid']}")
    expect(viewer.row("Workers", victim["id"]).get_by_text("Training")).to_be_visible()
    viewer.visit("Activity")
    expect(
        viewer.row("Events, newest first", victim["id"]).filter(has_text=re.compile("lost", re.IGNORECASE)).first
    ).to_be_visible()
    viewer.visit("Timeline")
    viewer.screenshot("job-timeline")


def test_the_lines_of_all_processes_are_searched_and_filtered(look: Look, job: Job) -> None:
    viewer = look(job.url)
    page = viewer.open("/logs")
    lines = page.get_by_label("Log lines, oldest first")
    expect(lines.get_by_text(re.compile("step [0-9]+ of epoch")).first).to_be_visible()
    page.get_by_role("searchbox", name="Search messages").fill("of epoch")
    expect(lines.get_by_role("row").first).to_contain_text("of epoch")
    page.get_by_role("combobox", name="Process").select_option(job.worker(0)["id"])
    expect(lines.get_by_role("row").first).to_contain_text(job.worker(0)["id"])
    expect(lines.get_by_role("row").filter(has_text=job.worker(1)["id"])).to_have_count(0)


def test_each_setting_says_where_its_value_came_from(look: Look, job: Job) -> None:
    viewer = look(job.url)
    page = viewer.open("/settings")
    expect(viewer.row("Settings", "lease_s")).to_contain_text(re.compile("Option|Default|Environment|Derived"))
    page.get_by_role("radio", name="Default").check(force=True)
    expect(viewer.row("Settings", "Option")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave_on_the_views_of_a_real_job(look: Look, job: Job, scheme: str) -> None:
    viewer = look(job.url, scheme=scheme)
    viewer.open("/")
    found = {view: violations(viewer.visit(view)) for view in VIEWS}
    assert {view: said for view, said in found.items() if said} == {}
