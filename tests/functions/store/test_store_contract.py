"""What every store promises a dispatcher; each promise is kept over a life that ends as a crash ends it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordkit.places import Place
from recordkit.tasks import FUNCTION, accepted, begun, ended, named, requeued, shown

from strata_zmq.domain.task import Budget, Outcome, OutcomeReport, Payload, TaskLimits
from strata_zmq.errors import AlreadyExistsError, NotFoundError
from strata_zmq.functions.calls import payload_bytes
from strata_zmq.functions.dispatch.records import Ended, FunctionRow, Recovered

LARGE = bytes(range(256)) * 1024
PARTS = (b"pickle", bytearray(b"one"), memoryview(b"two-two"), b"")


def plain(payload: Payload) -> Payload:
    return payload if isinstance(payload, bytes) else tuple(bytes(part) for part in payload)


def ids(recovered: Recovered) -> list[int]:
    return [int.from_bytes(each.task.task_id, "big") for each in recovered.tasks]


def test_a_new_store_is_empty(place: Place) -> None:
    _, found = place.open()
    assert found == Recovered()


def test_an_accepted_task_is_there_after_a_crash_as_it_was_accepted(place: Place) -> None:
    store, _ = place.open()
    limits = TaskLimits(
        *("commit", 1.5, 9.0, 3.0, 2, 1, 4),
        *({"gpu": 2}, 3600.0, "3.11", "dill", True, 2**30, 4096),
    )
    record = accepted(
        7, PARTS, limits, client="someone", function=b"g" * 16, refs=(b"a" * 16, b"b" * 16), key="k", key_digest=b"d"
    )
    store.append([record])
    _, found = place.open()
    (back,) = found.tasks
    assert shown(back.task) == {**shown(record.task), "body": plain(PARTS)}
    assert (back.attempt, back.worker_id, back.submitted_at, back.ended_at) == (0, "", 1007.0, 0.0)


def test_tasks_come_back_in_the_order_of_their_acceptance(place: Place) -> None:
    store, _ = place.open()
    store.append([accepted(9), accepted(3)])
    store.append([accepted(5), ended(9)])
    assert ids(place.open()[1]) == [9, 3, 5]


def test_what_a_later_life_accepts_comes_after_what_an_earlier_one_did(place: Place) -> None:
    for number in (3, 2, 1):
        store, _ = place.open()
        store.append([accepted(number)])
    assert ids(place.open()[1]) == [3, 2, 1]


def test_the_last_attempt_and_its_worker_are_known(place: Place) -> None:
    store, _ = place.open()
    store.append([accepted(1), accepted(2), begun(1, 1, "w1")])
    store.append([begun(1, 2, "w2"), begun(1, 10, "w3")])
    first, second = place.open()[1].tasks
    assert (first.attempt, first.worker_id, first.task.state) == (10, "w3", "QUEUED")
    assert (second.attempt, second.worker_id) == (0, "")


def test_an_attempt_that_is_over_has_no_worker_and_what_is_left_of_the_budget_is_known(place: Place) -> None:
    store, _ = place.open()
    store.append([accepted(number) for number in (1, 2, 3)])
    store.append([begun(number, 1) for number in (1, 2, 3)])
    store.append([requeued(1, 1), requeued(2, 1, Budget(3, 1, 0)), requeued(3, 1, Budget(9, 9, 9)), begun(3, 2, "w2")])
    store.append([requeued(3, 2, Budget(8, 9, 9)), begun(3, 3, "w3")])
    told = [(each.attempt, each.worker_id, each.task.budget) for each in place.open()[1].tasks]
    assert told == [(1, "", None), (1, "", Budget(3, 1, 0)), (3, "w3", Budget(8, 9, 9))]


@pytest.mark.parametrize("body", [b"", b"result", PARTS, LARGE, (LARGE, LARGE)], ids=["0", "b", "parts", "256K", "2x"])
def test_a_result_can_be_read_before_and_after_a_crash(place: Place, body: Payload) -> None:
    wanted = plain(body)
    store, _ = place.open()
    store.append([accepted(1), begun(1), ended(1, body)])
    assert store.result(named(1)) == wanted
    store, found = place.open()
    assert store.result(named(1)) == wanted
    (back,) = found.tasks
    assert (back.task.state, back.ended_at, back.attempt) == ("COMPLETED", 2001.0, 1)
    assert back.task.outcome is not None
    # A long one stays where it is.
    assert back.task.outcome.body == (None if payload_bytes(body) > 64 * 1024 else wanted)


def test_a_failure_comes_back_with_all_that_was_said_of_it(place: Place) -> None:
    report = OutcomeReport("boom", "ValueError", "Traceback", "w1", 12, 9, 3, 4096, "last", "out", "err", 7)
    outcome = Outcome(named(1), 3, "failure", None, 0.5, "worker_lost", report, started=False)
    store, _ = place.open()
    store.append([accepted(1), Ended(named(1), "FAILED", outcome, 5.0)])
    assert store.result(named(1)) is None
    store, found = place.open()
    assert shown(found.tasks[0].task.outcome) == shown(outcome)
    assert found.tasks[0].task.state == "FAILED"
    assert store.result(named(1)) is None


def test_there_is_no_result_of_a_task_that_is_unknown_or_runs(place: Place) -> None:
    store, _ = place.open()
    store.append([accepted(1), begun(1)])
    assert store.result(named(1)) is None
    assert store.result(named(2)) is None


def test_what_is_forgotten_is_gone_and_its_id_is_free(place: Place) -> None:
    store, _ = place.open()
    store.append([accepted(1), accepted(2), ended(1)])
    store.forget([named(1), named(77)])
    assert store.result(named(1)) is None
    store.append([accepted(1, b"another"), accepted(3)])
    found = place.open()[1]
    assert ids(found) == [2, 1, 3]
    assert found.tasks[1].task.body == b"another"


def test_a_store_that_was_closed_has_forgotten_what_it_was_told_to(place: Place) -> None:
    store, _ = place.open()
    store.append([accepted(number) for number in range(2500)])
    store.forget([named(number) for number in range(2499)])
    store.close()
    assert ids(place.open()[1]) == [2499]


def test_a_batch_is_kept_whole_or_not_at_all(place: Place) -> None:
    store, _ = place.open()
    store.append([accepted(1)])
    for refused, error in (
        ([accepted(2), accepted(1)], AlreadyExistsError),
        ([accepted(2), accepted(2)], AlreadyExistsError),
        ([accepted(2), begun(3)], NotFoundError),
        ([accepted(2), ended(3)], NotFoundError),
    ):
        with pytest.raises(error):
            store.append(refused)
    store.append([accepted(4)])
    assert ids(place.open()[1]) == [1, 4]


def test_a_task_ends_once(place: Place) -> None:
    """Whatever a dispatcher does: the record of an end is never replaced by another."""
    store, _ = place.open()
    store.append([accepted(1), accepted(2)])
    store.append([ended(1, b"first")])
    with pytest.raises(AlreadyExistsError):
        store.append([ended(2), ended(1, b"second")])
    store.append([accepted(3)])
    found = place.open()[1]
    assert [each.task.state for each in found.tasks] == ["COMPLETED", "QUEUED", "QUEUED"]
    assert found.tasks[0].task.outcome is not None
    assert found.tasks[0].task.outcome.body == b"first"


@pytest.mark.parametrize("payload", [b"packed", PARTS, LARGE], ids=["bytes", "parts", "256K"])
def test_a_registered_function_is_there_after_a_crash(place: Place, payload: Payload) -> None:
    store, _ = place.open()
    row = FunctionRow(b"i" * 16, "double", FUNCTION)
    store.keep([(FUNCTION, payload)])
    store.put_function(row)
    store, found = place.open()
    assert found.functions == (row,)
    assert store.payload(FUNCTION) == (
        payload if isinstance(payload, bytes) else tuple(bytes(each) for each in payload)
    )
    assert store.payload(b"?" * 16) is None


def test_a_value_is_kept_for_as_long_as_a_task_that_has_not_ended_refers_to_it(place: Place) -> None:
    store, _ = place.open()
    store.keep([(b"v" * 16, b"value"), (b"w" * 16, b"other"), (FUNCTION, b"function")])
    store.keep([(b"v" * 16, b"value")])
    store.append([accepted(1, refs=(b"v" * 16,)), accepted(2, refs=(b"w" * 16,)), ended(2)])
    store, _ = place.open()
    assert store.payload(b"v" * 16) == b"value"
    assert store.payload(b"w" * 16) is None
    assert store.payload(FUNCTION) == b"function"
    store.append([ended(1)])
    store, _ = place.open()
    assert store.payload(FUNCTION) is None


# What may come next of a task: it is accepted, begun, waits again, ended, forgotten; or the dispatcher dies.
HISTORY = st.lists(
    st.tuples(st.sampled_from(["accept", "begin", "requeue", "end", "forget", "crash"]), st.integers(0, 5)), max_size=40
)


@given(HISTORY)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_history_a_store_tells_what_a_plain_dict_remembers(fresh_place, history) -> None:
    place: Place = fresh_place()
    store, _ = place.open()
    known: dict[int, tuple[int, str]] = {}
    there: dict[int, str] = {}
    for step, (what, number) in enumerate(history):
        if what == "accept" and number not in known:
            store.append([accepted(number)])
            known[number] = (0, "QUEUED")
        elif what == "begin" and known.get(number, (0, ""))[1] == "QUEUED":
            store.append([begun(number, step + 1, f"w{step}")])
            known[number], there[number] = (step + 1, "QUEUED"), f"w{step}"
        elif what == "requeue" and there.get(number):
            store.append([requeued(number, known[number][0])])
            there[number] = ""
        elif what == "end" and known.get(number, (0, ""))[1] == "QUEUED":
            store.append([ended(number, attempt=known[number][0])])
            known[number] = (known[number][0], "COMPLETED")
            there.pop(number, None)
        elif what == "forget" and number in known:
            # On the disk with the next commit.
            store.forget([named(number)])
            store.append([accepted(100 + step)])
            del known[number]
            there.pop(number, None)
            known[100 + step] = (0, "QUEUED")
        elif what == "crash":
            store, _ = place.open()
    found = place.open()[1]
    place.end()
    told = {int.from_bytes(each.task.task_id, "big"): (each.attempt, each.task.state) for each in found.tasks}
    assert list(told.items()) == list(known.items())
    where = {int.from_bytes(each.task.task_id, "big"): each.worker_id for each in found.tasks if not each.ended_at}
    assert {number: worker for number, worker in where.items() if worker} == {
        number: worker for number, worker in there.items() if worker
    }
