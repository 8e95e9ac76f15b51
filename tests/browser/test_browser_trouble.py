"""A page whose coordinator or API is gone, whose worker hangs, or whose names are markup: it says so, and goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browserkit import VIEWS, Viewer, get
from playwright.sync_api import expect
from processkit.coordinator import Coordinator
from processkit.patience import until
from processkit.served import Served
from processkit.trainer import Trainer
from sightkit import (
    HandFeed,
    NoJobs,
    NoVault,
    Pages,
    checkpoint,
    dataset,
    event,
    job,
    lost,
    open_barrier,
    serve_app,
    worker,
)
from sightkit import release as released

from strata_zmq.coordinator.api.app import create_app
from strata_zmq.coordinator.api.state.front import PAGE
from strata_zmq.coordinator.api.state.hub import Hub
from strata_zmq.coordinator.api.state.rows import LogLine

Look = Callable[..., Viewer]

PROGRAM = Path(__file__).parent / "programs" / "train_on.py"
NASTY = '"><img src=x onerror="window.struck=1"><script>window.struck=1</script>&lt;b&gt;'


class Place:
    """A coordinator and an API, each of which can go and come back at the same address, and workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coordinator = Coordinator(
            folder,
            "--hang-s",
            "2",
            control="tcp://127.0.0.1:0",
            broadcast="tcp://127.0.0.1:0",
        ).start()
        self.api = self._serve(0)
        self.url: str = self.api.told["url"]
        self.trainers: list[Trainer] = []

    def train(self, *names: str) -> None:
        """Start workers, and wait until they train."""
        self.trainers = [Trainer(self.folder, name, self.coordinator.url, PROGRAM, {}) for name in names]
        steps = f"{self.url}/api/workers"
        until(
            lambda: sum(row["current_step"] > 0 for row in get(steps)) == len(names), 60, [t.log for t in self.trainers]
        )

    def restart_api(self) -> None:
        """Start it again where it was."""
        self.api = self._serve(int(self.url.rpartition(":")[2]))

    def _serve(self, port: int) -> Served:
        return Served(
            self.folder / "api.log",
            *("strata_zmq.coordinator.api.state", "--coordinator", self.coordinator.url, "--port", str(port)),
        )

    def stop(self) -> None:
        """End all of them."""
        for trainer in self.trainers:
            trainer.kill()
        self.api.stop()
        self.coordinator.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """One a test, which restarts parts of it."""
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def test_a_worker_that_hangs_is_named_with_who_waits_for_it(place: Place, look: Look) -> None:
    place.train("one", "two")
    viewer = look(place.url)
    page = viewer.open("/")
    hold = place.folder / "hold.two"
    hold.touch()
    try:
        alerts = page.get_by_role("list", name="Alerts")
        expect(alerts.get_by_text(re.compile("two")).first).to_be_visible()
        viewer.open("/workers/two")
        drawer = viewer.drawer("two")
        expect(drawer.get_by_text("Hangs", exact=True)).to_be_visible()
        expect(drawer.get_by_text(re.compile("Has not moved since"))).to_contain_text("one")
        expect(drawer.get_by_role("region", name="the stacks of two")).to_contain_text("train_on.py")
        viewer.screenshot("trouble-hang")
    finally:
        hold.unlink()
    expect(drawer.get_by_text("Hangs", exact=True)).to_have_count(0)


def test_a_coordinator_that_is_gone_is_told_of_with_the_time_and_comes_back_by_itself(place: Place, look: Look) -> None:
    place.train("one")
    viewer = look(place.url)
    page = viewer.open("/workers")
    place.coordinator.kill()
    banner = page.get_by_role("status").filter(has_text="No answer from the coordinator since")
    expect(banner).to_contain_text(re.compile(r"since \d\d:\d\d:\d\d"))
    expect(viewer.row("Workers", "one")).to_be_visible()
    viewer.screenshot("trouble-coordinator-gone")
    place.coordinator.start()
    expect(banner).to_have_count(0)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_an_api_that_is_gone_leaves_the_last_state_marked_stale_until_it_is_back(place: Place, look: Look) -> None:
    place.train("one")
    viewer = look(place.url, unanswered=True)
    page = viewer.open("/workers")
    place.api.kill()
    banner = page.get_by_role("alert").filter(has_text="No answer from the API since")
    expect(banner).to_contain_text(re.compile(r"since \d\d:\d\d:\d\d"))
    expect(page.get_by_text("Stale", exact=True)).to_be_visible()
    expect(viewer.row("Workers", "one")).to_be_visible()
    viewer.screenshot("trouble-api-gone")
    place.restart_api()
    expect(banner).to_have_count(0)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


@pytest.fixture(scope="module")
def marked() -> Iterator[str]:
    """The address of a page on which every name that a worker can send is markup."""
    now = time.time()
    core = HandFeed(now=now)
    logs = Pages()
    logs.append(
        LogLine(number=0, timestamp=int(now * 1000), level="error", source=NASTY, message=NASTY, fields={NASTY: NASTY})
    )
    hub = Hub([core], logs=logs, jobs=NoJobs(), vault=NoVault())
    with serve_app(create_app(None, hub=hub, page=PAGE)) as running:
        running.call(
            lambda: core.begin(
                job=job(job=NASTY, started_at=now - 60),
                workers=[
                    worker(NASTY, task=NASTY, hostname=NASTY, state=NASTY, metadata={NASTY: NASTY}, heard_at=now),
                    worker("plain", 1, heard_at=now),
                ],
                lost=[lost(f"lost {NASTY}", now, reason=NASTY, hostname=NASTY)],
                datasets=[dataset(NASTY, path=NASTY, format=NASTY, metadata={NASTY: NASTY})],
                checkpoints=[checkpoint("step-1", status="aborted", reason=NASTY, created_at=now)],
                barriers=[open_barrier("1/step/7", name=NASTY, missing=[NASTY], opened_at=now)],
                releases=[released(1, name=NASTY, ended_at=now)],
                events=[event(1, at=now, text=NASTY, subject=NASTY, kind=NASTY)],
            )
        )
        yield running.url


def test_markup_in_names_is_text_on_every_view(look: Look, marked: str) -> None:
    viewer = look(marked)
    page = viewer.open("/")
    for view in VIEWS:
        viewer.visit(view)
        assert viewer.evaluate("window.struck") is None, view
        assert page.locator("img[src=x]").count() == 0, view
    viewer.visit("Workers")
    viewer.row("Workers", NASTY[:20]).first.click()
    expect(page.get_by_role("complementary").get_by_role("heading", level=2)).to_contain_text("<img src=x")
    expect(page.get_by_role("complementary").get_by_text("What happened to it")).to_be_visible()
    viewer.visit("Activity")
    expect(viewer.row("Events, newest first", "<script>").first).to_be_visible()
    viewer.visit("Logs")
    expect(page.get_by_text("<script>window.struck=1</script>").first).to_be_visible()
    assert viewer.evaluate("window.struck") is None
