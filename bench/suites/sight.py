"""What looking at a job costs it, how fast its state is answered, and how heavy the page is.

The coordinator, the API and the page are the real ones, each in a process of its own. A thousand workers beat over
prepared connections; dashboards are WebSockets that read, or a real Chromium.
"""

from __future__ import annotations

import gzip
import shutil
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from strata_zmq.bench.floors import Absolute, Floor, ToLimit
from strata_zmq.bench.loads.coordinator import coordinator_process
from strata_zmq.bench.loads.dashboards import Fleet, api_process, fleet, open_dashboards
from strata_zmq.bench.loads.http import connected
from strata_zmq.bench.model import Absent, Case, Contender, Sample, Settings, Suite
from strata_zmq.bench.statistics import percentile
from strata_zmq.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from strata_zmq.bench.loads.process import Child
    from strata_zmq.bench.model import Measure

__all__ = ["SUITE"]

WORKERS = 1000
DASHBOARDS = 20
PAGE = Path(__file__).parents[2] / "coordinator" / "dashboard" / "dist"
"""What the API serves: it comes with the package."""
PAUSE_S = 0.01
"""Between two requests: changes come four times a second, and the requests of a round are to meet some."""
BACKGROUND_RATE = 200.0
"""What a thousand workers beat by default, once in five seconds."""
SETTLE_S = 1.0
SCRIPTS_KB, PAINT_MS, TASK_MS = 250.0, 1000.0, 50.0
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_PAINT = """() => new Promise((tell) => {
  const seen = {};
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) seen[one.name] = one.startTime;
    if (Object.keys(seen).length >= 2) tell(seen);
  }).observe({ type: "paint", buffered: true });
})"""
_WATCH = """() => {
  window.tasks = [];
  new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((one) => one.duration)))
    .observe({ type: "longtask" });
}"""


def _cases(settings: Settings) -> Iterator[Case]:
    yield _weight()
    workers = settings.pick(100, WORKERS)
    with ExitStack() as stack:
        looked_at = stack.enter_context(coordinator_process(settings.scratch, workers))
        crew = stack.enter_context(fleet(looked_at.ready["control"], workers))
        alone = stack.enter_context(coordinator_process(settings.scratch, workers))
        crew_alone = stack.enter_context(fleet(alone.ready["control"], workers))
        api = stack.enter_context(api_process(looked_at.ready["control"], workers))
        yield from _isolation(settings, workers, (looked_at, crew), (alone, crew_alone), api)
        yield _answers(settings, workers, crew, api)
        yield _paint(settings, workers, crew, api)
        yield _smoothness(settings, workers, crew, api)


SUITE = Suite("sight", "What does looking at a job cost it, and how fast is what is shown?", _cases)

Place = tuple["Child", Fleet]


def _isolation(settings: Settings, workers: int, seen: Place, alone: Place, api: Child) -> Iterator[Case]:
    count = settings.pick(300, 3000)
    subject = Contender(
        f"{DASHBOARDS} dashboards open", lambda: _beats(*seen, count=count, dashboards=DASHBOARDS, api=api)
    )
    shared = {
        "name": "latency of a request, 99th percentile",
        "unit": "us",
        "better": "lower",
        "rounds": settings.pick(3, 9),
        "subject": subject,
    }
    note = f"each of {workers:,} workers beats once a second; a latency is from the moment that a beat was due"
    yield Case(
        **shared,  # type: ignore[arg-type]
        size=f"{workers:,} workers, {DASHBOARDS} dashboards open or none",
        limit=Contender("the API, no dashboard open", lambda: _beats(*seen, count=count)),
        floor=None
        if settings.quick
        else Floor("sight.isolation", (ToLimit(1.5, f"p99 with {DASHBOARDS} open <= 1.5x of none open"),)),
        notes=(note, "the API follows the coordinator in both: charts and the timeline remember for it"),
    )
    yield Case(
        **shared,  # type: ignore[arg-type]
        size=f"{workers:,} workers, {DASHBOARDS} dashboards open or no API at all",
        limit=Contender("no API", lambda: _beats(*alone, count=count)),
        notes=(note,),
    )


@contextmanager
def _beats(
    server: Child, crew: Fleet, *, count: int, dashboards: int = 0, api: Child | None = None
) -> Iterator[Measure]:
    def measure() -> Sample:
        with ExitStack() as stack:
            if api is not None:
                stack.enter_context(open_dashboards(api.ready["url"], dashboards))
            time.sleep(SETTLE_S)
            cpu, start = server.cpu_seconds(), perf_counter()
            found = crew.latencies(rate=float(crew.size), count=count)
            wall_s, cpu_s = perf_counter() - start, server.cpu_seconds() - cpu
            if api is not None:
                _still_open(api, dashboards)
        quantiles = {"p50_us": percentile(found, 0.5) * 1e6}
        return Sample(percentile(found, 0.99) * 1e6, wall_s=wall_s, cpu_s=cpu_s, extras=quantiles)

    yield measure


def _still_open(api: Child, dashboards: int) -> None:
    with connected(api.ready["url"]) as connection:
        clients = connection.get("/api/health")["clients"]
    if clients != dashboards:
        raise ProtocolError(f"{dashboards} dashboards were opened and {clients} are open")


