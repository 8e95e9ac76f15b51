"""How a task ends, and what an attempt that went wrong costs: three budgets, and nothing for who had not started."""

from __future__ import annotations

import pytest
from dispatchkit import Driver, call, named
from dispatchkit.driver import outcome

from strata_zmq.domain.task import Budget, Cause, State, Task, TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.effects import CancelVerdicts
from strata_zmq.functions.dispatch.ends import BACKSTOP_S
from strata_zmq.functions.dispatch.events import Detached, Finished
from strata_zmq.functions.dispatch.records import Begun, Ended, Requeued
from strata_zmq.functions.failures import failure_of

RETRIES = TaskLimits(retries_error=1, retries_lost=1, retries_memory=1)
NO_RETRY: tuple[Cause, ...] = (
    "deadline",
    "unpicklable_result",
    "unpicklable_error",
    "unloadable_call",
    "result_too_large",
    "initializer",
)
LOST: tuple[Cause, ...] = ("worker_lost", "killed", "exited")


def running(limits: TaskLimits = TaskLimits(), config: CoreConfig | None = None) -> tuple[Driver, int, Task]:  # noqa: B008
    driver = Driver(config)
    session = driver.enlist()
    task = call(1, limits)
    driver.submit(task)
    driver.start(session, task)
    return driver, session, task


def states(driver: Driver) -> tuple[State | None, ...]:
    verdict = driver.effects.verdicts[0]
    assert isinstance(verdict, CancelVerdicts)
    return verdict.states


@pytest.mark.parametrize("cause", ["", "out_of_memory", *LOST])
def test_each_way_to_fail_has_its_own_budget(cause: Cause) -> None:
    driver, session, task = running(RETRIES)
    driver.fail(session, task, cause)
    assert (task.state, task.attempt) == ("QUEUED", 2)
    assert task.budget is not None
    left = (task.budget.error, task.budget.lost, task.budget.memory)
    assert left == {"": (0, 1, 1), "out_of_memory": (1, 1, 0)}.get(cause, (1, 0, 1))
    driver.start(session, task)
    effects = driver.fail(session, task, cause)
    assert effects.results == {"ada": [task]}
    assert task.state == "FAILED"


@pytest.mark.parametrize("cause", ["", "out_of_memory", *LOST, *NO_RETRY])
def test_without_a_budget_the_first_failure_is_the_end(cause: Cause) -> None:
    driver, session, task = running()
    assert driver.fail(session, task, cause).results == {"ada": [task]}
    assert task.state == "FAILED"
    assert task.outcome is not None
    assert (task.outcome.kind, task.outcome.cause) == ("failure" if cause else "error", cause)


@pytest.mark.parametrize("cause", NO_RETRY)
def test_what_would_go_wrong_again_is_not_tried_again(cause: Cause) -> None:
    driver, session, task = running(RETRIES)
    driver.fail(session, task, cause)
    assert task.state == "FAILED"


@pytest.mark.parametrize("cause", ["out_of_memory", *LOST])
def test_an_attempt_that_had_not_started_costs_nothing(cause: Cause) -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    driver.fail(session, task, cause, started=False)
    assert (task.state, task.attempt, task.budget, task.deaths) == ("QUEUED", 2, None, 0)


def test_a_retried_task_waits_behind_the_others() -> None:
    driver, session, task = running(RETRIES)
    other = call(2)
    driver.submit(other)
    driver.fail(session, task)
    assert driver.assigned(session) == [other]
    driver.finish(session, other)
    assert driver.assigned(session) == [task]


def test_a_worker_that_is_lost_with_many_calls_of_a_function_is_one_death_of_it() -> None:
    driver = Driver(CoreConfig(quarantine_deaths=2))
    session = driver.enlist(slots=4)
    tasks = [call(number) for number in range(4)]
    driver.submit(*tasks)
    driver.start(session, *tasks)
    driver.lose(session)
    assert [task.state for task in tasks] == ["FAILED"] * 4
    assert driver.submit(call(9)).refused == ()


