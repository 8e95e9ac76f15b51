"""A task's states: every way through them is in one table, and there is no other."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from strata_zmq.domain.task import FINAL, NO_LIMITS, TRANSITIONS, State, TaskLimits, Trigger, move
from strata_zmq.errors import InvalidArgumentError

CELLS = list(itertools.product(get_args(State), get_args(Trigger)))


@pytest.mark.parametrize(("state", "trigger"), CELLS)
def test_a_state_changes_as_the_table_says_or_not_at_all(state: State, trigger: Trigger) -> None:
    after = TRANSITIONS.get((state, trigger))
    if after is not None:
        assert move(state, trigger) == after
        return
    with pytest.raises(InvalidArgumentError, match=f"task in state {state}: {trigger} is not possible.*of ada"):
        move(state, trigger, "task 01 of ada")


def test_an_ended_task_never_comes_to_another_end() -> None:
    after = {(state, trigger): TRANSITIONS.get((state, trigger)) for state, trigger in CELLS if state in FINAL}
    assert {end for (_, trigger), end in after.items() if trigger != "expire"} == {None}
    assert {end for (state, trigger), end in after.items() if trigger == "expire" and state != "EXPIRED"} == {"EXPIRED"}


def test_every_state_is_reached_from_the_queue() -> None:
    reached: set[State] = {"QUEUED"}
    for _ in get_args(State):
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(get_args(State))


def test_who_asks_for_nothing_has_no_limits() -> None:
    assert TaskLimits() == NO_LIMITS
    assert (NO_LIMITS.durability, NO_LIMITS.attempt_s, NO_LIMITS.labels) == ("none", 0.0, {})
