"""Who gets which task: a free slot first, then prefetch by credit; labels, bytes, and tasks that are asked back."""

from __future__ import annotations

import pytest
from dispatchkit import Driver, call
from dispatchkit.driver import FUNCTION

from strata_zmq.domain.task import Task, TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.events import Attempt, WorkerRetiring

GPU = TaskLimits(labels={"gpu": 1})
TWO_GPUS = TaskLimits(labels={"gpu": 2})


def attempts(tasks: list[Task]) -> list[Attempt]:
    return [(task.task_id, task.attempt) for task in tasks]


def learn(driver: Driver, session: int, seconds: float, function: bytes = FUNCTION) -> None:
    """Let the core measure a function."""
    for number in range(4):
        task = call(f"learn{driver.seq}-{number}", function=function)
        driver.submit(task)
        driver.finish(session, task, service_s=seconds)


def test_an_unknown_function_is_not_prefetched() -> None:
    driver = Driver()
    session = driver.enlist(slots=2)
    driver.submit(*[call(number) for number in range(10)])
    assert len(driver.assigned(session)) == 2


def test_a_long_function_is_not_prefetched() -> None:
    driver = Driver()
    session = driver.enlist(slots=2)
    learn(driver, session, 0.5)
    driver.submit(*[call(number) for number in range(10)])
    assert len(driver.assigned(session)) == 2


def test_a_short_function_is_prefetched_for_a_span_of_time() -> None:
    """20 ms of work beyond the running ones: with calls of 1 ms, 20 for each of 2 children."""
    driver = Driver()
    session = driver.enlist(slots=2)
    learn(driver, session, 0.001)
    driver.submit(*[call(number) for number in range(100)])
    assert len(driver.assigned(session)) == 42
    assert driver.core.credit_of(session) == 0


def test_a_long_call_waits_until_short_ones_have_left_it_a_slot() -> None:
    driver = Driver()
    session = driver.enlist(slots=1)
    learn(driver, session, 0.001)
    short = [call(number) for number in range(5)]
    long_one = call("long", function=b"long")
    driver.submit(*short, long_one)
    assert driver.assigned(session) == short
    driver.finish(session, *short, service_s=0.001)
    assert driver.assigned(session) == [long_one]


def test_every_free_slot_gets_a_task_before_any_worker_gets_a_second() -> None:
    driver = Driver()
    sessions = [driver.enlist(f"w{number}", slots=2) for number in range(3)]
    learn(driver, sessions[0], 0.0001)
    driver.submit(*[call(number) for number in range(6)])
    assert [len(driver.assigned(session)) for session in sessions] == [2, 2, 2]


def test_few_tasks_are_spread_over_the_workers() -> None:
    driver = Driver()
    sessions = [driver.enlist(f"w{number}", slots=8) for number in range(4)]
    driver.submit(*[call(number) for number in range(4)])
    assert [len(driver.assigned(session)) for session in sessions] == [1, 1, 1, 1]


def test_prefetch_is_dealt_in_equal_parts() -> None:
    driver = Driver()
    sessions = [driver.enlist(f"w{number}", slots=1) for number in range(2)]
    learn(driver, sessions[0], 0.0005)
    driver.submit(*[call(number) for number in range(30)])
    assert [len(driver.assigned(session)) for session in sessions] == [15, 15]


def test_a_task_goes_where_its_resource_is_free() -> None:
    driver = Driver()
    plain = driver.enlist("plain", slots=4)
    gpu = driver.enlist("gpu", slots=4, labels={"gpu": 2})
    tasks = [call(number, GPU) for number in range(3)]
    driver.submit(*tasks)
    assert driver.assigned(plain) == []
    assert driver.assigned(gpu) == tasks[:2]
    driver.finish(gpu, tasks[0])
    assert driver.assigned(gpu) == tasks[2:]


