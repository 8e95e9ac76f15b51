"""Every route answers what the dashboard shows of its part, in the published form, and its parameters choose of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import msgspec
import pytest
from sightkit import (
    HandFeed,
    NoJobs,
    NoVault,
    Pages,
    Served,
    checkpoint,
    dataset,
    event,
    functions,
    job,
    open_barrier,
    release,
    serve_app,
    worker,
)

from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.state import models
from strata_zmq.coordinator.api.state.hub import Hub
from strata_zmq.coordinator.api.state.models import CreateJob
from strata_zmq.coordinator.api.state.operations import OPERATIONS
from strata_zmq.coordinator.api.state.rows import Job, JobStatus, JobTemplate, LogLine
from strata_zmq.domain.task import Outcome, OutcomeReport
from strata_zmq.functions.calls import TaskView
from strata_zmq.protocol.sight_rows import StacksSight

NOW = 1_700_000_000.0
FAILED, DONE = uuid.UUID(int=1), uuid.UUID(int=2)


class Keeper(NoJobs):
    """Starts nothing, and remembers what it was asked."""

    stops_training = True

    def __init__(self) -> None:
        self.version = 0
        self.asked: list[CreateJob] = []
        self.stopped: list[str] = []
        self.book = Pages()

    def rows(self) -> Sequence[Job]:
        return [
            Job(
                id=f"job-{number}",
                name=asked.name,
                type=asked.type,
                status="running",
                dataset_id=asked.dataset_id,
                worker_count=asked.worker_count,
                config=asked.config,
                created_at=number,
                started_at=None,
                ended_at=None,
                exit_code=None,
                pid=None,
                origin="api",
                stoppable=True,
                message="",
            )
            for number, asked in enumerate(self.asked, start=1)
        ]

    def templates(self) -> Sequence[JobTemplate]:
        return [JobTemplate(type="digits", description="Digits", workers_max=8, parameters={"epochs": "int"})]

    async def create(self, asked: CreateJob) -> str:
        self.asked.append(asked)
        self.version += 1
        return f"job-{len(self.asked)}"

    async def stop(self, job_id: str) -> JobStatus:
        self.stopped.append(job_id)
        return "stopped"

    def logs(self, job_id: str) -> Pages:
        return self.book


class Client:
    """A dispatcher's client that knows two tasks; what else a client can do is not asked of it."""

    def __init__(self) -> None:
        report = OutcomeReport(text="no", type_name="ValueError", traceback="at line 3", worker="w0", stdout="said")
        self.views = [
            TaskView(FAILED.bytes, "FAILED", 2, Outcome(FAILED.bytes, 2, "error", None, report=report), 1.0, 2.0, 3.5),
            TaskView(DONE.bytes, "COMPLETED", 1, None, 1.0, 0.0, 0.0),
        ]

    async def page(self, after: bytes = b"", limit: int = 100, state: str = "") -> Sequence[TaskView]:
        return [one for one in self.views if one.task_id > after and state in ("", one.state)][:limit]

    async def fetch(self, task_ids: Sequence[bytes], *, bodies: bool = True) -> Sequence[TaskView]:
        assert not bodies, "payloads are not shown"
        known = {one.task_id: one for one in self.views}
        return [known.get(task_id, TaskView(task_id, "UNKNOWN")) for task_id in task_ids]

    async def close(self) -> None:
        pass

    def watch(self, task_ids: Sequence[bytes], timeout_s: float, *, bodies: bool = True) -> AsyncIterator[TaskView]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture(scope="module")
