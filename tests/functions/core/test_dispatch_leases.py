"""Workers that fall silent, come back, or speak under an old session: what stays theirs, and what does not."""

from __future__ import annotations

from math import inf

import pytest
from dispatchkit import Driver, call, named
from dispatchkit.driver import outcome

from strata_zmq.domain.task import Task, TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.ends import BACKSTOP_S
from strata_zmq.functions.dispatch.events import Finished, WorkerAlive, WorkerEnlisted


def busy(slots: int = 3, limits: TaskLimits = TaskLimits()) -> tuple[Driver, int, list[Task]]:  # noqa: B008
    """A worker with a started task, and others that have not started."""
    driver = Driver(CoreConfig(lease_s=5.0))
    session = driver.enlist("w", slots)
    tasks = [call(number, limits) for number in range(slots)]
    driver.submit(*tasks)
    driver.start(session, tasks[0])
    return driver, session, tasks


def test_what_a_worker_brings_back_stays_its_own_under_the_same_attempt() -> None:
    driver, old, tasks = busy()
    new = driver.enlist("w", 3, held=((named(0), 1, "running"), (named(1), 1, "waiting"), (named(2), 1, "done")))
    assert [session for session, _ in driver.effects.lost] == [old]
    assert driver.core.held_by(new) == [(named(0), 1), (named(1), 1), (named(2), 1)]
    assert driver.core.held_by(old) == []
    assert [task.state for task in tasks] == ["RUNNING", "QUEUED", "RUNNING"]
    effects = driver.finish(new, *tasks)
    assert effects.results == {"ada": tasks}


def test_what_a_worker_does_not_bring_back_is_lost_if_it_had_started_and_else_goes_elsewhere() -> None:
    driver, _, tasks = busy()
    new = driver.enlist("w", 3, held=((named(2), 1, "waiting"),))
    assert (tasks[0].state, driver.effects.results) == ("FAILED", {"ada": [tasks[0]]})
    assert driver.core.held_by(new) == [(named(2), 1), (named(1), 2)]


def test_what_a_worker_brings_that_is_no_longer_its_own_is_not_among_what_it_holds() -> None:
    driver, session, tasks = busy()
    driver.lose(session)
    other = driver.enlist("other", 3)
    assert driver.assigned(other) == tasks[1:]
    back = driver.enlist("w", 3, held=tuple((named(number), 1, "running") for number in range(3)))
    assert driver.core.held_by(back) == []
    driver.say(Finished(back, [outcome(task) for task in tasks]))
    assert driver.core.counts().late_results == 3
    assert driver.finish(other, *tasks[1:]).results == {"ada": tasks[1:]}


def test_a_started_task_that_a_worker_has_waiting_again_has_not_started() -> None:
    """Its child died before it got there: were the worker lost now, the task would lose nothing."""
    driver, _, tasks = busy(slots=1)
    new = driver.enlist("w", 1, held=((named(0), 1, "waiting"),))
    assert tasks[0].state == "QUEUED"
    assert driver.core.counts().running == 0
    driver.lose(new)
    assert (tasks[0].state, tasks[0].budget) == ("QUEUED", None)


def test_what_a_worker_has_done_and_could_not_tell_does_not_run_again_for_nothing() -> None:
    driver, _, tasks = busy(slots=2)
    new = driver.enlist("w", 2, held=((named(1), 1, "done"),))
    driver.lose(new)
    assert tasks[1].outcome is not None
    assert (tasks[1].state, tasks[1].outcome.cause) == ("FAILED", "worker_lost")


def test_a_workers_number_is_not_used_again_for_a_task_that_is_submitted_to_a_new_life() -> None:
    driver = Driver()
    task = call(1)
    driver.submit(task)
    session = driver.enlist("w", held=((named(1), 4, "running"),))
    assert driver.assigned(session) == [task]
    assert task.attempt == 5
    assert driver.core.held_by(session) == [(named(1), 5)]


def test_a_session_is_opened_once() -> None:
    driver = Driver()
    session = driver.enlist("w")
    driver.say(WorkerEnlisted(session, "another", 4, "push", {}, "3.11"))
    assert driver.core.counts().slots == 1


def test_a_word_in_the_very_step_in_which_a_lease_runs_out_renews_it() -> None:
    driver, session, _ = busy()
    driver.now += 5.0
    assert driver.say(WorkerAlive(session)).lost == []


def test_a_dispatcher_that_was_away_gives_its_workers_a_moment_to_be_heard() -> None:
    driver, session, _ = busy()
    driver.pass_time(20.0)
    assert driver.effects.lost == []
    at = driver.core.next_wakeup()
    assert at == pytest.approx(driver.now + 1.25)
    driver.say(WorkerAlive(session))
    driver.pass_time(2.0)
    assert driver.effects.lost == []


def test_a_worker_that_is_silent_after_that_moment_is_lost() -> None:
    driver, session, _ = busy()
    driver.pass_time(20.0)
    driver.now = driver.core.next_wakeup() or 0.0
    assert [lost for lost, _ in driver.say().lost] == [session]


def test_rare_events_do_not_keep_a_silent_worker_alive() -> None:
    driver, session, _ = busy()
    lost: list[int] = []
    number = 100
    while not lost and driver.now < 200.0:
        at = driver.core.next_wakeup()
        assert at is not None
        driver.now = min(at, driver.now + 3.0)
        number += 1
        driver.submit(call(number))
        lost = [ended for ended, _ in driver.effects.lost]
    assert lost == [session]
    assert driver.now <= 100.0 + 2 * 5.0


def test_a_lease_without_end_never_ends() -> None:
    driver = Driver(CoreConfig(lease_s=inf))
    driver.enlist()
    assert driver.core.next_wakeup() is None
    driver.pass_time(1e9)
    assert driver.effects.lost == []


def test_words_of_an_unknown_session_change_nothing() -> None:
    driver, session, tasks = busy()
    effects = driver.say(
        Finished(99, [outcome(tasks[0])]),
        WorkerAlive(99),
    )
    assert (effects.results, effects.lost) == ({}, [])
    assert driver.core.counts().late_results == 1
    assert session in {task.worker for task in tasks}


def test_a_retired_workers_goodbye_ends_its_session() -> None:
    driver, session, tasks = busy(slots=1)
    driver.finish(session, *tasks)
    assert driver.lose(session).results == {}
    assert driver.core.counts().workers == 0


def test_the_log_says_who_is_lost_and_why() -> None:
    driver, session, _ = busy()
    assert driver.lose(session).notes == ["worker w is gone: its process ended"]
    assert driver.say().notes == []


def test_an_attempts_deadline_begins_anew_for_a_worker_that_has_begun_it_unheard() -> None:
    driver = Driver()
    driver.enlist("w")
    task = call(1, TaskLimits(attempt_s=1.0))
    driver.submit(task)
    driver.enlist("w", held=((named(1), 1, "running"),))
    driver.pass_time(BACKSTOP_S + 0.9)
    assert task.state == "RUNNING"
    driver.pass_time(0.1)
    assert task.state == "FAILED"


def test_of_workers_that_are_gone_nothing_is_kept() -> None:
    driver = Driver()
    for number in range(10):
        driver.lose(driver.enlist(f"w{number}"))
    assert (driver.core._workers.by_session, driver.core._workers._sessions) == ({}, {})
