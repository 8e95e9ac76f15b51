"""What the dispatcher's core takes in: each task once, each key once, no more than it can hold; else it says why."""

from __future__ import annotations

import pytest
from dispatchkit import Driver, call, named
from dispatchkit.driver import FUNCTION

from strata_zmq.domain.task import CALL_IN_PAYLOAD, TaskLimits
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.functions.dispatch.core import CoreConfig
from strata_zmq.functions.dispatch.effects import Verdicts
from strata_zmq.functions.dispatch.events import Submitted
from strata_zmq.functions.dispatch.queue import LANES_MAX
from strata_zmq.functions.dispatch.records import Accepted


def codes(verdict: Verdicts) -> list[tuple[int, str]]:
    return [(refusal.index, refusal.code) for refusal in verdict.refused]


def test_a_key_stands_for_the_task_that_was_submitted_with_it_first() -> None:
    driver = Driver()
    driver.submit(call(1, key="k", key_digest=b"a"))
    verdict = driver.submit(call(2, key="k", key_digest=b"a"), call(3))
    assert verdict.existing == ((0, named(1)),)
    assert verdict.refused == ()
    assert driver.core.find(named(2)) is None
    assert driver.core.find(named(3)) is not None


def test_a_key_with_another_payload_is_refused() -> None:
    driver = Driver()
    driver.submit(call(1, key="k", key_digest=b"a"))
    verdict = driver.submit(call(2, key="k", key_digest=b"b"))
    assert codes(verdict) == [(0, "already_exists")]
    assert named(1).hex() in verdict.refused[0].message


def test_two_tasks_of_one_submission_with_one_key_are_one_task() -> None:
    driver = Driver()
    verdict = driver.submit(call(1, key="k", key_digest=b"a"), call(2, key="k", key_digest=b"a"))
    assert verdict.existing == ((1, named(1)),)


def test_a_key_is_free_again_when_its_time_is_over() -> None:
    driver = Driver(CoreConfig(key_keep_s=10.0))
    driver.submit(call(1, key="k", key_digest=b"a"))
    driver.pass_time(10.0)
    assert driver.submit(call(2, key="k", key_digest=b"b")).refused == ()


def test_no_more_keys_are_kept_than_allowed() -> None:
    driver = Driver(CoreConfig(keys_max=2))
    driver.submit(*[call(number, key=f"k{number}", key_digest=b"a") for number in range(3)])
    driver.say()
    assert driver.submit(call(10, key="k0", key_digest=b"b")).refused == ()
    assert codes(driver.submit(call(11, key="k2", key_digest=b"b"))) == [(0, "already_exists")]


def test_a_resent_task_with_a_key_is_accepted_as_itself() -> None:
    driver = Driver()
    driver.submit(call(1, key="k", key_digest=b"a"))
    verdict = driver.submit(call(1, key="k", key_digest=b"a"))
    assert (verdict.refused, verdict.existing) == ((), ())


def test_a_full_queue_refuses_what_is_too_much_and_says_when_to_try_again() -> None:
    driver = Driver(CoreConfig(queue_tasks_max=2))
    verdict = driver.submit(call(1), call(2), call(3), call(1))
    assert codes(verdict) == [(2, "resource_exhausted")]
    assert "queue_tasks_max, 2" in verdict.refused[0].message
    assert verdict.refused[0].retry_after_s == 30.0


def test_the_time_to_wait_follows_from_how_fast_tasks_end() -> None:
    driver = Driver(CoreConfig(queue_tasks_max=4))
    session = driver.enlist(slots=4)
    for round_ in range(3):
        tasks = [call(f"{round_}-{number}") for number in range(4)]
        driver.submit(*tasks)
        driver.now += 1.0
        driver.finish(session, *tasks)
    driver.submit(*[call(number) for number in range(4)])
    assert driver.submit(call(9)).refused[0].retry_after_s == pytest.approx(1.0, rel=0.5)


def test_payloads_beyond_the_byte_limit_are_refused_until_some_end() -> None:
    driver = Driver(CoreConfig(queue_bytes_max=100))
    session = driver.enlist()
    first = call(1, nbytes=60)
    assert codes(driver.submit(first, call(2, nbytes=60))) == [(1, "resource_exhausted")]
    driver.finish(session, first)
    assert driver.submit(call(2, nbytes=60)).refused == ()


def test_payloads_may_fill_the_limit_to_the_last_byte() -> None:
    driver = Driver(CoreConfig(queue_bytes_max=100))
    assert driver.submit(call(1, nbytes=40), call(2, nbytes=60)).refused == ()
    assert codes(driver.submit(call(3, nbytes=1))) == [(0, "resource_exhausted")]


def test_a_payload_that_can_never_fit_is_refused_without_a_time_to_try_again() -> None:
    driver = Driver(CoreConfig(queue_bytes_max=100))
    refusal = driver.submit(call(1, nbytes=101)).refused[0]
    assert (refusal.code, refusal.retry_after_s) == ("resource_exhausted", 0.0)
    assert "queue_bytes_max, 100" in refusal.message


def test_a_client_has_no_more_unfinished_tasks_than_its_share() -> None:
    driver = Driver(CoreConfig(client_tasks_max=2))
    driver.attach("bob")
    verdict = driver.submit(call(1), call(2), call(3))
    assert codes(verdict) == [(2, "resource_exhausted")]
    assert "client_tasks_max, 2" in driver.submit(call(3)).refused[0].message
    assert driver.submit(call(4, client="bob"), client="bob").refused == ()