def served(keeper: Keeper) -> Iterator[Served]:
    core, plane = HandFeed(now=NOW), HandFeed("dispatcher", now=NOW)
    logs = Pages()
    for number in range(1, 31):
        line = LogLine(number=0, timestamp=number, level="info", source="w1", message=f"line {number}", fields={})
        logs.append(line)
    hub = Hub([core, plane], logs=logs, jobs=keeper, vault=NoVault(), clock=lambda: NOW)
    with serve_app(create_app(Client(), hub=hub, metrics=lambda: b"strata_up 1\n")) as running:  # type: ignore[arg-type]

        def begin() -> None:
            core.begin(
                job=job(),
                workers=[worker(f"w{rank}", rank, heard_at=NOW, registered_at=NOW - 5) for rank in range(3)],
                datasets=[
                    dataset("d", shards_by_worker=[("w1", 4), ("w0", 6)]),
                    dataset("e", shards_by_worker=[("w1", 1)]),
                ],
                checkpoints=[checkpoint("c1")],
                barriers=[open_barrier("1/step/9")],
                releases=[release(1, ended_at=NOW - 2)],
                stacks=[StacksSight(worker_id="w1", incarnation="i1", at=NOW, text="File x")],
                events=[event(1), event(2, kind="hang", worker_id="w1"), event(3, kind="epoch", subject="d")],
            )
            plane.begin(functions=functions(queued=3))
            hub.tick()

        running.call(begin)
        yield running


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url) as client:
        yield client


def get(http: httpx.Client, path: str) -> Any:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


PLAIN = [one for one in OPERATIONS if one.method == "GET" and "{" not in one.path and one.name != "live_events"]


@pytest.mark.parametrize("operation", PLAIN, ids=lambda one: one.name)
def test_an_answer_has_the_form_that_the_document_states(http: httpx.Client, operation: Any) -> None:
    for path in (operation.path, *operation.aliases):
        answer = http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["x-strata-source"] == "live"
        msgspec.json.decode(answer.content, type=operation.answer, strict=True)


def test_each_list_is_the_dashboards_own(http: httpx.Client) -> None:
    whole = get(http, "/api/dashboard")
    for path in ("workers", "datasets", "checkpoints", "barriers", "metrics", "settings", "functions"):
        assert get(http, f"/api/{path}") == whole[path]
    assert get(http, "/api/status") == whole["coordinator"]
    assert get(http, "/api/jobs") == get(http, "/api/tasks") == whole["tasks"]
    assert get(http, "/api/health") == {
        "status": "ok",
        "version": whole["coordinator"]["api_version"],
        "simulated": False,
        "stale_since": None,
        "clients": 0,
    }


def test_the_document_is_served_with_every_schema(http: httpx.Client) -> None:
    page = get(http, "/openapi.json")
    assert set(page["paths"]) == {path for one in OPERATIONS for path in (one.path, *one.aliases)}
    assert {"Dashboard", "LiveChanges", "LiveSnapshot"} <= set(page["components"]["schemas"])


def test_metrics_are_answered_in_prometheus_form(http: httpx.Client) -> None:
    answer = http.get("/metrics")
    assert (answer.text, answer.headers["content-type"]) == (
        "strata_up 1\n",
        "text/plain; version=0.0.4; charset=utf-8",
    )


def test_a_workers_story_has_its_events_stacks_shards_and_lines(http: httpx.Client) -> None:
    story = msgspec.json.decode(http.get("/api/workers/w1").content, type=models.WorkerStory)
    assert (story.worker.id, story.stacks, story.stacks_at) == ("w1", "File x", round(NOW * 1000))
    assert [one.kind for one in story.events] == ["hang"]
    assert story.shards == {"d": 4, "e": 1}
    assert story.logs[-1].message == "line 30"


def test_events_are_chosen_by_kind_and_subject_and_the_last_of_them_come(http: httpx.Client) -> None:
    assert [one["kind"] for one in get(http, "/api/activity?kind=hang")] == ["hang"]
    assert [one["subject"] for one in get(http, "/api/activity?subject=d")] == ["d"]
    assert [one["kind"] for one in get(http, "/api/activity?limit=1")] == [get(http, "/api/activity")[-1]["kind"]]


def test_the_timeline_is_paged_searched_and_ends_where_it_was_asked_to(http: httpx.Client) -> None:
    page = get(http, "/api/timeline?seconds=10&offset=1&limit=1")
    assert ([row["worker_id"] for row in page["rows"]], page["total_workers"]) == (["w1"], 3)
    page = get(http, "/api/timeline?seconds=10&search=2")
    assert ([row["worker_id"] for row in page["rows"]], page["total_workers"]) == (["w2"], 1)
    assert [one["id"] for one in page["releases"]] == ["1/step/1"]
    page = get(http, f"/api/timeline?seconds=10&end={round((NOW - 100) * 1000)}")
    assert (page["start"], page["releases"]) == (round((NOW - 110) * 1000), [])
    # The future is not asked for: it would be empty.
    assert get(http, f"/api/timeline?seconds=10&end={round((NOW + 500) * 1000)}")["start"] == round((NOW - 10) * 1000)


