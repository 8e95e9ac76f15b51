"""The end of an epoch, as a session says it: in the name of its generation, and again when that is past."""

from __future__ import annotations

import pytest

from strata_zmq.errors import GenerationChangedError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers import operations
from strata_zmq.workers.operations import SessionState


@pytest.fixture
def session() -> SessionState:
    """A member of generation 3, that has seen seven commit points and finished epoch 1."""
    session = SessionState("w0", clock=lambda: 0.0)
    session.adopted = wire.Membership(members=["w0"], rank=0, generation=3, epoch=1, commit_index=7)
    session.epoch, session.step = 1, 7
    return session


def rejoined(advancing: operations.Operation[int], commit_index: int) -> operations.Ask:
    """Refuse what was asked as past, answer the question for the new generation, and return what is asked then."""
    asked = advancing.throw(GenerationChangedError("past"))
    assert isinstance(asked.request, wire.AwaitGeneration)
    return advancing.send(
        wire.Membership(members=["w0", "w1"], rank=0, generation=4, epoch=1, commit_index=commit_index)
    )


def test_an_epoch_is_finished_in_the_name_of_a_generation(session: SessionState) -> None:
    asked = next(operations.advance_epoch(session))
    assert (asked.request.epoch, asked.request.generation) == (1, 3)


def test_a_new_generation_is_told_again_that_the_epoch_is_finished(session: SessionState) -> None:
    advancing = operations.advance_epoch(session)
    next(advancing)
    asked = rejoined(advancing, commit_index=7)
    assert (asked.request.epoch, asked.request.generation) == (1, 4)
    with pytest.raises(StopIteration) as end:
        advancing.send(wire.EpochAdvanced(epoch=2))
    assert (end.value.value, session.epoch) == (2, 2)


def test_who_was_taken_back_has_finished_nothing(session: SessionState) -> None:
    """The epoch's data are there again, and the others would wait for this worker's share."""
    advancing = operations.advance_epoch(session)
    next(advancing)
    with pytest.raises(StopIteration) as end:
        rejoined(advancing, commit_index=4)
    assert (end.value.value, session.epoch) == (1, 1)
