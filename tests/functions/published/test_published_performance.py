"""The published report, performance: that work is done side by side. What it takes is measured by the bench."""

from __future__ import annotations

import time

import pytest
from publishedkit.service import Service


def nap(seconds):
    """Return when it began and ended, by the clock that all processes of a machine share."""
    import time

    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def noop():
    return None


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """Return how many of the spans overlap at some moment, at most."""
    changes = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def run(client, function_id: str, count: int, *args: object) -> list:
    ids = [client.execute(function_id, *args) for _ in range(count)]
    ends = [client.wait(task_id) for task_id in ids]
    assert {status for status, _ in ends} == {"COMPLETED"}
    return [value for _, value in ends]


def test_no_ops_are_completed_one_after_the_other(client, record_property) -> None:
    function_id = client.register(noop)
    began = time.perf_counter()
    for _ in range(50):
        assert client.wait(client.execute(function_id), poll_s=0.001) == ("COMPLETED", None)
    record_property("seconds_per_task", (time.perf_counter() - began) / 50)


def test_twenty_naps_of_half_a_second_take_five_rounds_of_four(service, client) -> None:
    spans = run(client, client.register(nap), 20, 0.5)
    assert most_at_once(spans) == service.workers == 4
    # Five rounds are 2.5 s, which the bench holds to 2.6; one after the other they take 10 on any machine.
    assert max(ended for _, ended in spans) - min(began for began, _ in spans) < 10


def test_four_workers_do_four_times_as_much_at_once_as_one(service, client, tmp_path) -> None:
    """Weak scaling: as many naps for each worker, and all workers have theirs at the same time."""
    smallest = Service(tmp_path, service.mode, 1)
    try:
        assert most_at_once(run(smallest.client, smallest.client.register(nap), 4, 0.1)) == 1
    finally:
        smallest.stop()
    assert most_at_once(run(client, client.register(nap), 16, 0.1)) == 4


@pytest.mark.parametrize("size", [1, 10, 100])
def test_batches_of_any_size_are_completed(client, size, record_property) -> None:
    function_id = client.register(noop)
    began = time.perf_counter()
    assert run(client, function_id, size) == [None] * size
    record_property("tasks_per_second", size / (time.perf_counter() - began))
