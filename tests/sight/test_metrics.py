"""What /metrics says is what the cores have counted, in the names and units that Prometheus asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_strictly
from prometheus_client.parser import text_string_to_metric_families
from sightkit import HandFeed, NoJobs, NoVault, Pages, checkpoint, event, functions, job, worker

from strata_zmq.coordinator.api.state.hub import Hub
from strata_zmq.coordinator.api.state.metrics import FRESH_S, StateCollector
from strata_zmq.protocol.fields import Resources, Spent
from strata_zmq.protocol.sight_rows import BARRIER_BOUNDS_S, FUNCTION_BOUNDS_S, REQUEST_BOUNDS_S, HistogramSight

NOW = 1000.0
UNITS = ("_seconds", "_bytes", "_ratio")
NOT_BASE = re.compile(r"_(ms|millis\w*|minutes|hours|kb|mb|kilobytes|megabytes|percent)(_|$)")
OF_WORKERS = {
    *("strata_worker_step", "strata_worker_heartbeat_age_seconds", "strata_worker_shards", "strata_worker_cpu_ratio"),
    *("strata_worker_memory_bytes", "strata_worker_gpu_utilization_ratio", "strata_worker_gpu_memory_bytes"),
}
REQUESTS = HistogramSight(name="request", label="heartbeat", count=3, sum_s=0.5, buckets=[2, *[0] * 7, 1, 0])
BARRIERS = HistogramSight(
    name="barrier", label="", count=4, sum_s=1000.0, buckets=[3, *[0] * (len(BARRIER_BOUNDS_S) - 1), 1]
)
RUNS = HistogramSight(name="run", label="", count=2, sum_s=0.02, buckets=[0, 0, 2, *[0] * (len(FUNCTION_BOUNDS_S) - 2)])


class Page:
    """A hub over two cores that are said by hand, and the page that its metrics make."""

    def __init__(self) -> None:
        self.now = NOW
        self.core, self.dispatcher = HandFeed(now=NOW), HandFeed("dispatcher", now=NOW)
        self.hub = Hub(
            [self.core, self.dispatcher], logs=Pages(), jobs=NoJobs(), vault=NoVault(), clock=lambda: self.now
        )
        for feed in (self.core, self.dispatcher):
            feed.tell_to(self.hub.tell)
        self.collector = StateCollector(self.hub, lambda: self.now)

    def read(self) -> dict[str, float]:
        """Return the samples, by name and labels as the page has them."""
        self.now += FRESH_S
        self.hub.tick()
        return {
            name_of(sample.name, sample.labels): sample.value
            for family in families(self.collector.render())
            for sample in family.samples
        }


def families(page: bytes) -> list[Metric]:
    return list(text_string_to_metric_families(page.decode()))


def name_of(name: str, labels: dict[str, str]) -> str:
    told = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{told}}}" if told else name


def full() -> Page:
    """Return a page with every family on it."""
    page = Page()
    used = Resources(
        cpu_percent=150.0,
        memory_bytes=2**20,
        gpu_percent=[50.0, 100.0],
        gpu_memory_bytes=[2**30, 0],
        gpu_celsius=[40.0],
    )
    page.core.begin(
        job=job(
            requests=100,
            releases=7,
            committed_samples=5_000,
            checkpoint_bytes=10**6,
            commit_index=6,
            generation=3,
            world_size=2,
            counters={
                "barriers_broken": 2,
                "checkpoints_committed": 4,
                "checkpoints_aborted": 1,
                "errors.not_found": 2,
                "rejected.not_found": 1,
                "errors.stale_generation": 5,
                "hangs": 1,
            },
        ),
        workers=[worker("w-0", step=12, shards=3, heard_at=NOW - 2, resources=used), worker("w-1", 1, step=11)],
        checkpoints=[checkpoint("c1"), checkpoint("c2")],
        histograms=[REQUESTS, BARRIERS],
        events=[event(1, kind="worker_joined"), event(2, kind="worker_joined"), event(3, kind="hang")],
    )
    spent = Spent(training_s=30.0, data_s=1.0, samples=10, batches=3, data_waits=[2, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    page.hub.tick()
    page.core.say(workers=[worker("w-1", 1, step=11, spent=spent)])
    page.dispatcher.begin(
        functions=functions(queued=4, running=2, ended=9, completed_total=8, failed_total=1),
        histograms=[RUNS, replace(RUNS, name="wait")],
    )
    return page


def test_the_page_has_what_the_cores_have_counted() -> None:
    told = full().read()
    expected = {
        'strata_up{origin="coordinator"}': 1,
        'strata_up{origin="dispatcher"}': 1,
        'strata_workers{status="active"}': 2,
        'strata_workers{status="failed"}': 0,
        "strata_world_size": 2,
        "strata_generation": 3,
        "strata_epoch": 0,
        "strata_commit_points_total": 6,
        "strata_requests_total": 100,
        "strata_committed_samples_total": 5_000,
        "strata_checkpoint_bytes_total": 10**6,
        'strata_checkpoints_total{status="durable"}': 4,
        'strata_checkpoints_total{status="aborted"}': 1,
        'strata_barriers_total{outcome="released"}': 7,
        'strata_barriers_total{outcome="broken"}': 2,
        "strata_hangs": 0,
        'strata_events_total{kind="worker_joined"}': 2,
        'strata_events_total{kind="hang"}': 1,
        'strata_refusals_total{code="not_found"}': 3,
        'strata_refusals_total{code="stale_generation"}': 5,
        'strata_worker_step{worker_id="w-0"}': 12,
        'strata_worker_shards{worker_id="w-0"}': 3,
        'strata_worker_heartbeat_age_seconds{worker_id="w-0"}': 2,
        'strata_worker_cpu_ratio{worker_id="w-0"}': 1.5,
        'strata_worker_memory_bytes{worker_id="w-0"}': 2**20,
        'strata_worker_gpu_utilization_ratio{gpu="1",worker_id="w-0"}': 1,
        'strata_worker_gpu_memory_bytes{gpu="0",worker_id="w-0"}': 2**30,
        'strata_request_duration_seconds_bucket{kind="heartbeat",le="0.0001"}': 2,
        'strata_request_duration_seconds_bucket{kind="heartbeat",le="0.3"}': 2,
        'strata_request_duration_seconds_bucket{kind="heartbeat",le="1.0"}': 3,
        'strata_request_duration_seconds_bucket{kind="heartbeat",le="+Inf"}': 3,
        'strata_request_duration_seconds_count{kind="heartbeat"}': 3,
        'strata_request_duration_seconds_sum{kind="heartbeat"}': 0.5,
        'strata_barrier_wait_seconds_bucket{le="300.0"}': 3,
        'strata_barrier_wait_seconds_bucket{le="+Inf"}': 4,
        'strata_data_wait_seconds_bucket{le="0.003"}': 2,
        'strata_data_wait_seconds_bucket{le="+Inf"}': 3,
        'strata_tasks{state="queued"}': 4,
        'strata_tasks{state="running"}': 2,
        'strata_tasks_total{outcome="completed"}': 8,
        'strata_tasks_total{outcome="failed"}': 1,
        "strata_function_workers": 0,
        'strata_function_run_seconds_bucket{le="0.003"}': 0,
        'strata_function_run_seconds_bucket{le="0.01"}': 2,
        "strata_function_wait_seconds_count": 2,
        "strata_api_clients": 0,
        "strata_api_dropped_clients_total": 0,
        "strata_api_gaps_total": 0,
    }
    assert {name: told.get(name) for name in expected} == expected
    assert told["strata_last_checkpoint_timestamp_seconds"] > 0


def test_every_name_follows_the_rules_of_names_and_units_and_says_what_it_is() -> None:
    found = families_of(full())
    assert len(found) > 25
    for family in found:
        assert re.fullmatch(r"strata_[a-z][a-z0-9_]*", family.name)
        assert not NOT_BASE.search(family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in {"gauge", "counter", "histogram"}
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names <= {f"{family.name}_total"}
        else:
            assert not family.name.endswith("_total")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
            check_buckets(family)


def check_buckets(family: Metric) -> None:
    """Buckets are cumulative, end at +Inf, and that is the count."""
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[key] = sample.value
    for key, buckets in series.items():
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1][0] == float("inf")
        assert counts.get(key, buckets[-1][1]) == buckets[-1][1]


def families_of(page: Page) -> list[Metric]:
    page.read()
    return families(page.collector.render())


def test_worker_ids_are_on_gauges_only() -> None:
    found = families_of(full())
    with_ids = {family.name for family in found if any("worker_id" in sample.labels for sample in family.samples)}
    assert with_ids == OF_WORKERS
    assert all(family.type == "gauge" for family in found if family.name in with_ids)


def test_the_strict_parser_of_openmetrics_takes_every_family_under_its_own_name() -> None:
    """That format keeps gauges and counters of one name apart, and the text format does not: tasks are both here."""
    page = full()
    page.read()
    for family in page.collector.collect():
        text = b"".join(lines_of(family)).decode() + "# EOF\n"
        (read,) = read_strictly(text)
        assert read.name == family.name
        assert len(read.samples) == len(family.samples)


def lines_of(family: Metric) -> list[bytes]:
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    class One:
        def collect(self) -> list[Metric]:
            return [family]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(One())  # type: ignore[arg-type]
    return [generate_latest(registry).removesuffix(b"# EOF\n")]


def test_of_a_core_that_is_not_heard_nothing_is_told_but_that() -> None:
    page = full()
    page.read()
    page.core.connected = False
    told = page.read()
    assert told['strata_up{origin="coordinator"}'] == 0
    assert told['strata_tasks{state="queued"}'] == 4
    assert not [name for name in told if name.startswith(("strata_worker", "strata_request", "strata_barrier"))]
    assert 'strata_events_total{kind="hang"}' in told


def test_what_nobody_has_measured_is_absent() -> None:
    page = Page()
    page.core.begin(job=job(), workers=[worker("w-0")])
    told = page.read()
    assert 'strata_worker_step{worker_id="w-0"}' in told
    for part in ("gpu", "cpu", "data_wait", "goodput", "last_checkpoint", "_bucket", "tasks", "refusals"):
        assert not [name for name in told if part in name], part


def test_a_histogram_with_other_buckets_than_ours_is_left_out() -> None:
    page = Page()
    odd = HistogramSight(name="request", label="x", count=1, sum_s=1.0, buckets=[1] * len(REQUEST_BOUNDS_S))
    page.core.begin(job=job(), histograms=[odd, BARRIERS])
    told = page.read()
    assert not [name for name in told if "request_duration" in name]
    assert told["strata_barrier_wait_seconds_count"] == 4


@given(st.text(max_size=30).filter(bool))
def test_whatever_a_worker_calls_itself_is_one_label_of_one_line(name: str) -> None:
    page = Page()
    page.core.begin(job=job(), workers=[worker(name, step=5)])
    page.hub.tick()
    lines = [line for line in page.collector.render().decode().split("\n") if line.startswith("strata_worker_step{")]
    assert len(lines) == 1
    told: Any = next(family for family in families(page.collector.render()) if family.name == "strata_worker_step")
    assert [sample.labels["worker_id"] for sample in told.samples] == [name]


def test_the_page_is_made_at_most_once_a_second_however_many_ask() -> None:
    page = Page()
    page.core.begin(job=job(requests=1))
    first = page.collector.render()
    page.core.say(job=job(requests=2))
    assert page.collector.render() is first
    assert page.read()["strata_requests_total"] == 2


def test_the_page_about_metrics_names_every_family() -> None:
    told = (Path(__file__).parents[2] / "docs" / "run.md").read_text()
    for family in families_of(full()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in told or f"`{name.removeprefix('strata_worker')}`" in told, name


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_the_last_word_of_a_name(unit: str) -> None:
    for family in families_of(full()):
        if unit in family.name:
            assert family.name.endswith(unit), family.name
