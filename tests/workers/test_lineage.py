"""A process that has trained in a history that is lost does not train on in the one that is kept: it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from strata_zmq.errors import GenerationChangedError, HistoryChangedError
from strata_zmq.protocol import messages as wire
from strata_zmq.workers import operations
from strata_zmq.workers.operations import SessionState


def carry_out(operation: Any, *answers: Any) -> Any:
    """Answer all that an operation asks; return what it returns."""
    try:
        next(operation)
        for answer in answers:
            operation.throw(answer) if isinstance(answer, Exception) else operation.send(answer)
    except StopIteration as end:
        return end.value
    pytest.fail("it asks for more")


def stands_at(commit_index: int, lineage: int, generation: int = 1) -> wire.Membership:
    return wire.Membership(
        generation=generation, members=["w0", "w1"], rank=0, commit_index=commit_index, lineage=lineage
    )


def released(commit_index: int, lineage: int) -> wire.Released:
    return wire.Released(
        name="commit", step=commit_index, participants=["w0", "w1"], commit_index=commit_index, lineage=lineage
    )


def ledger(commit_index: int, lineage: int | None = None) -> bytes:
    known = {} if lineage is None else {"lineage": lineage}
    return json.dumps({"epoch": 0, "commit_index": commit_index, "datasets": {}, **known}).encode()


@pytest.fixture
def session() -> SessionState:
    """One that has trained up to commit point 5 of lineage 55."""
    session = SessionState("w0")
    carry_out(operations.join(session), stands_at(4, 44))
    carry_out(operations.commit(session, []), released(5, 55))
    return session


@pytest.mark.parametrize("point", [(4, 44), (4, 45), (0, 0), (5, 56)])
def test_a_history_that_is_shorter_or_another_is_an_error_that_names_both_points(
    session: SessionState, point: tuple[int, int]
) -> None:
    """It is adopted, so that a restore finds its generation; nothing is committed in it."""
    with pytest.raises(
        HistoryChangedError, match=r"commit point 5 of lineage 0+37, .*Restore the latest checkpoint"
    ) as it:
        carry_out(operations.join(session), stands_at(*point, generation=2))
    assert f"history stands at commit point {point[0]}" in str(it.value)
    assert (session.generation, session.step) == (2, point[0])
    with pytest.raises(HistoryChangedError):
        next(operations.commit(session, []))


@pytest.mark.parametrize("point", [(5, 55), (5, 0), (6, 66), (9, 99)])
def test_the_same_point_and_one_that_others_have_come_to_since_are_no_error(
    session: SessionState, point: tuple[int, int]
) -> None:
    """0 is what a coordinator of an older release tells: it accuses nobody."""
    carry_out(operations.join(session), stands_at(*point, generation=2))
    next(operations.commit(session, []))


def test_who_has_joined_and_committed_nothing_remembers_nothing() -> None:
    """The whole job is started anew and restores: whoever was told of the point before was not there."""
    session = SessionState("w0")
    carry_out(operations.join(session), stands_at(9, 99))
    carry_out(operations.join(session), stands_at(4, 44, generation=2))
    next(operations.commit(session, []))


def test_after_a_restore_the_checkpoints_point_is_remembered(session: SessionState) -> None:
    """Also of a checkpoint that history was not behind."""
    with pytest.raises(HistoryChangedError):
        carry_out(operations.join(session), stands_at(3, 33, generation=2))
    assert carry_out(operations.restore(session, "step-4", ledger(4, 44)), wire.Restored(rewound=True))
    assert session.astray is None
    carry_out(operations.join(session), stands_at(4, 44, generation=3))
    next(operations.commit(session, []))
    with pytest.raises(HistoryChangedError, match=r"commit point 4 of lineage 0+2c"):
        carry_out(operations.join(session), stands_at(4, 45, generation=4))


def test_a_manifest_of_an_older_release_fits_the_point_that_it_made(session: SessionState) -> None:
    assert carry_out(operations.restore(session, "step-4", ledger(4)), wire.Restored(rewound=True))
    carry_out(operations.join(session), stands_at(4, 1234, generation=3))
    next(operations.commit(session, []))


def test_who_is_to_take_the_others_state_remembers_nothing_of_its_own(session: SessionState) -> None:
    """`restore` says so where members carry a later history; `agreed` says that it was done."""
    with pytest.raises(HistoryChangedError):
        carry_out(operations.join(session), stands_at(5, 56, generation=2))
    assert carry_out(operations.restore(session, "step-4", ledger(4, 44)), wire.Restored(rewound=False)) is False
    next(operations.commit(session, []))
    session.agreed()
    assert session.remembered == (5, 56)


def test_who_has_taken_over_a_state_says_so_and_goes_on(session: SessionState) -> None:
    with pytest.raises(HistoryChangedError):
        carry_out(operations.join(session), stands_at(5, 56, generation=2))
    session.agreed()
    carry_out(operations.commit(session, []), released(6, 67))
    carry_out(operations.join(session), stands_at(6, 67, generation=3))
    with pytest.raises(HistoryChangedError):
        carry_out(operations.join(session), stands_at(6, 66, generation=4))


def test_what_others_went_on_to_is_what_it_has_to_have(session: SessionState) -> None:
    """A history that goes back behind that afterwards is another one, too."""
    carry_out(operations.join(session), stands_at(8, 88, generation=2))
    with pytest.raises(HistoryChangedError):
        carry_out(operations.join(session), stands_at(6, 66, generation=3))


def test_an_epoch_is_not_finished_in_another_history(session: SessionState) -> None:
    """Whoever waits for its end while history is exchanged is sent back into it; its next commit point is refused."""
    advance = operations.advance_epoch(session)
    assert carry_out(advance, GenerationChangedError("restored"), stands_at(5, 56, generation=2)) == 0
    assert session.astray is not None
