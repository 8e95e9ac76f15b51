"""A new life from old records: what waited runs, what ran belongs to its worker, and what had ended stays ended."""

from __future__ import annotations

from dispatchkit import Driver, call, named

from strata_zmq.domain.task import Budget, Outcome, State, Task, TaskLimits
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.events import WorkerAlive
from strata_zmq.functions.dispatch.records import Begun, Recovered, RecoveredTask, Requeued

DURABLE = TaskLimits(durability="commit")
CONFIG = CoreConfig(lease_s=5.0, wall_offset_s=1000.0)


def waiting(name: int, limits: TaskLimits = DURABLE, at: float = 1090.0) -> RecoveredTask:
    return RecoveredTask(call(name, limits), 0, "", at, 0.0)


def begun(name: int, attempt: int = 3, worker: str = "w", limits: TaskLimits = DURABLE) -> RecoveredTask:
    return RecoveredTask(call(name, limits), attempt, worker, 1090.0, 0.0)


def ended(name: int, state: State = "COMPLETED", limits: TaskLimits = DURABLE, at: float = 1095.0) -> RecoveredTask:
    task = call(name, limits)
    task.state = state
    task.outcome = Outcome(task.task_id, 1, "ok", b"result")
    return RecoveredTask(task, 1, "w", 1090.0, at)


def begin(*rows: RecoveredTask, config: CoreConfig = CONFIG, ada: bool = False) -> tuple[Driver, list[Task]]:
    """A new life at 100 s, 1100 s since the epoch."""
    driver = Driver(config, Recovered(rows), ada=ada)
    driver.say()
    return driver, [row.task for row in rows]


def test_what_waited_runs_in_the_order_of_its_acceptance() -> None:
    driver, tasks = begin(waiting(1), waiting(2))
    session = driver.enlist(slots=2)
    assert driver.assigned(session) == tasks
    assert [task.submitted_at for task in tasks] == [90.0, 90.0]


def test_a_task_that_may_have_begun_stays_with_its_worker_under_the_same_attempt() -> None:
    driver, (task,) = begin(begun(1), ada=True)
    session = driver.enlist("w", held=((named(1), 3, "running"),))
    assert driver.core.held_by(session) == [(named(1), 3)]
    assert task.state == "RUNNING"
    assert driver.finish(session, task).results == {"ada": [task]}


def test_a_task_that_may_have_begun_and_its_worker_does_not_have_goes_elsewhere_for_nothing() -> None:
    driver, (task,) = begin(begun(1))
    driver.enlist("other")
    assert driver.assigned(1) == []
    session = driver.enlist("w", slots=1)
    given = driver.assigned(1) or driver.assigned(session)
    assert given == [task]
    assert (task.attempt, task.budget) == (4, None)


def test_a_task_that_may_have_begun_and_whose_worker_does_not_come_for_a_lease_is_lost_with_it() -> None:
    driver, (task,) = begin(begun(1), ada=True)
    assert driver.core.next_wakeup() == driver.now + 5.0
    assert driver.pass_time(4.9).results == {}
    assert driver.pass_time(0.1).results == {"ada": [task]}
    assert task.outcome is not None
    assert task.outcome.cause == "worker_lost"


def test_with_a_budget_it_is_tried_again() -> None:
    driver, (task,) = begin(begun(1, limits=TaskLimits(durability="commit", retries_lost=1)))
    driver.pass_time(5.0)
    session = driver.enlist("other")
    assert driver.assigned(session) == [task]
    assert driver.effects.records == [Begun(named(1), 4, "other")]


def test_what_was_left_of_a_budget_is_left_in_the_next_life() -> None:
    limits = TaskLimits(durability="commit", retries_lost=2)
    row = begun(1, limits=limits)
    row.task.budget = Budget(0, 1, 0)
    driver, (task,) = begin(row)
    assert driver.pass_time(5.0).records == [Requeued(named(1), 3, Budget(0, 0, 0))]
    driver.lose(begins(driver, "second", task))
    assert (task.state, task.outcome and task.outcome.cause) == ("FAILED", "worker_lost")


def begins(driver: Driver, worker: str, task: Task) -> int:
    session = driver.enlist(worker)
    assert driver.assigned(session) == [task]
    driver.start(session, task)
    return session


def test_a_task_that_was_only_ahead_at_a_worker_waits_in_the_next_life() -> None:
    """Nothing is written of it until it asks to begin, so nobody is awaited."""
    first = Driver(CONFIG)
    session = first.enlist("w", mode="pull")
    first.want(session, 2)
    here, ahead = call(1, DURABLE), call(2, DURABLE)
    first.submit(here, ahead)
    assert first.assigned(session) == [here, ahead]
    assert [record for record in first.effects.records if isinstance(record, Begun)] == [Begun(named(1), 1, "w")]
    assert (here.asks, ahead.asks) == (False, True)

    second, tasks = begin(begun(1, 1), waiting(2))
    other = second.enlist("other", slots=2)
    assert second.assigned(other) == [tasks[1]]
    again = second.enlist("w", held=((named(1), 1, "running"), (named(2), 1, "waiting")))
    assert second.core.held_by(again) == [(named(1), 1)]


def test_who_asks_may_begin_once_that_is_written_down() -> None:
    driver = Driver(CONFIG)
    session = driver.enlist("w", mode="pull")
    driver.want(session, 2)
    here, ahead = call(1, DURABLE), call(2, DURABLE)
    driver.submit(here, ahead)
    asks = (named(2), 1)
    driver.ask(session, ahead)
    assert (driver.effects.records, driver.effects.may_begin) == ([Begun(named(2), 1, "w")], {session: [asks]})
    driver.ask(session, ahead)
    assert (driver.effects.records, driver.effects.may_begin) == ([], {session: [asks]})
    assert ahead.state == "QUEUED"


