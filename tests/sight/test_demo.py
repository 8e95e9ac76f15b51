"""`strata demo` is the whole API over a job that is not there: everything is shown, and said to be simulated."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from processkit.patience import until
from processkit.served import Served

from strata_zmq.coordinator.api.demo.incidents import CYCLE_S, TROUBLES
from strata_zmq.coordinator.api.demo.show import PAST_S, Demo, make_demo
from strata_zmq.coordinator.api.state.models import CreateJob, Dashboard
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, ResourceExhaustedError

NOW = 1_700_000_000.0


class Clock:
    """A time that a test lets pass."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        return self.at


class Shown:
    """A demo, looked at as often as its time is let pass."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.demo: Demo = make_demo(real=self.clock, **options)

    def look(self) -> Dashboard:
        return msgspec.json.decode(self.demo.hub.dashboard(), type=Dashboard)

    def let_pass(self, seconds: int) -> Dashboard:
        for _ in range(seconds):
            self.clock.at += 1.0
            for feed in self.demo.feeds:
                self.demo.hub.tell(feed.catch_up())
            self.demo.hub.tick()
        return self.look()


@pytest.fixture(scope="module")
def first() -> Shown:
    return Shown()


def test_the_first_look_has_three_workers_and_two_datasets_and_says_that_they_are_simulated(first: Shown) -> None:
    look = first.look()
    assert [worker.id for worker in look.workers] == ["worker-01", "worker-02", "worker-03"]
    assert len(look.datasets) == 2
    assert look.coordinator.simulated
    assert first.demo.hub.health().simulated


def test_the_first_look_has_something_in_every_list_but_the_hangs_which_come_and_go(first: Shown) -> None:
    told = json.loads(first.demo.hub.dashboard())
    assert [name for name, value in told.items() if value == []] == ["hangs"]
    assert {one.status for one in first.look().checkpoints} == {"durable", "aborted"}
    assert first.look().functions.failed_total


def test_the_last_ten_minutes_are_there_at_the_first_look(first: Shown) -> None:
    history = first.demo.hub.history.read(PAST_S, NOW)
    for name, values in history.series.items():
        # The first checkpoint comes after half a minute; before it, their rate is not known.
        assert sum(value is not None for value in values) > PAST_S - 40, name
    timeline = first.demo.hub.timeline_of(PAST_S, NOW, 0, 10, "")
    for row in timeline.rows:
        assert sum(steps for _, steps in row.runs) == PAST_S
        phases = {timeline.phases[phase] for phase, _ in row.runs}
        assert {"training", "data", "barrier", "checkpoint"} <= phases


def test_one_seed_makes_one_job(first: Shown) -> None:
    def told(shown: Shown) -> dict[str, Any]:
        return {name: value for name, value in json.loads(shown.demo.hub.dashboard()).items() if name != "life"}

    again, other = Shown(), Shown(seed=2)
    assert told(again) == told(first)
    assert told(other)["workers"] != told(first)["workers"]


def test_each_trouble_comes_in_its_turn_and_all_is_well_again_after_it() -> None:
    shown = Shown()
    known = {event.number for event in shown.look().events}
    stacks, failed = "", 0
    for _ in range(CYCLE_S * len(TROUBLES) + 20):
        look = shown.let_pass(1)
        stacks = stacks or "".join(hang.stacks for hang in look.hangs)
        failed = max(failed, look.metrics.failed_workers)
    kinds = {event.kind for event in look.events if event.number not in known}
    assert kinds >= {
        *("hang", "hang_evicted", "worker_lost", "worker_joined", "generation", "generation_broken"),
        *("barrier_broken", "checkpoint_began", "checkpoint_durable", "checkpoint_aborted", "epoch", "restored"),
        "task_failed",
    }
    assert "MainThread" in stacks
    assert failed == 1
    assert [worker.status for worker in look.workers] == ["active"] * 3
    assert look.hangs == []


@pytest.mark.parametrize(
    ("hold", "alert"), [("hang", "hang"), ("lost", "worker_lost"), ("abort", "checkpoint_aborted"), ("none", None)]
)
def test_it_can_be_held_in_one_state(hold: Any, alert: str | None) -> None:
    kinds = [one.kind for one in Shown(hold=hold, past_s=120).let_pass(60).alerts]
    assert (alert in kinds) if alert else kinds == []


def test_shards_are_never_lost_however_membership_changes() -> None:
    """They are dealt as in earnest: nobody owns two more than another, and no more moves than has to."""
    shown = Shown(workers=7, past_s=30)
    for _ in range(CYCLE_S * len(TROUBLES) // 5):
        for dataset in shown.let_pass(5).datasets:
            assert sum(share.shards for share in dataset.shards) == dataset.shard_count
            held = [share.shards for share in dataset.shards]
            assert max(held) - min(held) <= 1, held
    for moved in shown.look().rebalances:
        assert moved.moved == moved.lower_bound > 0


def test_what_is_no_demo_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="--workers 0"):
        make_demo(workers=0)


def test_a_simulated_job_goes_the_way_of_a_real_one() -> None:
    shown = Shown(past_s=20)
    jobs = shown.demo.hub.jobs
    asked = CreateJob(name="mine", type="digits", worker_count=2, config={"epochs": "5"})

    def status(job_id: str) -> str:
        return next(job.status for job in shown.let_pass(1).tasks if job.id == job_id)

    job_id = asyncio.run(jobs.create(asked))
    assert job_id in [job.id for job in jobs.rows()]
    assert status(job_id) == "running"
    shown.let_pass(5)
    assert len(jobs.logs(job_id).page(limit=100).lines) > 4
    assert asyncio.run(jobs.stop(job_id)) == "running"
    shown.let_pass(2)
    assert status(job_id) == "stopped"
    with pytest.raises(AlreadyExistsError, match="ended already"):
        asyncio.run(jobs.stop(job_id))
    other = asyncio.run(jobs.create(asked))
    shown.let_pass(62)
    assert status(other) == "completed"
    with pytest.raises(NotFoundError, match="digits, evaluate"):
        asyncio.run(jobs.create(CreateJob(name="mine", type="rm")))
    with pytest.raises(InvalidArgumentError, match=r"config has 'shell'"):
        asyncio.run(jobs.create(CreateJob(name="mine", type="digits", config={"shell": "true"})))
    for _ in range(16):
        asyncio.run(jobs.create(asked))
    with pytest.raises(ResourceExhaustedError, match="16 jobs"):
        asyncio.run(jobs.create(asked))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("demo") / "demo.log"
    process = Served(log, "strata_zmq.coordinator.api.demo", "--port", "0", env={"STRATA_LOG_FORMAT": "text"})
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()


def ask(served: Served, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - our own
        served.told["url"] + path, data=data, headers={"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            text = answer.read()
            return answer.status, json.loads(text) if "json" in answer.headers["content-type"] else text.decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_whole_api_is_served_and_says_that_it_is_simulated(served: Served) -> None:
    assert ask(served, "/api/health")[1]["simulated"] is True
    look = ask(served, "/api/dashboard")[1]
    assert look["coordinator"]["simulated"] is True
    status, story = ask(served, "/api/workers/worker-02")
    assert (status, story["worker"]["id"]) == (200, "worker-02")
    assert story["events"]
    assert story["logs"]
    assert sum(story["shards"].values()) == story["worker"]["assigned_shards"]
    assert "strata_workers" in ask(served, "/metrics")[1]
    assert "simulated" in served.log.read_text()


def test_calls_of_functions_can_be_looked_at_page_by_page(served: Served) -> None:
    page = ask(served, "/api/functions/tasks?limit=3")[1]
    assert len(page["tasks"]) == 3
    after = ask(served, f"/api/functions/tasks?limit=3&after={page['next']}")[1]
    assert {task["task_id"] for task in page["tasks"]}.isdisjoint(task["task_id"] for task in after["tasks"])
    failed = ask(served, "/api/functions/tasks?state=FAILED&limit=1")[1]["tasks"][0]
    story = ask(served, f"/api/functions/tasks/{failed['task_id']}")[1]
    assert story["error_type"] in story["traceback"]


def test_a_checkpoint_can_be_verified_and_shows_it(served: Served) -> None:
    known = [one for one in ask(served, "/api/checkpoints")[1] if one["status"] == "durable"]
    unread = next(one for one in known if one["verified"] is None)
    status, row = ask(served, f"/api/checkpoints/{unread['id']}/verify", {})
    assert (status, row["verified"]) == (200, True)


def test_time_goes_on_and_it_ends_well(served: Served) -> None:
    before = ask(served, "/api/dashboard")[1]
    step = before["workers"][0]["current_step"]
    until(lambda: ask(served, "/api/workers")[1][0]["current_step"] > step)
    served.signal(signal.SIGTERM)
    assert served.wait() == 0


@pytest.mark.parametrize(("command", "env"), [("demo", {}), ("api", {"DEMO_MODE": "true"})])
def test_the_command_names_its_limits(command: str, env: dict[str, str], tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "strata_zmq", command, "--port", "0", "--workers", "5000"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert told.returncode == 2
    assert "--workers 5000: it takes 1 to 2000" in told.stderr
