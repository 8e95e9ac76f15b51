"""Where a worker's time goes is told as it went: each second in one phase, whoever asks and whenever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import GenerationChangedError
from strata_zmq.protocol import messages as wire
from strata_zmq.protocol.fields import DATA_WAIT_BOUNDS_S, Spent
from strata_zmq.workers import operations
from strata_zmq.workers.operations import SessionState
from strata_zmq.workers.spent import Phase, SpentMeter

PHASES: list[Phase] = ["training", "data", "barrier", "checkpoint", "other"]


class Clock:
    """Seconds that the test moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seconds(spent: Spent | None) -> dict[str, float]:
    assert spent is not None
    return {name: getattr(spent, f"{name}_s") for name in PHASES[:-1]}


def test_who_has_entered_no_phase_tells_nothing(clock: Clock) -> None:
    meter = SpentMeter(clock)
    clock.now += 5
    assert meter.report() is None
    meter.enter("other")
    assert meter.report() is None


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.floats(0, 1000), st.booleans()), min_size=1))
def test_every_second_counts_once_in_the_phase_that_it_was_spent_in(
    story: list[tuple[Phase, float, bool]],
) -> None:
    """However often somebody asks in between; and what is told only rises."""
    clock = Clock()
    meter = SpentMeter(clock)
    expected = dict.fromkeys(PHASES, 0.0)
    last: Spent | None = None
    for phase, lasting, asked in story:
        meter.enter(phase)
        clock.now += lasting
        expected[phase] += lasting
        if asked and (told := meter.report()) is not None:
            assert last is None or all(seconds(told)[name] >= seconds(last)[name] for name in PHASES[:-1])
            last = told
    told = meter.report()
    if any(phase != "other" for phase, _, _ in story):
        assert seconds(told) == pytest.approx({name: expected[name] for name in PHASES[:-1]})


def test_a_phase_that_is_entered_tells_which_one_it_ended(clock: Clock) -> None:
    meter = SpentMeter(clock)
    assert [meter.enter(phase) for phase in ("training", "training", "data")] == ["other", "training", "training"]


def test_waits_for_data_are_counted_by_length_with_the_bound_included(clock: Clock) -> None:
    meter = SpentMeter(clock)
    meter.enter("data")
    for wait_s in (0.0, *DATA_WAIT_BOUNDS_S, 10.1, 1e6):
        meter.waited_for_data(wait_s)
    meter.handed_out(64)
    meter.handed_out(0)
    told = meter.report()
    assert told is not None
    assert told.data_waits == [2, *[1] * (len(DATA_WAIT_BOUNDS_S) - 1), 2]
    assert (told.samples, told.batches) == (64, 2)


def test_a_clock_that_goes_back_takes_nothing_away(clock: Clock) -> None:
    meter = SpentMeter(clock)
    meter.enter("training")
    clock.now += 2
    first = meter.report()
    clock.now -= 10
    assert seconds(meter.report()) == seconds(first)


def member(clock: Clock) -> SessionState:
    session = SessionState("w0", clock)
    session.adopt(wire.Membership(generation=1, rank=0, members=["w0", "w1"], epoch=0, commit_index=0))
    return session


def waits(operation: Iterator[Any], clock: Clock, seconds: float, end: Any) -> None:
    """Let an operation wait so long for its answer, a reply or an error."""
    next(operation)
    clock.now += seconds
    with pytest.raises((StopIteration, GenerationChangedError)):
        operation.throw(end) if isinstance(end, Exception) else operation.send(end)  # type: ignore[attr-defined]


def test_waiting_for_the_other_ranks_is_told_apart_from_the_work_around_it(clock: Clock) -> None:
    """At barriers, commit points and the end of an epoch, also where they end with an error; then the work goes on."""
    session = member(clock)
    session.state = "TRAINING"
    clock.now += 1
    waits(
        operations.barrier(session, "average", 1),
        clock,
        2,
        wire.Released(name="average", step=1, participants=["w0", "w1"], commit_index=0),
    )
    clock.now += 1
    waits(operations.commit(session, []), clock, 3, GenerationChangedError("changed"))
    clock.now += 1
    waits(operations.advance_epoch(session), clock, 5, wire.EpochAdvanced(epoch=1))
    session.state = "CHECKPOINTING"
    clock.now += 7
    session.state = "TRAINING"
    clock.now += 1
    told = session.report().spent
    assert seconds(told) == {"training": 4, "data": 0, "barrier": 10, "checkpoint": 7}