def test_a_task_that_needs_more_than_is_free_waits_and_plain_ones_pass_it() -> None:
    driver = Driver()
    session = driver.enlist(slots=4, labels={"gpu": 2})
    one, both, plain = call(1, GPU), call(2, TWO_GPUS), call(3)
    driver.submit(one, both, plain)
    assert driver.assigned(session) == [one, plain]
    driver.finish(session, one)
    assert driver.assigned(session) == [both]


def test_a_resource_is_free_again_however_its_task_ends() -> None:
    driver = Driver()
    session = driver.enlist(slots=4, labels={"gpu": 1})
    tasks = [call(number, GPU) for number in range(4)]
    driver.submit(*tasks)
    driver.fail(session, tasks[0])
    assert driver.assigned(session) == [tasks[1]]
    driver.fail(session, tasks[1], "killed")
    assert driver.assigned(session) == [tasks[2]]
    driver.give_back(session, tasks[2])
    driver.pass_time(1.0)
    assert driver.assigned(session) == [tasks[2]]


def test_the_oldest_waiting_task_is_served_first_over_all_needs() -> None:
    driver = Driver()
    gpu, plain = call(1, GPU), call(2)
    driver.submit(gpu)
    driver.now += 1.0
    driver.submit(plain)
    session = driver.enlist(slots=1, labels={"gpu": 1})
    assert driver.assigned(session) == [gpu]


def test_a_worker_holds_no_more_bytes_than_allowed_unless_it_holds_one_task() -> None:
    driver = Driver(CoreConfig(worker_bytes_max=100))
    session = driver.enlist(slots=4)
    huge, small = call(1, nbytes=500), call(2)
    driver.submit(huge, small)
    assert driver.assigned(session) == [huge]
    driver.finish(session, huge)
    assert driver.assigned(session) == [small]


def test_a_retiring_worker_gets_nothing_and_finishes_what_it_has() -> None:
    driver = Driver()
    session = driver.enlist(slots=2)
    one, two, three = call(1), call(2), call(3)
    driver.submit(one, two)
    driver.start(session, one)
    driver.say(WorkerRetiring(session))
    driver.give_back(session, two)
    driver.submit(three)
    driver.pass_time(1.0)
    assert driver.assigned(session) == []
    assert driver.finish(session, one).results == {"ada": [one]}
    other = driver.enlist("other", slots=2)
    assert driver.assigned(other) == [two, three]


def test_returned_tasks_come_first_again_in_their_order_and_have_cost_nothing() -> None:
    driver = Driver()
    session = driver.enlist(slots=3)
    tasks = [call(number) for number in range(5)]
    driver.submit(*tasks)
    driver.give_back(session, tasks[1], tasks[2])
    other = driver.enlist("other", slots=4)
    assert driver.assigned(other) == tasks[1:]
    assert [task.attempt for task in tasks] == [1, 2, 2, 1, 1]
    assert all(task.budget is None for task in tasks)


def test_who_gives_tasks_back_unasked_rests_before_it_gets_more() -> None:
    driver = Driver()
    session = driver.enlist()
    task = call(1)
    driver.submit(task)
    driver.give_back(session, task)
    assert driver.assigned(session) == []
    at = driver.core.next_wakeup()
    assert at == pytest.approx(driver.now + 0.1)
    driver.now = at
    driver.say()
    assert driver.assigned(session) == [task]


def stalled(driver: Driver) -> tuple[int, int, list[Task]]:
    """A worker whose one child hangs in the first of its tasks, and an idle one."""
    slow = driver.enlist("slow", slots=1)
    learn(driver, slow, 0.001)
    tasks = [call(number) for number in range(10)]
    driver.submit(*tasks)
    driver.start(slow, tasks[0])
    return slow, driver.enlist("idle", slots=2), tasks


