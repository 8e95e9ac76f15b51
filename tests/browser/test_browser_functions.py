"""The function plane on the page: `strata functions up` beside it, calls that end well, fail and wait."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from browserkit import Viewer
from functionkit import errands
from playwright.sync_api import expect
from processkit.served import Served

from strata_zmq.functions.codec import Codec

Look = Callable[..., Viewer]
Plane = tuple[str, "Service"]

KITS = Path(__file__).parents[1] / "kits"
CODEC = Codec(by_value=True)


class Service:
    """The function service over HTTP: what is submitted there stays known until it is asked for."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        self._known: dict[str, str] = {}

    def submit(self, function: Callable[..., object], *arguments: object) -> str:
        """Submit a call and return its task's id."""
        _, packed, body, _ = CODEC.pack_call(function, arguments, {})
        assert packed is not None
        if function.__name__ not in self._known:
            asked = {"name": function.__name__, "payload": text(packed.payload)}
            self._known[function.__name__] = self._post("/register_function", asked)["function_id"]
        asked = {"function_id": self._known[function.__name__], "payload": text(body), "durability": "none"}
        return self._post("/execute_function", asked)["task_id"]

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def _post(self, path: str, body: dict[str, str]) -> dict[str, str]:
        answer = self._http.post(path, json=body)
        assert answer.is_success, answer.text
        told: dict[str, str] = answer.json()
        return told


def text(payload: object) -> str:
    return base64.b64encode(payload if isinstance(payload, bytes) else b"".join(payload)).decode()


@pytest.fixture(scope="module")
def plane(folder: Path) -> Iterator[Plane]:
    """The address of a page over a function service without a coordinator, and the service."""
    with ExitStack() as stack:
        up = Served(
            folder / "up.log",
            *("strata_zmq", "functions", "up", "--workers", "2", "--port", "0", "--api-port", "0", "--store", "none"),
            env={**os.environ, "PYTHONPATH": str(KITS)},
        )
        stack.callback(up.stop)
        api = Served(
            folder / "api.log",
            *("strata_zmq.coordinator.api.state", "--coordinator", "", "--dispatcher", up.told["endpoint"]),
            *("--port", "0"),
        )
        stack.callback(api.stop)
        service = Service(up.told["url"])
        stack.callback(service.close)
        yield api.told["url"], service


def test_calls_are_shown_with_their_ends_and_a_failure_with_its_story(look: Look, plane: Plane) -> None:
    url, service = plane
    viewer = look(url)
    page = viewer.open("/functions")
    expect(viewer.tile("Running")).to_contain_text("of 2 slots")
    for number in range(20):
        service.submit(errands.add, number, 1)
    failed = service.submit(errands.boom, "a reason that is told")
    expect(viewer.tile("Failed")).to_contain_text("1 in all")
    expect(viewer.row("Tasks", "Completed")).not_to_have_count(0)
    viewer.row("Tasks", "a reason that is told").click()
    drawer = viewer.drawer(failed)
    expect(drawer.get_by_role("region", name="Traceback").last).to_contain_text("errands.py")
    expect(page).to_have_url(re.compile(f"/functions/{failed}"))
    viewer.screenshot("functions-failure")
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)


def test_what_runs_and_what_waits_is_counted_and_so_is_its_end(look: Look, plane: Plane) -> None:
    url, service = plane
    viewer = look(url)
    viewer.open("/functions")
    for _ in range(3):
        service.submit(time.sleep, 4)
    expect(viewer.tile("Running")).to_contain_text("2 of 2 slots")
    expect(viewer.tile("Queued")).to_contain_text(re.compile("Queued1"))
    viewer.screenshot("functions")
    expect(viewer.tile("Running")).to_contain_text("0 of 2 slots")
    expect(viewer.tile("Queued")).to_contain_text(re.compile("Queued0"))
