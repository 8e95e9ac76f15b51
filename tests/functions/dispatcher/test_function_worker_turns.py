"""What a worker says reaches its dispatcher once and in order, whatever is lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.domain.task import Outcome
from strata_zmq.functions.dispatch.events import Attempt
from strata_zmq.functions.wire import Buffer
from strata_zmq.protocol import functions as wire
from strata_zmq.workers.function_turns import Turns


class Wire:
    """A way to a dispatcher that takes turns as the protocol asks, and can lose them in both directions."""

    def __init__(self, random: Random, loss: float) -> None:
        self.random, self.loss = random, loss
        self.session = 1
        self.taken = 0
        self.outcomes: list[bytes] = []
        self.returned: list[bytes] = []
        self.turns: list[wire.Turn] = []
        self.up = True

    def send(self, turn: wire.Turn, frames: Sequence[Buffer]) -> bool:
        if not self.up:
            return False
        self.turns.append(turn)
        if self.random.random() < self.loss or turn.session != self.session:
            return True
        if (turn.outcomes or turn.returned) and turn.number == self.taken + 1:
            self.taken = turn.number
            self.outcomes += [row.task_id for row in turn.outcomes]
            self.returned += [ref.task_id for ref in turn.returned]
        return True


def outcome(number: int, attempt: int = 1) -> Outcome:
    return Outcome(number.to_bytes(16, "big"), attempt, "ok", b"body")


def attempt(number: int) -> Attempt:
    return number.to_bytes(16, "big"), 1


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 0.7]))
def test_everything_arrives_once_and_in_order(seed: int, loss: float) -> None:
    random = Random(seed)
    way, turns, now = Wire(random, loss), Turns(), 0.0
    turns.begin(1, ())
    said: list[bytes] = []
    for number in range(12):
        turns.add([outcome(number)])
        said.append(outcome(number).task_id)
        turns.flush(way.send, now)
        now += random.random()
        turns.look_after(way.send, now)
        if random.random() > loss:
            turns.confirm(way.taken)
    way.loss = 0.0
    for _ in range(4):
        now += 3.0
        turns.look_after(way.send, now)
        turns.confirm(way.taken)
    assert way.outcomes == said
    assert turns.settled


def test_what_is_settled_is_not_said_again() -> None:
    way, turns = Wire(Random(0), 0.0), Turns()
    turns.begin(1, ())
    turns.add([outcome(1)])
    assert turns.flush(way.send, 0.0) == 1
    turns.confirm(1)
    turns.look_after(way.send, 10.0)
    assert [bool(turn.outcomes) for turn in way.turns] == [True, False]
    assert way.turns[-1].number == 1, "a heartbeat has the number of the last turn with content"


def test_in_a_new_session_outcomes_are_numbered_anew_and_given_back_ones_are_gone() -> None:
    way, turns = Wire(Random(0), 1.0), Turns()
    turns.begin(1, ())
    turns.add([outcome(1), outcome(2)], [attempt(3)])
    turns.flush(way.send, 0.0)
    assert turns.done() == [attempt(1), attempt(2)]
    turns.end()
    assert not turns.tell_started([attempt(4)], way.send, 0.0)
    way = Wire(Random(0), 0.0)
    way.session = 2
    turns.begin(2, {attempt(1)})
    turns.flush(way.send, 1.0)
    assert way.outcomes == [outcome(2).task_id]
    assert way.returned == []
    assert way.taken == 1


def test_what_cannot_leave_now_leaves_later() -> None:
    way, turns = Wire(Random(0), 0.0), Turns()
    turns.begin(1, ())
    way.up = False
    turns.add([outcome(1)])
    assert turns.flush(way.send, 0.0) == 0
    assert turns.next_due(0.0) <= 0.1
    way.up = True
    assert turns.flush(way.send, 0.1) == 1
    assert way.outcomes == [outcome(1).task_id]


def test_who_has_nothing_to_say_says_that_it_lives() -> None:
    way, turns = Wire(Random(0), 0.0), Turns(heartbeat_s=1.0)
    turns.begin(1, ())
    for tick in range(50):
        turns.look_after(way.send, tick / 10)
    assert 4 <= len(way.turns) <= 5
    assert turns.next_due(5.0) == pytest.approx(5.0, abs=0.2)
