"""Whom a result is told, how long it is kept, and that a forgotten one is not the same as one that never was."""

from __future__ import annotations

from dispatchkit import Driver, call, named
from dispatchkit.driver import outcome

from strata_zmq.domain.task import Task, TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.events import Attached, Detached, Finished, Watched

KEPT = TaskLimits(keep_s=10.0)


def ended(driver: Driver, session: int, *names: int, limits: TaskLimits = TaskLimits()) -> list[Task]:  # noqa: B008
    tasks = [call(name, limits) for name in names]
    driver.submit(*tasks)
    for task in tasks:
        driver.finish(session, task)
    return tasks


def test_a_result_is_kept_until_its_submitter_has_it() -> None:
    driver = Driver()
    (task,) = ended(driver, driver.enlist(), 1)
    driver.pass_time(3600.0)
    assert task.outcome is not None
    assert task.outcome.body == b"result"
    assert driver.see(task).forgotten == [task]
    assert driver.core.counts().ended == 0


def test_a_forgotten_result_is_known_to_have_been_until_its_tombstone_goes() -> None:
    driver = Driver(CoreConfig(tombstone_s=60.0))
    (task,) = ended(driver, driver.enlist(), 1)
    driver.see(task)
    driver.pass_time(59.0)
    found = driver.core.find(named(1))
    assert found is not None
    assert (found.state, found.outcome, found.body) == ("EXPIRED", None, None)
    driver.pass_time(1.0)
    assert driver.core.find(named(1)) is None


def test_a_tombstone_keeps_a_late_copy_of_a_submission_from_running_again() -> None:
    driver = Driver()
    session = driver.enlist()
    (task,) = ended(driver, session, 1)
    driver.see(task)
    driver.submit(call(1))
    assert driver.assigned(session) == []


def test_there_are_no_more_tombstones_than_allowed() -> None:
    driver = Driver(CoreConfig(tombstones_max=2))
    tasks = ended(driver, driver.enlist(), 1, 2, 3)
    driver.see(*tasks)
    driver.say()
    assert [driver.core.find(task.task_id) is None for task in tasks] == [True, False, False]


def test_another_client_cannot_let_go_of_a_result() -> None:
    driver = Driver()
    driver.attach("eve")
    (task,) = ended(driver, driver.enlist(), 1)
    assert driver.see(task, client="eve").forgotten == []


def test_a_result_with_a_time_to_keep_stays_when_it_was_seen_and_goes_when_the_time_is_over() -> None:
    driver = Driver()
    (task,) = ended(driver, driver.enlist(), 1, limits=KEPT)
    assert driver.see(task).forgotten == []
    assert driver.pass_time(9.0).forgotten == []
    assert driver.core.next_wakeup() == driver.now + 1.0
    assert driver.pass_time(1.0).forgotten == [task]
    assert task.state == "EXPIRED"


def test_what_a_client_has_not_seen_is_told_again_when_it_attaches() -> None:
    driver = Driver()
    one, two, three = ended(driver, driver.enlist(), 1, 2, 3)
    driver.see(two)
    assert driver.attach("ada").results == {"ada": [one, three]}


def test_a_client_that_does_not_ask_for_it_is_told_nothing() -> None:
    driver = Driver(ada=False)
    driver.attach("ada", deliver=False)
    (task,) = ended(driver, driver.enlist(), 1)
    assert driver.effects.results == {}
    assert driver.core.find(named(1)) is task


def test_whoever_watches_a_task_is_told_its_end_once() -> None:
    driver = Driver()
    session = driver.enlist()
    driver.attach("bob", deliver=False)
    tasks = [call(1), call(2)]
    driver.submit(*tasks)
    driver.say(Watched("bob", [named(1), named(2), named("unknown")], driver.now + 5.0))
    assert driver.finish(session, tasks[0]).results == {"ada": [tasks[0]], "bob": [tasks[0]]}
    driver.pass_time(5.0)
    assert driver.finish(session, tasks[1]).results == {"ada": [tasks[1]]}


def test_a_client_that_watches_its_own_task_is_told_once() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    driver.say(Watched("ada", [named(1)], driver.now + 5.0))
    assert driver.finish(session, task).results == {"ada": [task]}


def test_a_longer_watch_is_not_ended_by_a_shorter_one() -> None:
    driver = Driver()
    session = driver.enlist()
    driver.attach("bob", deliver=False)
    task = call(1)
    driver.submit(task)
    driver.say(Watched("bob", [named(1)], driver.now + 9.0), Watched("bob", [named(1)], driver.now + 1.0))
    driver.pass_time(2.0)
    assert driver.finish(session, task).results["bob"] == [task]