def test_a_call_for_a_python_that_no_worker_has_is_told_at_once() -> None:
    driver = Driver()
    driver.enlist("w", python="3.11")
    verdict = driver.submit(call(1, TaskLimits(python="3.13")), call(2, TaskLimits(python="3.11")), call(3))
    assert codes(verdict) == [(0, "environment_mismatch")]
    assert "3.13" in verdict.refused[0].message
    assert "3.11" in verdict.refused[0].message


def test_a_call_for_any_python_waits_where_no_worker_is_there_yet() -> None:
    driver = Driver()
    task = call(1, TaskLimits(python="3.13"))
    assert driver.submit(task).refused == ()
    driver.enlist("other", python="3.11")
    assert driver.assigned(1) == []
    session = driver.enlist("right", python="3.13")
    assert driver.assigned(session) == [task]


def test_a_call_for_a_resource_that_nobody_has_waits_for_a_worker_that_has_it() -> None:
    driver = Driver()
    driver.enlist("plain")
    task = call(1, TaskLimits(labels={"gpu": 1}))
    assert driver.submit(task).refused == ()
    session = driver.enlist("gpu", labels={"gpu": 1})
    assert driver.assigned(session) == [task]


def test_there_are_not_too_many_kinds_of_tasks_to_wait_for() -> None:
    driver = Driver()
    kinds = [call(number, TaskLimits(labels={f"disk{number}": 1})) for number in range(LANES_MAX)]
    verdict = driver.submit(*kinds)
    assert codes(verdict) == [(LANES_MAX - 1, "resource_exhausted")]
    assert "fewer kinds of labels" in verdict.refused[0].message
    assert driver.submit(call("plain"), call("known", TaskLimits(labels={"disk0": 1}))).refused == ()
    driver.cancel(*kinds[1:])
    driver.enlist()
    assert driver.submit(call("new", TaskLimits(labels={"tape": 1}))).refused == ()


def poison(driver: Driver, session: int, deaths: int, function: bytes = FUNCTION) -> None:
    for number in range(deaths):
        task = call(f"die{driver.seq}-{number}", function=function)
        driver.submit(task)
        driver.start(session, task)
        driver.fail(session, task, "killed")


def test_a_function_in_which_children_die_in_a_row_is_refused_for_a_while() -> None:
    driver = Driver(CoreConfig(quarantine_deaths=3, quarantine_s=60.0))
    session = driver.enlist()
    poison(driver, session, 3)
    verdict = driver.submit(call(1), call(2, function=b"another"))
    assert codes(verdict) == [(0, "quarantined")]
    assert verdict.refused[0].retry_after_s == 60.0
    driver.pass_time(1.0)
    assert driver.submit(call(1)).refused[0].retry_after_s == 59.0


def test_after_its_quarantine_one_more_death_brings_a_function_back() -> None:
    driver = Driver(CoreConfig(quarantine_deaths=3, quarantine_s=2.0))
    session = driver.enlist()
    poison(driver, session, 3)
    driver.pass_time(2.0)
    poison(driver, session, 1)
    assert codes(driver.submit(call(1))) == [(0, "quarantined")]


def test_what_waits_of_a_function_fails_when_it_comes_into_quarantine() -> None:
    driver = Driver(CoreConfig(quarantine_deaths=2))
    session = driver.enlist()
    tasks = [call(number) for number in range(4)]
    innocent = call(9, function=b"another")
    driver.submit(*tasks, innocent)
    driver.start(session, tasks[0])
    driver.fail(session, tasks[0], "killed")
    driver.start(session, tasks[1])
    driver.fail(session, tasks[1], "exited")
    assert [task.state for task in tasks] == ["FAILED"] * 4
    assert [task.outcome.cause for task in tasks if task.outcome] == ["killed", "exited", "quarantined", "quarantined"]
    assert driver.assigned(session) == [innocent]


def test_a_result_in_between_is_a_new_beginning() -> None:
    driver = Driver(CoreConfig(quarantine_deaths=2))
    session = driver.enlist()
    for number in range(3):
        poison(driver, session, 1)
        fine = call(f"fine{number}")
        driver.submit(fine)
        driver.finish(session, fine)
    assert driver.submit(call(1)).refused == ()


def test_calls_that_carry_their_function_are_never_refused_for_another_ones_deaths() -> None:
    driver = Driver(CoreConfig(quarantine_deaths=1))
    session = driver.enlist()
    poison(driver, session, 1, CALL_IN_PAYLOAD)
    assert driver.submit(call(1, function=CALL_IN_PAYLOAD)).refused == ()


def test_a_durable_task_is_written_down_before_it_is_accepted_and_no_other_is() -> None:
    driver = Driver(CoreConfig(wall_offset_s=1000.0))
    durable, other = call(1, TaskLimits(durability="commit")), call(2)
    driver.submit(durable, other)
    assert driver.effects.records == [Accepted(durable, 1100.0)]
    driver.submit(call(1, TaskLimits(durability="commit")))
    assert driver.effects.records == []


def test_each_submission_of_a_step_has_its_own_verdict() -> None:
    driver = Driver(CoreConfig(queue_tasks_max=3))
    effects = driver.say(Submitted("ada", 7, [call(1), call(2)]), Submitted("ada", 8, [call(3), call(4)]))
    first, second = effects.verdicts
    assert isinstance(first, Verdicts)
    assert isinstance(second, Verdicts)
    assert (first.seq, codes(first)) == (7, [])
    assert (second.seq, codes(second)) == (8, [(1, "resource_exhausted")])


@pytest.mark.parametrize(
    "wrong", [{"queue_tasks_max": 0}, {"lease_s": 0.0}, {"lease_s": float("nan")}, {"stall_s": -1}]
)
def test_a_limit_that_makes_no_sense_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        CoreConfig(**wrong)  # type: ignore[arg-type]
