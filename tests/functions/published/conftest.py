"""The published service, whole, in each of its three modes: four workers, and a deadline of two seconds a task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from publishedkit import Published
from publishedkit.service import Service

MODES = ("local", "pull", "push")
DEADLINE_S = 2


@pytest.fixture(scope="session", params=MODES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("up"), request.param, 4, "--task-deadline", str(DEADLINE_S))
    yield made
    made.stop()


@pytest.fixture
def client(service: Service) -> Published:
    return service.client


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there; `wait_at(str(gate))` in a function returns once it is."""
    return tmp_path / "gate"
