"""A task's way through the dispatcher's core: accepted once, run by one worker at a time, ended once."""

from __future__ import annotations

import pytest
from dispatchkit import Driver, call, named

from strata_zmq.domain.task import TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig, CoreCounts


def test_a_task_is_accepted_given_to_a_worker_and_its_result_delivered() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    verdict = driver.submit(task)
    assert (verdict.refused, verdict.existing) == ((), ())
    assert driver.assigned(session) == [task]
    assert (task.state, task.attempt, task.worker) == ("QUEUED", 1, session)
    driver.start(session, task)
    assert (task.state, task.started_at) == ("RUNNING", driver.now)
    effects = driver.finish(session, task)
    assert effects.results == {"ada": [task]}
    assert task.state == "COMPLETED"
    assert task.outcome is not None
    assert task.outcome.body == b"result"
    assert driver.core.counts() == CoreCounts(0, 0, 1, 1, 1, 0, 6, 1, 1, 0, 0, 0, 0)


def test_a_workers_first_word_on_a_short_task_may_be_its_end() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    assert driver.finish(session, task).results == {"ada": [task]}
    assert task.state == "COMPLETED"


def test_a_task_that_is_submitted_again_is_the_same_task() -> None:
    driver = Driver()
    session = driver.enlist(slots=4)
    first = call(1)
    driver.submit(first)
    again = driver.submit(call(1), call(2))
    assert again.refused == ()
    assert [task.task_id for task in driver.assigned(session)] == [named(2)]
    assert driver.core.counts().accepted_total == 2
    assert driver.core.find(named(1)) is first


def test_tasks_wait_in_the_order_of_their_acceptance() -> None:
    driver = Driver()
    tasks = [call(number) for number in range(5)]
    driver.submit(*tasks[:3])
    driver.submit(*tasks[3:])
    session = driver.enlist(slots=2)
    assert driver.assigned(session) == tasks[:2]
    for number in range(2, 5):
        driver.finish(session, tasks[number - 2])
        assert driver.assigned(session) == [tasks[number]]


def test_a_second_result_of_an_attempt_changes_nothing() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    driver.finish(session, task)
    assert driver.finish(session, task).results == {}
    assert driver.core.counts().late_results == 1
    assert driver.core.counts().ended_total == 1


def test_a_result_of_an_attempt_that_is_no_longer_the_tasks_is_refused() -> None:
    driver = Driver()
    slow = driver.enlist("slow")
    task = call(1, TaskLimits(retries_lost=1))
    driver.submit(task)
    driver.start(slow, task)
    driver.lose(slow)
    assert driver.effects.lost == [(slow, "its process ended")]
    other = driver.enlist("other")
    assert driver.assigned(other) == [task]
    assert driver.finish(slow, task).results == {}
    assert (task.state, driver.core.counts().late_results) == ("QUEUED", 1)
    assert driver.finish(other, task).results == {"ada": [task]}


def test_a_lost_workers_started_task_fails_and_its_unstarted_one_goes_elsewhere_for_nothing() -> None:
    driver = Driver()
    lost = driver.enlist("lost", slots=2)
    started, unstarted = call(1), call(2)
    driver.submit(started, unstarted)
    driver.start(lost, started)
    other = driver.enlist("other")
    effects = driver.lose(lost)
    assert effects.results == {"ada": [started]}
    assert started.state == "FAILED"
    assert started.outcome is not None
    assert started.outcome.cause == "worker_lost"
    assert driver.assigned(other) == [unstarted]
    assert (unstarted.attempt, unstarted.budget) == (2, None)


def test_silence_for_a_lease_loses_a_worker_and_any_word_renews_it() -> None:
    driver = Driver(CoreConfig(lease_s=5.0))
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    for _ in range(4):
        driver.pass_time(2.0)
        driver.start(session, task)
    driver.pass_time(2.0)
    assert driver.core.next_wakeup() == driver.now + 3.0
    driver.pass_time(2.0)
    assert driver.effects.lost == []
    driver.pass_time(1.0)
    assert [session for session, _ in driver.effects.lost] == [session]
    assert task.state == "FAILED"


@pytest.mark.parametrize("mode", ["push", "pull"])
def test_a_worker_of_either_mode_gets_a_task_for_each_slot(mode: str) -> None:
    driver = Driver()
    session = driver.enlist(slots=3, mode="pull" if mode == "pull" else "push")
    if mode == "pull":
        driver.want(session, 3)
    driver.submit(*[call(number) for number in range(5)])
    assert len(driver.assigned(session)) == 3
    assert len(driver.core.held_by(session)) == 3


def test_a_pulling_worker_gets_no_more_than_it_wants() -> None:
    driver = Driver()
    session = driver.enlist(slots=1, mode="pull")
    tasks = [call(number) for number in range(8)]
    driver.submit(*tasks)
    assert driver.assigned(session) == []
    driver.want(session, 4)
    assert driver.assigned(session) == tasks[:4]
    driver.finish(session, tasks[0])
    assert driver.assigned(session) == []
    driver.want(session, 2)
    assert driver.assigned(session) == tasks[4:6]
