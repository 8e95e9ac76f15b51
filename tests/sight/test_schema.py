"""The API keeps its own description: whatever is asked, sensible or not, is answered as its OpenAPI page tells.

Schemathesis makes the requests from the page itself and judges the answers: status, media type, body against its
schema, no error of the server's, bad input refused, good input taken. The job behind it is simulated, so that every
list is full. The stream of events has no end and is left out; other tests read it.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.demo.show import make_demo
from strata_zmq.coordinator.api.state.operations import OPERATIONS

ENDING = [one for one in OPERATIONS if one.name != "live_events"]
ASKED = [(one.method, path) for one in ENDING for path in (one.path, *one.aliases)]
REFUSING = [(one.method, path) for one in ENDING if one.parameters or one.body for path in (one.path, *one.aliases)]
EXAMPLES = 12


@pytest.fixture(scope="module")
def page() -> schemathesis.BaseSchema:
    """The description, and the app that it is of."""
    demo = make_demo()
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(demo.client, hub=demo.hub, hosts=("testserver",)))


def judge(page: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode) -> None:
    """Ask a route many times, and fail at the first answer that is not as described."""

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(case=page[path][method].as_strategy(generation_mode=mode))
    def asked(case: schemathesis.Case) -> None:
        case.call_and_validate()

    asked()


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_what_the_description_allows_is_answered_as_it_says(
    page: schemathesis.BaseSchema, method: str, path: str
) -> None:
    judge(page, method, path, GenerationMode.POSITIVE)


@pytest.mark.parametrize(("method", "path"), REFUSING)
def test_what_the_description_does_not_allow_is_refused_as_it_says(
    page: schemathesis.BaseSchema, method: str, path: str
) -> None:
    judge(page, method, path, GenerationMode.NEGATIVE)


def test_what_is_there_is_described_too(page: schemathesis.BaseSchema) -> None:
    """Made-up ids are never found; these are those that the lists name."""

    def told(method: str, path: str, status: int, **case: Any) -> Any:
        answer = page[path][method].Case(**case).call_and_validate()
        assert answer.status_code == status
        return answer.json()

    def one(path: str, key: str, value: str, status: int = 200, method: str = "GET") -> None:
        told(method, path, status, path_parameters={key: value})

    one("/api/workers/{worker_id}", "worker_id", told("GET", "/api/workers", 200)[0]["id"])
    checkpoints = told("GET", "/api/checkpoints", 200)
    durable = next(row["id"] for row in checkpoints if row["status"] == "durable")
    one("/api/checkpoints/{checkpoint_id}/verify", "checkpoint_id", durable, method="POST")
    tasks = told("GET", "/api/functions/tasks", 200)["tasks"]
    one("/api/functions/tasks/{task_id}", "task_id", tasks[0]["task_id"])
    asked = {"name": "asked", "type": told("GET", "/api/jobs/templates", 200)[0]["type"]}
    job = told("POST", "/api/jobs", 201, body=asked, media_type="application/json")["task_id"]
    one("/api/jobs/{job_id}/logs", "job_id", job)
    one("/api/jobs/{job_id}/stop", "job_id", job, method="POST")