def test_a_long_timeline_of_many_workers_is_read_beside_the_loop_and_says_the_same(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from strata_zmq.coordinator.api.state import hub

    here = get(http, "/api/timeline?seconds=60")
    monkeypatch.setattr(hub, "_CELLS_HERE", 0)
    assert get(http, "/api/timeline?seconds=60") == here


def test_history_has_as_many_points_as_seconds(http: httpx.Client) -> None:
    page = get(http, "/api/history?seconds=7")
    assert {len(points) for points in page["series"].values()} == {7}


def test_logs_are_paged_backwards(http: httpx.Client) -> None:
    page = get(http, "/api/logs?limit=5&source=w1")
    assert [line["message"] for line in page["lines"]][-1] == "line 30"
    earlier = get(http, f"/api/logs?limit=5&source=w1&before={page['before']}")
    assert earlier["lines"][-1]["number"] < page["lines"][0]["number"]


def test_a_job_is_started_listed_at_once_stopped_and_its_lines_are_its_own(http: httpx.Client, keeper: Keeper) -> None:
    body = {"name": "n", "type": "digits", "dataset_id": "d", "worker_count": 2, "config": {"epochs": 3}}
    for path in ("/api/jobs", "/api/tasks"):
        answer = http.post(path, json=body)
        assert answer.status_code == 201
        task_id = answer.json()["task_id"]
        assert task_id in [row["id"] for row in get(http, "/api/jobs")]
        stopped = http.post(f"{path}/{task_id}/stop")
        assert stopped.json() == {"task_id": task_id, "status": "stopped"}
    assert keeper.asked[0].config == {"epochs": 3}
    assert keeper.stopped == ["job-1", "job-2"]
    assert get(http, "/api/jobs/job-1/logs")["lines"] == []
    assert get(http, "/api/tasks/digits/logs?limit=1")["lines"]
    assert [row["type"] for row in get(http, "/api/jobs/templates")] == ["digits"]


def test_a_tasks_story_has_its_error_and_what_it_printed(http: httpx.Client) -> None:
    told = get(http, f"/api/functions/tasks/{FAILED}")
    assert (told["status"], told["attempt"], told["error_type"], told["error_message"]) == (
        "FAILED",
        2,
        "ValueError",
        "no",
    )
    assert (told["traceback"], told["stdout"], told["worker"]) == ("at line 3", "said", "w0")
    assert (told["submitted_at"], told["started_at"], told["ended_at"]) == (1000, 2000, 3500)
    assert get(http, f"/api/functions/tasks/{DONE}")["ended_at"] is None
    assert http.get(f"/api/functions/tasks/{uuid.UUID(int=9)}").status_code == 404


def test_tasks_are_paged_in_the_order_of_their_acceptance(http: httpx.Client) -> None:
    first = get(http, "/api/functions/tasks?limit=1")
    assert ([row["task_id"] for row in first["tasks"]], first["next"]) == ([str(FAILED)], str(FAILED))
    assert first["tasks"][0]["error_type"] == "ValueError"
    second = get(http, f"/api/functions/tasks?limit=5&after={first['next']}")
    assert ([row["task_id"] for row in second["tasks"]], second["next"]) == ([str(DONE)], None)
    assert [row["status"] for row in get(http, "/api/functions/tasks?state=COMPLETED")["tasks"]] == ["COMPLETED"]


def test_without_a_dispatcher_its_tasks_are_unavailable_and_the_plane_is_not_known() -> None:
    hub = Hub([HandFeed()], logs=Pages(), jobs=NoJobs(), vault=NoVault())
    with serve_app(create_app(None, hub=hub)) as running:
        answer = httpx.get(running.url + "/api/functions/tasks")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert httpx.get(running.url + "/api/functions").json()["queued"] is None


def test_the_app_of_a_jobs_state_executes_nothing(http: httpx.Client) -> None:
    for path in ("/register_function", "/execute_function", "/execute_batch"):
        assert http.post(path, json={}).status_code == 405