def test_a_waiting_task_is_cancelled_at_once() -> None:
    driver = Driver()
    task = call(1)
    driver.submit(task)
    effects = driver.cancel(task)
    assert states(driver) == ("CANCELLED",)
    assert effects.results == {"ada": [task]}
    assert effects.stopped == {}
    session = driver.enlist()
    assert driver.assigned(session) == []


def test_an_unknown_task_and_an_ended_one_are_not_changed_by_a_cancellation() -> None:
    driver, session, task = running()
    driver.finish(session, task)
    driver.cancel(task, call("unknown"), running=True)
    assert states(driver) == ("COMPLETED", None)


def test_a_running_task_is_only_cancelled_where_that_is_asked() -> None:
    driver, session, task = running()
    driver.cancel(task)
    assert (states(driver), driver.effects.stopped) == (("RUNNING",), {})
    driver.cancel(task, running=True)
    assert states(driver) == ("RUNNING",)
    assert driver.effects.stopped == {session: [(named(1), 1)]}
    assert driver.fail(session, task, "cancelled").results == {"ada": [task]}
    assert task.state == "CANCELLED"


def test_an_assigned_task_is_cancelled_when_its_worker_has_dropped_it() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    driver.cancel(task)
    assert (states(driver), driver.effects.stopped) == (("QUEUED",), {session: [(named(1), 1)]})
    driver.fail(session, task, "cancelled", started=False)
    assert task.state == "CANCELLED"


def test_a_result_that_was_first_wins_over_a_cancellation() -> None:
    driver, session, task = running()
    driver.cancel(task, running=True)
    driver.finish(session, task)
    assert task.state == "COMPLETED"


@pytest.mark.parametrize(("cause", "state"), [("", "FAILED"), ("killed", "CANCELLED"), ("worker_lost", "CANCELLED")])
def test_a_task_that_is_being_cancelled_is_not_tried_again(cause: Cause, state: State) -> None:
    driver, session, task = running(RETRIES)
    driver.cancel(task, running=True)
    driver.fail(session, task, cause)
    assert task.state == state


def test_a_task_that_is_being_cancelled_and_given_back_is_cancelled() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    driver.cancel(task)
    assert driver.give_back(session, task).results == {"ada": [task]}
    assert task.state == "CANCELLED"


def test_a_cancellation_reaches_a_worker_that_has_come_back_in_between() -> None:
    driver, session, task = running()
    driver.cancel(task, running=True)
    again = driver.enlist("w", held=((named(1), 1, "running"),))
    assert driver.effects.stopped == {again: [(named(1), 1)]}
    driver.fail(again, task, "cancelled")
    assert task.state == "CANCELLED"
    assert session != again


def test_a_pools_own_word_that_a_call_was_cancelled_is_enough() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1, RETRIES)
    driver.submit(task)
    driver.fail(session, task, "cancelled", started=False)
    assert task.state == "CANCELLED"


def test_a_task_that_waits_too_long_for_its_first_start_expires() -> None:
    driver = Driver()
    task = call(1, TaskLimits(queue_s=2.0))
    driver.submit(task)
    assert driver.core.next_wakeup() == driver.now + 2.0
    assert driver.pass_time(2.0).results == {"ada": [task]}
    assert task.outcome is not None
    assert (task.state, task.outcome.cause) == ("FAILED", "queue_expired")


def test_waiting_for_a_second_start_is_no_matter_of_queue_s() -> None:
    driver, session, task = running(TaskLimits(queue_s=2.0, retries_error=1))
    driver.pass_time(1.5)
    driver.fail(session, task)
    driver.pass_time(1.0)
    assert task.state == "QUEUED"


def test_an_assigned_task_that_was_not_started_in_time_is_taken_from_its_worker() -> None:
    driver = Driver()
    session = driver.enlist()
    task, other = call(1, TaskLimits(queue_s=2.0)), call(2)
    driver.submit(task, other)
    effects = driver.pass_time(2.0)
    assert (effects.results, effects.stopped) == ({"ada": [task]}, {session: [(named(1), 1)]})
    assert driver.assigned(session) == [], "its place is free only when the worker says so"
    driver.say(Finished(session, [outcome(task, "failure", "cancelled", started=False)]))
    assert driver.assigned(session) == [other]
    assert task.state == "FAILED"
    assert driver.core.counts().late_results == 1