def test_prefetched_tasks_are_asked_back_from_a_worker_at_which_nothing_ends() -> None:
    driver = Driver(CoreConfig(stall_s=0.02))
    slow, idle, tasks = stalled(driver)
    assert driver.effects.recalled == {}
    at = driver.core.next_wakeup()
    assert at == pytest.approx(driver.now + 0.02)
    driver.now = at
    driver.say()
    assert driver.effects.recalled == {slow: 9}
    driver.pass_time(0.1)
    assert driver.effects.recalled == {}
    driver.give_back(slow, *tasks[1:])
    assert set(driver.core.held_by(slow)) == {(tasks[0].task_id, 1)}
    assert driver.assigned(idle)[:2] == tasks[1:3]


def test_a_stalled_worker_is_not_given_more_than_its_slots_until_something_ends() -> None:
    driver = Driver()
    slow, idle, tasks = stalled(driver)
    driver.pass_time(0.02)
    driver.give_back(slow, *tasks[1:])
    driver.submit(*[call(f"more{number}") for number in range(100)])
    assert driver.assigned(slow) == []
    driver.finish(slow, tasks[0], service_s=0.5)
    assert driver.assigned(slow) != []
    assert driver.assigned(idle) == []


def test_a_stalled_worker_that_pulls_is_not_given_what_was_asked_back_from_it() -> None:
    driver = Driver()
    slow = driver.enlist("slow", slots=1, mode="pull")
    driver.want(slow, 6)
    tasks = [call(number) for number in range(6)]
    driver.submit(*tasks)
    driver.start(slow, tasks[0])
    driver.enlist("idle", slots=1)
    driver.pass_time(0.02)
    assert driver.effects.recalled == {slow: 5}
    driver.give_back(slow, *tasks[1:])
    driver.want(slow, 5)
    assert len(driver.core.held_by(slow)) == 1
    driver.finish(slow, tasks[0])
    assert len(driver.core.held_by(slow)) > 1


def test_nothing_is_asked_back_while_nobody_is_idle_or_only_slots_are_filled() -> None:
    driver = Driver()
    one, two = driver.enlist("one", slots=1), driver.enlist("two", slots=1)
    learn(driver, one, 0.001)
    tasks = [call(number) for number in range(10)]
    driver.submit(*tasks)
    driver.pass_time(0.1)
    assert driver.effects.recalled == {}
    mine = [task for task in tasks if task.worker == two]
    driver.finish(two, *mine[:-1], service_s=0.001)
    driver.pass_time(0.1)
    assert two not in driver.effects.recalled


def test_who_does_not_answer_a_recall_for_a_lease_loses_its_unstarted_tasks() -> None:
    driver = Driver(CoreConfig(lease_s=5.0))
    slow, idle, tasks = stalled(driver)
    driver.pass_time(0.02)
    assert driver.effects.recalled == {slow: 9}
    for _ in range(2):
        driver.now += 2.0
        driver.want(slow, 0)
        driver.want(idle, 0)
    unstarted = attempts(tasks[1:])
    effects = driver.pass_time(1.0)
    assert effects.stopped == {slow: unstarted}
    assert driver.assigned(idle)[:2] == tasks[1:3]
    assert tasks[0].state == "RUNNING"
    assert driver.core.held_by(slow) == attempts(tasks[:1])
    assert driver.finish(slow, tasks[0]).results == {"ada": [tasks[0]]}


def test_the_times_of_no_more_functions_are_kept_than_are_worth_it() -> None:
    """Those that were measured longest ago are forgotten first."""
    driver = Driver()
    session = driver.enlist(slots=10_002)
    learn(driver, session, 0.001, b"old")
    learn(driver, session, 0.001, b"used")
    tasks = [call(number, function=b"%d" % number) for number in range(10_000)]
    driver.submit(*tasks)
    driver.finish(session, *tasks[:5000], service_s=0.001)
    learn(driver, session, 0.001, b"used")
    driver.finish(session, *tasks[5000:], service_s=0.001)
    services = driver.core._services
    assert len(services._times) == 10_000
    assert services.expected_s(b"old") == 0.0
    assert services.expected_s(b"used") > 0.0
