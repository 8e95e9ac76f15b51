"""What a dispatcher's core can be asked: one task, a page of them, how much there is, when it wants to be woken."""

from __future__ import annotations

from dispatchkit import Driver, call, named

from strata_zmq.domain.task import TaskLimits


def test_pages_follow_each_other_in_the_order_of_acceptance() -> None:
    driver = Driver()
    tasks = [call(number) for number in range(7)]
    driver.submit(*tasks)
    found = []
    after = b""
    while page := driver.core.page(after, 3, None):
        found += page
        after = page[-1].task_id
    assert found == tasks


def test_a_page_can_be_of_one_state() -> None:
    driver = Driver()
    session = driver.enlist()
    tasks = [call(number) for number in range(4)]
    driver.submit(*tasks)
    driver.finish(session, tasks[0])
    driver.start(session, tasks[1])
    assert driver.core.page(b"", 10, "COMPLETED") == tasks[:1]
    assert driver.core.page(b"", 10, "RUNNING") == tasks[1:2]
    assert driver.core.page(tasks[1].task_id, 1, "QUEUED") == tasks[2:3]


def test_after_an_unknown_task_there_is_nothing() -> None:
    driver = Driver()
    driver.submit(call(1))
    assert driver.core.page(named("unknown"), 10, None) == []


def test_an_unknown_task_is_not_found() -> None:
    assert Driver().core.find(named("unknown")) is None


def test_an_idle_core_wants_not_to_be_woken() -> None:
    driver = Driver()
    assert driver.core.next_wakeup() is None
    driver.submit(call(1))
    assert driver.core.next_wakeup() is None


def test_a_deadline_that_says_nothing_any_more_wakes_nobody() -> None:
    driver = Driver()
    task = call(1, TaskLimits(queue_s=5.0, total_s=9.0))
    driver.submit(task)
    assert driver.core.next_wakeup() == driver.now + 5.0
    driver.cancel(task)
    assert driver.core.next_wakeup() == driver.now + 86_400.0, "its result waits for a day"


def test_of_thousands_of_tasks_that_have_ended_no_deadline_is_kept() -> None:
    driver = Driver()
    session = driver.enlist(slots=100)
    for round_ in range(100):
        tasks = [call(f"{round_}-{number}", TaskLimits(total_s=3600.0)) for number in range(100)]
        driver.submit(*tasks)
        driver.finish(session, *tasks)
        driver.see(*tasks)
    assert len(driver.core._deadlines._heap) < 3000


def test_waiting_tasks_that_are_cancelled_leave_no_trace_in_a_queue_that_nobody_serves() -> None:
    driver = Driver()
    limits = TaskLimits(labels={"gpu": 1})
    # Behind one that waits on: what is at the head is found to have ended anyway.
    driver.submit(call("first", limits))
    for number in range(1000):
        task = call(number, limits)
        driver.submit(task)
        driver.cancel(task)
    assert len(driver.core._queue.lane(limits).tasks) < 200


def test_counts_say_how_much_there_is() -> None:
    driver = Driver()
    session = driver.enlist(slots=2)
    tasks = [call(number) for number in range(3)]
    driver.submit(*tasks)
    driver.start(session, tasks[0])
    counts = driver.core.counts()
    assert (counts.queued, counts.running, counts.ended) == (2, 1, 0)
    assert (counts.workers, counts.slots, counts.queued_bytes) == (1, 2, 30)
    driver.finish(session, *tasks[:2])
    counts = driver.core.counts()
    assert (counts.queued, counts.running, counts.ended, counts.result_bytes) == (1, 0, 2, 12)
    assert (counts.accepted_total, counts.ended_total) == (3, 2)


def test_credit_is_none_for_a_session_that_is_not_there() -> None:
    driver = Driver()
    assert driver.core.credit_of(1) == 0
    session = driver.enlist(slots=3)
    assert driver.core.credit_of(session) == 3
    driver.submit(call(1))
    assert driver.core.credit_of(session) == 2