def test_who_does_not_have_it_or_is_to_stop_it_may_not_begin() -> None:
    driver = Driver(CONFIG)
    session, other = driver.enlist("w", mode="pull"), driver.enlist("other", mode="pull")
    driver.want(session, 2)
    here, ahead = call(1, DURABLE), call(2, DURABLE)
    driver.submit(here, ahead)
    driver.ask(other, ahead)
    assert (driver.effects.records, driver.effects.may_begin) == ([], {})
    driver.cancel(ahead)
    driver.ask(session, ahead)
    assert (driver.effects.records, driver.effects.may_begin) == ([], {})


def test_what_may_begin_is_not_taken_from_a_worker_that_does_not_answer_a_recall() -> None:
    driver = Driver(CoreConfig(lease_s=5.0, stall_s=0.02))
    session, other = driver.enlist("w", mode="pull"), 0
    driver.want(session, 3)
    tasks = [call(number, DURABLE) for number in range(3)]
    driver.submit(*tasks)
    driver.start(session, tasks[0])
    driver.ask(session, tasks[1])
    other = driver.enlist("other", slots=2)
    driver.pass_time(0.1)
    assert driver.effects.recalled == {session: 2}
    for _ in range(6):
        driver.now += 1.0
        driver.say(WorkerAlive(session), WorkerAlive(other))
    assert [task.worker for task in tasks] == [session, session, other]


def test_what_may_begin_and_is_given_back_is_nobodys_any_more() -> None:
    driver = Driver(CONFIG)
    session = driver.enlist("w")
    task = call(1, DURABLE)
    driver.submit(task)
    assert driver.give_back(session, task).records == [Requeued(named(1), 1, None)]


def test_a_worker_that_brings_an_older_attempt_does_not_keep_the_task() -> None:
    driver, (task,) = begin(begun(1))
    session = driver.enlist("w", held=((named(1), 2, "running"),))
    assert driver.core.held_by(session) == [(named(1), 4)]
    assert task.attempt == 4


def test_an_ended_task_is_told_to_its_submitter_when_it_comes() -> None:
    driver, (task,) = begin(ended(1))
    assert driver.attach("ada").results == {"ada": [task]}
    assert driver.see(task).forgotten == [task]


def test_a_kept_result_goes_when_its_time_since_the_end_is_over() -> None:
    limits = TaskLimits(durability="commit", keep_s=8.0)
    driver, (task,) = begin(ended(1, limits=limits))
    assert driver.core.next_wakeup() == 95.0 + 8.0
    driver.pass_time(3.0)
    assert task.state == "EXPIRED"


def test_a_recovered_task_is_not_accepted_twice() -> None:
    driver, _ = begin(waiting(1), begun(2), ended(3), ada=True)
    driver.submit(call(1, DURABLE), call(2, DURABLE), call(3, DURABLE))
    assert driver.effects.records == []
    assert driver.core.counts().accepted_total == 0


def test_keys_stand_for_recovered_tasks() -> None:
    row = RecoveredTask(call(1, DURABLE, key="k", key_digest=b"a"), 0, "", 1090.0, 0.0)
    driver, _ = begin(row, ada=True)
    assert driver.submit(call(2, key="k", key_digest=b"a")).existing == ((0, named(1)),)


def test_a_total_deadline_goes_on_over_a_restart() -> None:
    driver, (task,) = begin(waiting(1, TaskLimits(durability="commit", total_s=12.0)))
    driver.pass_time(1.9)
    assert task.state == "QUEUED"
    driver.pass_time(0.1)
    assert task.state == "FAILED"


def test_a_task_whose_worker_is_awaited_can_be_cancelled() -> None:
    driver, (task, other) = begin(begun(1), begun(2, worker="gone"), ada=True)
    driver.cancel(task, other)
    session = driver.enlist("w", held=((named(1), 3, "running"),))
    assert driver.effects.stopped == {session: [(named(1), 3)]}
    driver.fail(session, task, "cancelled")
    driver.pass_time(5.0)
    assert (task.state, other.state) == ("CANCELLED", "CANCELLED")


def test_a_deadline_can_end_a_task_whose_worker_is_awaited() -> None:
    driver, (task,) = begin(begun(1, limits=TaskLimits(durability="commit", total_s=11.0)))
    driver.pass_time(1.0)
    assert task.state == "FAILED"
    session = driver.enlist("w", held=((named(1), 3, "running"),))
    assert driver.core.held_by(session) == []


def test_everything_recovered_is_counted() -> None:
    driver, _ = begin(waiting(1), begun(2), ended(3))
    counts = driver.core.counts()
    assert (counts.queued, counts.running, counts.ended) == (2, 0, 1)
    assert (counts.queued_bytes, counts.result_bytes) == (20, 6)


def test_a_worker_that_is_gone_is_one_death_of_a_function_however_many_of_its_calls_were_there() -> None:
    config = CoreConfig(lease_s=5.0, quarantine_deaths=2)
    driver, tasks = begin(*[begun(n) for n in range(10)], waiting(20), config=config)
    driver.pass_time(5.0)
    assert [task.state for task in tasks] == ["FAILED"] * 10 + ["QUEUED"]
    driver, tasks = begin(*[begun(n, worker=f"w{n % 2}") for n in range(10)], waiting(20), config=config)
    driver.pass_time(5.0)
    assert {task.state for task in tasks} == {"FAILED"}
