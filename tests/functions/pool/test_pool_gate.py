"""Calls that ask before they begin: what is asked for, what happens on a grant, and what is given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from functionkit.errands import add, gate, note
from poolkit import Owner

from strata_zmq.domain.service import ServiceTime
from strata_zmq.domain.task import Task
from strata_zmq.functions.codec import load_result
from strata_zmq.functions.pool.gate import ahead


@pytest.fixture
def owner() -> Iterator[Owner]:
    """One child."""
    with Owner(1) as made:
        yield made


def asking(task: Task) -> Task:
    task.asks = True
    return task


def learnt(owner: Owner) -> None:
    """It knows now that `add` is short."""
    keys = owner.offer(*[owner.task(add, 1, 1) for _ in range(50)])
    owner.ended(keys)


def test_a_call_that_asks_waits_for_its_grant_and_others_pass_it_by(owner: Owner) -> None:
    (first,) = owner.offer(asking(owner.task(add, 1, 2)))
    (other,) = owner.offer(owner.task(add, 3, 4))
    owner.ended([other])
    assert owner.asking == [first]
    assert owner.started == [other]
    assert owner.pool.held() == [(*first, "waiting")]
    owner.pool.grant([first])
    owner.ended([first])
    assert load_result(owner.outcomes[first]) == 3
    assert owner.started == [other, first]


def test_nothing_is_asked_for_behind_a_call_that_is_not_known_to_be_short(owner: Owner, tmp_path: Path) -> None:
    learnt(owner)
    (long,) = owner.offer(owner.task(gate, str(tmp_path), "runs"))
    owner.until((tmp_path / "runs").exists)
    keys = owner.offer(*[asking(owner.task(add, n, n)) for n in range(5)])
    owner.turn()
    assert owner.asking == []
    (tmp_path / "open").touch()
    owner.ended([long])
    owner.until(lambda: set(owner.asking) == set(keys))


def test_what_is_granted_and_cannot_begin_for_long_is_given_back(owner: Owner, tmp_path: Path) -> None:
    """The child was free when it was asked for, and got a call that takes long before the answer was there."""
    learnt(owner)
    (first,) = owner.offer(asking(owner.task(note, str(tmp_path), 1)))
    owner.until(lambda: owner.asking == [first])
    owner.offer(owner.task(gate, str(tmp_path), "runs"))
    owner.until((tmp_path / "runs").exists)
    owner.pool.grant([first])
    owner.until(lambda: owner.returned == [first])
    assert owner.pool.waiting == 0
    owner.pool.grant([first])
    (tmp_path / "open").touch()
    owner.until(lambda: not owner.pool.held())
    assert not (tmp_path / "1").exists()


def test_what_was_granted_to_calls_behind_one_that_takes_long_is_given_back(owner: Owner, tmp_path: Path) -> None:
    """They were unread at the child, behind a call of a function that is otherwise short."""
    (tmp_path / "open").touch()
    owner.ended(owner.offer(*[owner.task(gate, str(tmp_path), "known") for _ in range(50)]))
    (tmp_path / "open").unlink()
    learnt(owner)
    owner.offer(owner.task(gate, str(tmp_path), "runs"))
    keys = owner.offer(*[asking(owner.task(add, n, n)) for n in range(3)])
    owner.until(lambda: bool(owner.asking) or (tmp_path / "runs").exists())
    granted = list(owner.asking)
    owner.pool.grant(granted)
    owner.until(lambda: sorted(owner.returned) == sorted(granted))
    assert owner.pool.waiting == len(keys) - len(granted)


def test_what_waits_for_a_grant_can_be_withdrawn_and_stopped(owner: Owner) -> None:
    keys = owner.offer(*[asking(owner.task(add, n, n)) for n in range(4)])
    owner.until(lambda: bool(owner.asking))
    assert owner.pool.waiting == 4
    assert owner.pool.stop(*keys[0]) == "dropped"
    assert set(owner.pool.withdraw(10)) == set(keys[1:])
    owner.pool.grant(keys)
    owner.ended([keys[0]])
    assert owner.outcomes[keys[0]].cause == "cancelled"
    assert owner.started == []


def test_a_call_that_is_granted_and_lacks_its_function_begins_when_that_is_there(owner: Owner) -> None:
    task = asking(owner.task(add, 2, 2))
    (key,) = owner.offer(task)
    owner.until(lambda: owner.asking == [key])
    owner.pool.drop(task.function)
    owner.pool.grant([key])
    owner.until(lambda: owner.lacking == [task.function])
    owner.task(add, 0)
    owner.ended([key])
    assert load_result(owner.outcomes[key]) == 4


def test_how_much_is_asked_for_ahead() -> None:
    short, long = ServiceTime(0.0001, 0.0, 5), ServiceTime(0.5, 0.0, 5)
    assert ahead(0, [None, long], short) == 0
    assert ahead(1, [None, long], None) == 1
    assert ahead(1, [short], long) == 2
    assert ahead(1, [short], short) == 2 * 50
    assert ahead(1, [], ServiceTime(1e-7, 0.0, 5)) == 64