def test_a_total_deadline_ends_a_task_wherever_it_is() -> None:
    limits = TaskLimits(total_s=2.0, retries_lost=5)
    driver, session, task = running(limits)
    waiting = call(2, limits)
    driver.submit(waiting)
    effects = driver.pass_time(2.0)
    assert effects.results == {"ada": [task, waiting]}
    assert effects.stopped == {session: [(named(1), 1)]}
    for ended in (task, waiting):
        assert ended.outcome is not None
        assert ended.outcome.cause == "deadline"
        assert str(failure_of(ended.outcome)).startswith("exceeded deadline")


def test_the_core_ends_an_attempt_late_that_its_worker_should_have_ended() -> None:
    """Only late: what it was told has begun may wait for a child that takes seconds to start."""
    driver, session, task = running(TaskLimits(attempt_s=1.0))
    driver.pass_time(BACKSTOP_S + 0.5)
    assert task.state == "RUNNING"
    effects = driver.pass_time(0.5)
    assert effects.stopped == {session: [(named(1), 1)]}
    assert task.state == "FAILED"
    assert task.outcome is not None
    assert "exceeded deadline of 1 s" in str(failure_of(task.outcome))


def test_an_attempts_deadline_does_not_end_the_next_attempt() -> None:
    driver, session, task = running(TaskLimits(attempt_s=1.0, retries_error=1))
    driver.pass_time(0.9)
    driver.fail(session, task)
    driver.start(session, task)
    driver.pass_time(BACKSTOP_S + 0.5)
    assert (task.state, task.attempt) == ("RUNNING", 2)


def test_what_nobody_will_read_is_not_begun_any_more() -> None:
    driver = Driver()
    session = driver.enlist()
    started, waiting, durable = call(1), call(2), call(3, TaskLimits(durability="commit"))
    driver.submit(started, waiting, durable)
    driver.start(session, started)
    driver.say(Detached("ada"))
    assert (waiting.state, started.state) == ("EXPIRED", "RUNNING")
    driver.finish(session, started)
    assert driver.assigned(session) == [durable]
    driver.finish(session, durable)
    assert durable.state == "COMPLETED"
    assert driver.attach("ada").results == {"ada": [durable]}


def test_a_client_that_comes_back_finds_its_tasks_where_it_has_not_given_them_up() -> None:
    driver, session, task = running()
    driver.say(Detached("ada", abandon=False))
    assert driver.finish(session, task).results == {}
    assert driver.attach("ada").results == {"ada": [task]}


def test_what_may_begin_what_waits_again_and_what_ends_is_written_down() -> None:
    driver = Driver(CoreConfig(wall_offset_s=1000.0))
    session = driver.enlist("west")
    task = call(1, TaskLimits(durability="commit", retries_error=1))
    driver.submit(task)
    assert driver.effects.records[1:] == [Begun(named(1), 1, "west")]
    driver.fail(session, task)
    assert driver.effects.records == [Requeued(named(1), 1, Budget(0, 0, 0)), Begun(named(1), 2, "west")]
    driver.finish(session, task)
    assert task.outcome is not None
    assert driver.effects.records == [Ended(named(1), "COMPLETED", task.outcome, 1100.0)]


def test_a_worker_cannot_end_what_another_one_has() -> None:
    driver, session, task = running()
    thief = driver.enlist("thief")
    driver.finish(thief, task)
    assert task.state == "RUNNING"
    assert driver.core.counts().late_results == 1
    assert driver.finish(session, task).results == {"ada": [task]}


def test_a_failure_says_which_worker_and_what_happened() -> None:
    driver, session, task = running()
    driver.lose(session)
    assert task.outcome is not None
    error = failure_of(task.outcome)
    assert str(error) == "its worker was lost while it ran: w: its process ended"
    assert (error.cause, error.worker, error.attempt) == ("worker_lost", "w", 1)


def test_a_cancellation_says_who_asked_for_it() -> None:
    driver = Driver()
    task = call(1)
    driver.submit(task)
    driver.cancel(task)
    assert task.outcome is not None
    assert str(failure_of(task.outcome)) == "it was cancelled by ada"