def test_the_results_that_ended_first_go_when_there_are_too_many_bytes() -> None:
    driver = Driver(CoreConfig(results_bytes_max=13))
    tasks = ended(driver, driver.enlist(), 1, 2, 3)
    assert driver.core.counts().result_bytes == 18
    assert driver.core.next_wakeup() == driver.now
    assert driver.say().forgotten == tasks[:1]
    assert driver.core.counts().result_bytes == 12
    assert [task.state for task in tasks] == ["EXPIRED", "COMPLETED", "COMPLETED"]


def test_a_result_that_nobody_comes_for_does_not_stay_for_ever() -> None:
    driver = Driver(CoreConfig(unseen_s=100.0))
    session = driver.enlist()
    (first,) = ended(driver, session, 1)
    driver.now += 1.0
    (second,) = ended(driver, session, 2)
    driver.pass_time(99.0)
    assert (first.state, second.state) == ("EXPIRED", "COMPLETED")
    driver.pass_time(1.0)
    assert second.state == "EXPIRED"


def test_in_one_process_what_is_delivered_is_forgotten_at_once() -> None:
    driver = Driver(CoreConfig(forget_delivered=True))
    session = driver.enlist()
    (task,) = ended(driver, session, 1)
    assert driver.effects.results == {"ada": [task]}
    assert driver.core.find(named(1)) is None
    assert driver.core.counts().result_bytes == 0
    (kept,) = ended(driver, session, 2, limits=KEPT)
    assert driver.core.find(named(2)) is kept


def test_a_payload_is_there_while_an_end_is_told_and_gone_with_the_next_step() -> None:
    driver = Driver()
    (task,) = ended(driver, driver.enlist(), 1)
    assert task.body == b"0123456789"
    driver.say()
    assert task.body is None
    assert task.outcome is not None


def test_a_client_that_has_gone_leaves_nothing_behind() -> None:
    driver = Driver()
    (task,) = ended(driver, driver.enlist(), 1)
    driver.say(Detached("ada"))
    assert task.state == "EXPIRED"
    assert driver.core._results.clients == {}


def test_buffers_of_a_result_are_counted_with_it() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    end = outcome(task)
    end.body = (b"head", memoryview(bytearray(1000)))
    driver.say(Finished(session, [end]))
    assert driver.core.counts().result_bytes == 1004
    driver.see(task)
    assert driver.core.counts().result_bytes == 0


def test_an_end_in_the_step_of_an_attachment_is_told_once() -> None:
    driver = Driver(ada=False)
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    effects = driver.say(Attached("ada"), Finished(session, [outcome(task)]), Attached("ada"))
    assert effects.results == {"ada": [task]}


def test_there_are_no_more_results_than_allowed_however_small_they_are() -> None:
    driver = Driver(CoreConfig(results_max=2))
    tasks = ended(driver, driver.enlist(), 1, 2, 3)
    driver.say()
    assert [task.state for task in tasks] == ["EXPIRED", "COMPLETED", "COMPLETED"]


def test_a_watched_end_in_the_step_of_an_attachment_is_told_with_what_was_unseen() -> None:
    driver = Driver(ada=False)
    session = driver.enlist(slots=2)
    driver.attach("bob", deliver=False)
    own, other = call(1, client="bob"), call(2)
    driver.submit(own, client="bob")
    driver.submit(other)
    driver.say(Watched("bob", [named(2)], driver.now + 5.0))
    effects = driver.say(Finished(session, [outcome(own), outcome(other)]), Attached("bob"))
    assert effects.results == {"bob": [other, own]}


def test_thousands_of_watches_of_a_task_that_has_ended_are_not_kept() -> None:
    driver = Driver()
    session = driver.enlist()
    driver.attach("bob", deliver=False)
    for number in range(5000):
        task = call(number)
        driver.submit(task)
        driver.say(Watched("bob", [task.task_id], driver.now + 3600.0))
        driver.finish(session, task)
    assert len(driver.core._results._watches._ends) < 3000


def test_a_client_that_was_refused_everything_and_is_not_attached_leaves_nothing_behind() -> None:
    driver = Driver(CoreConfig(queue_tasks_max=1))
    driver.submit(call(1))
    driver.submit(call(2, client="stranger"), client="stranger")
    assert list(driver.core._results.clients) == ["ada"]
