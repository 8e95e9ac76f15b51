"""Every view of the dashboard over a job that is simulated: what it shows, by mouse and keyboard, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browserkit import VIEWS, Viewer, get, violations
from playwright.sync_api import expect
from processkit.served import Served

Look = Callable[..., Viewer]


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[str]:
    """The address of `strata demo`, in which nothing goes wrong."""
    served = Served(folder / "demo.log", "strata_zmq.coordinator.api.demo", "--port", "0", "--hold", "none")
    try:
        yield served.told["url"]
    finally:
        served.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave_on_any_view_and_each_says_that_it_is_simulated(
    look: Look, demo: str, scheme: str
) -> None:
    viewer = look(demo, scheme=scheme)
    viewer.open("/")
    found = {}
    for view in VIEWS:
        viewer.visit(view)
        expect(viewer.page.get_by_role("note").filter(has_text="Simulated data")).to_be_visible()
        viewer.screenshot(f"demo-{view.lower()}-{scheme}")
        found[view] = violations(viewer.page)
    assert {view: said for view, said in found.items() if said} == {}


def test_what_is_shown_in_full_has_an_address_and_axe_finds_nothing_grave_in_it(look: Look, demo: str) -> None:
    state = get(f"{demo}/api/dashboard")
    durable = next(row for row in state["checkpoints"] if row["status"] == "durable")
    task = get(f"{demo}/api/functions/tasks?state=FAILED")["tasks"][-1]["task_id"]  # the first are let go of
    viewer = look(demo)
    found = {}
    for address, title in (
        ("/workers/worker-02", "worker-02"),
        (f"/checkpoints/{durable['id']}", "Checkpoint of step"),
        (f"/functions/{task}", task),
        ("/jobs?new=digits", "Start a job"),
    ):
        viewer.open(address)
        expect(viewer.drawer(title)).to_be_visible()
        expect(viewer.drawer(title).get_by_text(re.compile("^Loading"))).to_have_count(0)
        viewer.screenshot(f"demo-drawer-{title.split()[0].lower()}")
        found[address] = violations(viewer.page)
    assert {address: said for address, said in found.items() if said} == {}


def test_filters_are_part_of_the_address_and_a_reload_keeps_them(look: Look, demo: str) -> None:
    viewer = look(demo)
    page = viewer.open("/workers")
    expect(viewer.row("Workers", "worker-0")).to_have_count(3)
    page.get_by_role("searchbox", name="Search workers").fill("worker-03")
    expect(viewer.row("Workers", "worker-0")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=worker-03"))
    page.reload(wait_until="domcontentloaded")
    viewer.filled()
    expect(viewer.row("Workers", "worker-0")).to_have_count(1)
    expect(page.get_by_role("searchbox", name="Search workers")).to_have_value("worker-03")


def test_everything_is_reached_by_keyboard(look: Look, demo: str) -> None:
    viewer = look(demo)
    page = viewer.open("/")
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page.get_by_role("heading", level=1, name="Workers")).to_be_visible()
    viewer.filled()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search workers")).to_be_focused()
    page.keyboard.press("Escape")
    viewer.table("Workers").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(viewer.drawer("worker-01")).to_be_focused()
    page.keyboard.press("Escape")
    expect(viewer.drawer("worker-01")).to_have_count(0)
    expect(viewer.table("Workers")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_theme_follows_the_system_until_another_is_chosen_which_is_remembered(look: Look, demo: str) -> None:
    viewer = look(demo, scheme="dark")
    page = viewer.open("/settings")
    body, ground = page.locator("body"), "getComputedStyle(document.body).backgroundColor"
    dark = viewer.evaluate(ground)
    page.get_by_role("radio", name="light").check(force=True)
    expect(body).not_to_have_css("background-color", dark)
    light = viewer.evaluate(ground)
    page.reload(wait_until="domcontentloaded")
    viewer.filled()
    expect(body).to_have_css("background-color", light)
    page.get_by_role("radio", name="system").check(force=True)
    expect(body).to_have_css("background-color", dark)


@pytest.mark.parametrize("view", ["Overview", "Timeline", "Barriers", "Functions"])
def test_every_chart_is_also_a_table(look: Look, demo: str, view: str) -> None:
    viewer = look(demo)
    page = viewer.open(VIEWS[view])
    switches = page.get_by_role("button", name=re.compile("^Show .* as a table$"))
    expect(switches.first).to_be_visible()
    for title in [str(switch.get_attribute("aria-label"))[5:-11] for switch in switches.all()]:
        page.get_by_role("button", name=f"Show {title} as a table", exact=True).click()
        rows = page.get_by_role("table", name=title, exact=True).get_by_role("row")
        assert rows.count() > 10, title
        page.get_by_role("button", name=f"Show {title} as a chart", exact=True).click()
        expect(page.get_by_role("table", name=title, exact=True)).to_have_count(0)


def test_the_timeline_is_paused_scrolled_back_and_brought_back_to_now(look: Look, demo: str) -> None:
    viewer = look(demo)
    page = viewer.open("/timeline")
    lanes = page.get_by_role("application")
    lanes.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="Follow the present")).to_be_visible()
    expect(page).to_have_url(re.compile("to=[0-9]+"))
    page.reload(wait_until="domcontentloaded")
    viewer.filled()
    expect(page.get_by_role("button", name="Follow the present")).to_be_visible()
    page.get_by_role("button", name="Back to now").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_a_job_of_the_allow_list_is_started_watched_and_stopped(look: Look, demo: str) -> None:
    viewer = look(demo)
    page = viewer.open("/jobs")
    page.get_by_role("button", name="Start a job").click()
    form = viewer.drawer("Start a job")
    form.get_by_label("epochs").fill("1000")
    form.get_by_role("button", name="Start the job").click()
    expect(form.get_by_text(re.compile("A value is not as it has to be"))).to_be_visible()
    form.get_by_label("epochs").fill("2")
    form.get_by_label("Name").fill("asked-for")
    form.get_by_role("button", name="Start the job").click()
    expect(form).to_have_count(0)
    expect(viewer.row("Jobs", "asked-for").get_by_text("Running")).to_be_visible()
    expect(page.get_by_text(re.compile("step 2: loss")).first).to_be_visible()
    page.get_by_role("main").get_by_role("button", name="Stop the job").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop the job").click()
    expect(viewer.row("Jobs", "asked-for").get_by_text("Stopped")).to_be_visible()


def test_whoever_wants_no_motion_sees_none(look: Look, demo: str) -> None:
    moving = "document.getAnimations().filter((one) => one.effect.getComputedTiming().duration > 1).length"
    still = look(demo, motion="reduce")
    still.open("/workers/worker-01")
    assert still.evaluate(moving) == 0


def test_an_address_that_is_none_says_what_to_do(look: Look, demo: str) -> None:
    viewer = look(demo)
    page = viewer.page
    page.goto(f"{demo}/no/such/view", wait_until="domcontentloaded")
    expect(page.get_by_text("There is no such page")).to_be_visible()
    page.get_by_role("link", name="Overview", exact=True).first.click()
    expect(page.get_by_role("heading", level=1, name="Overview")).to_be_visible()