def _answers(settings: Settings, workers: int, crew: Fleet, api: Child) -> Case:
    gets = settings.pick(50, 300)

    @contextmanager
    def opened() -> Iterator[Measure]:
        with connected(api.ready["url"]) as connection, crew.beating(BACKGROUND_RATE):
            request = connection.prepared("GET", "/api/dashboard")

            def measure() -> Sample:
                cpu, start, found, size = api.cpu_seconds(), perf_counter(), [], 0
                for _ in range(gets):
                    asked = perf_counter()
                    size = len(connection.fetched(request))
                    found.append((perf_counter() - asked) * 1e3)
                    time.sleep(PAUSE_S)
                wall_s = perf_counter() - start
                extras = {"answer_kb": size / 1e3}
                return Sample(percentile(found, 0.5), wall_s, api.cpu_seconds() - cpu, tuple(found), extras)

            yield measure

    return Case(
        name="GET /api/dashboard",
        size=f"{workers:,} workers, {gets} requests one after the other, changes meanwhile",
        unit="ms",
        better="lower",
        rounds=settings.pick(3, 7),
        subject=Contender("strata api", opened),
        floor=None if settings.quick else Floor("sight.api", (Absolute(50.0, "p99 <= 50 ms at 1,000 workers", "p99"),)),
        notes=(f"the workers beat {BACKGROUND_RATE:g} times a second; changes are taken in four times a second",),
    )


def _weight() -> Case:
    @contextmanager
    def opened() -> Iterator[Measure]:
        scripts = sorted(PAGE.rglob("*.js"))
        if not scripts:
            raise Absent(f"{PAGE} has no scripts: build the page there")

        def measure() -> Sample:
            start = perf_counter()
            nbytes = sum(len(gzip.compress(path.read_bytes(), 9)) for path in scripts)
            return Sample(nbytes / 1e3, wall_s=perf_counter() - start)

        yield measure

    return Case(
        name="the page's scripts, gzipped",
        size="all views",
        unit="kB",
        better="lower",
        rounds=1,
        warmup=0,
        subject=Contender("dashboard", opened),
        floor=Floor("sight.weight", (Absolute(SCRIPTS_KB, f"<= {SCRIPTS_KB:g} kB"),), rounds_min=1),
        notes=("a view's own script is loaded when the view is opened: the first one loads less",),
    )


@contextmanager
def _chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        raise Absent("chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Absent("the Python package playwright is not installed") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def _paint(settings: Settings, workers: int, crew: Fleet, api: Child) -> Case:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with _chromium() as browser, crew.beating(BACKGROUND_RATE):

            def measure() -> Sample:
                start = perf_counter()
                context = browser.new_context()  # with an empty cache
                try:
                    page = context.new_page()
                    page.goto(api.ready["url"], wait_until="load")
                    found = page.evaluate(_PAINT)
                finally:
                    context.close()
                extras = {"contentful_ms": found["first-contentful-paint"]}
                return Sample(found["first-paint"], wall_s=perf_counter() - start, extras=extras)

            yield measure

    return Case(
        name="first paint of the page",
        size=f"{workers:,} workers, nothing in the cache, loopback",
        unit="ms",
        better="lower",
        rounds=settings.pick(3, 5),
        subject=Contender("dashboard in Chromium", opened),
        floor=None
        if settings.quick
        else Floor("sight.weight", (Absolute(PAINT_MS, "first paint <= 1 s"),), rounds_min=5),
    )


def _smoothness(settings: Settings, workers: int, crew: Fleet, api: Child) -> Case:
    @contextmanager
    def opened() -> Iterator[Measure]:
        with _chromium() as browser, crew.beating(BACKGROUND_RATE):
            yield partial(_longest_task, browser, api.ready["url"], workers)

    return Case(
        name="longest task of the page's main thread",
        size=f"{workers:,} workers, scrolled and searched",
        unit="ms",
        better="lower",
        rounds=settings.pick(2, 5),
        subject=Contender("dashboard in Chromium", opened),
        floor=None
        if settings.quick
        else Floor("sight.weight", (Absolute(TASK_MS, f"no task over {TASK_MS:g} ms after it has loaded"),)),
        notes=(f"a browser names tasks from {TASK_MS:g} ms on; 0 says that there was none",),
    )


def _longest_task(browser: Browser, url: str, workers: int) -> Sample:
    start = perf_counter()
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    try:
        page.goto(f"{url}/workers", wait_until="load")
        grid = page.get_by_role("grid", name="Workers")
        grid.get_by_text("worker-00001").wait_for()
        page.wait_for_timeout(SETTLE_S * 1000)
        page.evaluate(_WATCH)
        for step in range(20):
            grid.evaluate("(grid, top) => grid.scrollTo({ top })", step * workers * 30 / 20)
            page.wait_for_timeout(100)
        page.get_by_role("searchbox", name="Search workers").fill("worker-0000")
        page.wait_for_timeout(500)
        grid.get_by_text("worker-00001").click()
        page.wait_for_timeout(2000)
        tasks = page.evaluate("window.tasks")
    finally:
        page.close()
    return Sample(max(tasks, default=0.0), wall_s=perf_counter() - start, extras={"long_tasks": float(len(tasks))})
