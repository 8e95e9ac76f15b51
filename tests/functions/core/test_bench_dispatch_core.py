"""Micro-benchmarks of the dispatcher's core, the share that it has of a task's life; run with --benchmark-enable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dispatchkit import Driver
from dispatchkit.driver import FUNCTION

from strata_zmq.domain.task import NO_LIMITS, Outcome, Task, TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.events import Finished, ResultsSeen, Submitted

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

BATCH = 64
DURABLE = TaskLimits(durability="commit")


@pytest.mark.parametrize("limits", [NO_LIMITS, DURABLE], ids=["none", "commit"])
def test_64_lives_of_tasks_in_one_batch(benchmark: BenchmarkFixture, limits: TaskLimits) -> None:
    """Submitted, assigned, finished and seen, at a worker that holds the whole batch."""
    driver = Driver(CoreConfig(tombstone_s=0.0))
    session = driver.enlist(slots=BATCH)
    made = 0

    def setup() -> tuple[tuple[list[Task]], dict[str, object]]:
        nonlocal made
        made += BATCH
        names = range(made, made + BATCH)
        return ([Task(name.to_bytes(16, "big"), "ada", FUNCTION, b"call", 4, limits) for name in names],), {}

    def live(tasks: list[Task]) -> list[Task]:
        given = driver.say(Submitted("ada", 1, tasks)).assigned[session]
        outcomes = [Outcome(task.task_id, task.attempt, "ok", b"result", 5e-5) for task in given]
        results = driver.say(Finished(session, outcomes)).results["ada"]
        driver.say(ResultsSeen("ada", [task.task_id for task in results]))
        return results

    results = benchmark.pedantic(live, setup=setup, rounds=200)
    assert [task.state for task in results] == ["EXPIRED"] * BATCH


def test_a_step_without_events_beside_10_000_waiting_tasks_and_100_busy_workers(benchmark: BenchmarkFixture) -> None:
    driver = Driver()
    for number in range(100):
        driver.enlist(f"w{number}", slots=4)
    driver.submit(*[Task(name.to_bytes(16, "big"), "ada", FUNCTION, b"call", 4) for name in range(10_000)])
    effects = benchmark(driver.say)
    assert effects.assigned == {}


def test_the_last_page_of_100_000_tasks(benchmark: BenchmarkFixture) -> None:
    driver = Driver()
    tasks = [Task(name.to_bytes(16, "big"), "ada", FUNCTION, b"call", 4) for name in range(100_000)]
    driver.submit(*tasks)
    page = benchmark(driver.core.page, tasks[-101].task_id, 100, None)
    assert page == tasks[-100:]
