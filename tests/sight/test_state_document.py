"""The state routes' document is the one that the dashboard's types are made from, and has every published name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strata_zmq.coordinator.api.state.openapi import document

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = ROOT / "coordinator" / "dashboard" / "src" / "api" / "openapi.json"
PUBLISHED = {
    "StateHealth": "status",
    "Coordinator": "connected address uptime version",
    "Worker": "id ip port status gpu_count last_heartbeat assigned_shards current_epoch current_step current_task",
    "Dataset": "id name total_samples shard_size shard_count format shuffle registered_at",
    "Checkpoint": "id step epoch size path created_at worker_id status",
    "Barrier": "id name arrived total status created_at",
    "Metrics": "checkpoint_throughput coordinator_rps active_workers total_workers barrier_latency_p99 "
    "shard_assignment_time",
    "Dashboard": "coordinator workers datasets checkpoints barriers metrics tasks logs",
    "CreateJob": "name type dataset_id worker_count config",
    "CreatedJob": "task_id",
}
ROUTES = (
    "GET /api/health",
    "GET /api/status",
    "GET /api/workers",
    "GET /api/datasets",
    "GET /api/checkpoints",
    "GET /api/barriers",
    "GET /api/metrics",
    "GET /api/tasks",
    "POST /api/tasks",
    "POST /api/tasks/{job_id}/stop",
    "GET /api/tasks/{job_id}/logs",
    "GET /api/logs",
    "GET /api/dashboard",
)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return document()


def test_the_dashboards_copy_is_what_the_code_says(told: dict[str, Any]) -> None:
    """`python -m strata_zmq.coordinator.api.state.openapi > coordinator/dashboard/src/api/openapi.json` renews it."""
    assert json.loads(WRITTEN.read_text()) == told


@pytest.mark.parametrize("route", ROUTES)
def test_every_published_route_is_there(told: dict[str, Any], route: str) -> None:
    method, path = route.split()
    assert method.lower() in told["paths"][path]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_field_has_its_name(told: dict[str, Any], name: str) -> None:
    assert set(PUBLISHED[name].split()) <= set(told["components"]["schemas"][name]["properties"])


def test_every_reference_leads_to_a_schema(told: dict[str, Any]) -> None:
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(told) <= set(told["components"]["schemas"])


def test_operations_have_names_of_their_own(told: dict[str, Any]) -> None:
    names = [one["operationId"] for operations in told["paths"].values() for one in operations.values()]
    assert len(names) == len(set(names))
