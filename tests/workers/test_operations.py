"""A session's operations, carried out by hand: what they ask, and what they make of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from strata_zmq.errors import (
    DeadlineExceededError,
    FencedError,
    GenerationChangedError,
    InvalidArgumentError,
    StaleGenerationError,
    UnavailableError,
)
from strata_zmq.protocol import messages as wire
from strata_zmq.workers import operations
from strata_zmq.workers.operations import SessionState


class Session(SessionState):
    """One whose time and lease the test decides."""

    def __init__(self) -> None:
        super().__init__("w0", lambda: self.now)
        self.now = 100.0
        self.fresh = True
        self.adopted = wire.Membership(generation=3, members=["w0", "w1"], rank=0, epoch=1, commit_index=7)
        self.epoch, self.step = 1, 7

    @property
    def may_commit(self) -> bool:
        return self.fresh


@pytest.fixture
def session() -> Session:
    return Session()


def ends_with(operation: Any, answer: Any) -> Any:
    with pytest.raises(StopIteration) as end:
        operation.send(answer)
    return end.value.value


def released(step: int) -> wire.Released:
    return wire.Released(name="commit", step=step, participants=["w0", "w1"], commit_index=step)


def test_a_commit_names_the_next_commit_point_and_the_generation(session: Session) -> None:
    """On release the session stands at it; while it waits, the worker is still training."""
    session.state = "TRAINING"
    commit = operations.commit(session, [], timeout_s=9.0, values={"loss": ("mean", 2)})
    ask = next(commit)
    assert isinstance(ask.request, wire.Arrive)
    assert (ask.request.step, ask.request.generation, ask.request.commit, ask.timeout_s) == (8, 3, True, 9.0)
    assert ask.request.values == [wire.Value("loss", "mean", 2.0)]
    assert session.state == "TRAINING"
    assert ends_with(commit, released(8)).step == 8
    assert (session.step, session.state) == (8, "TRAINING")


def test_a_stale_worker_hears_from_the_coordinator_before_it_commits(session: Session) -> None:
    """What it waits for a word is taken off its time limit."""
    session.fresh = False
    commit = operations.commit(session, [], timeout_s=9.0)
    ask = next(commit)
    assert isinstance(ask.request, wire.Heartbeat)
    assert ask.timeout_s == 9.0
    session.now += 4.0
    arrival = commit.send(wire.HeartbeatAck())
    assert isinstance(arrival.request, wire.Arrive)
    assert arrival.timeout_s == arrival.request.timeout_s == 5.0
    ends_with(commit, released(8))


def test_a_stale_worker_that_hears_nothing_commits_nothing(session: Session) -> None:
    """The error says why, and that it is the coordinator that is missing."""
    session.fresh = False
    commit = operations.commit(session, [], timeout_s=9.0)
    next(commit)
    with pytest.raises(DeadlineExceededError, match="two thirds of this worker's lease") as late:
        commit.throw(DeadlineExceededError("no answer", missing=("coordinator",)))
    assert late.value.missing == ("coordinator",)
    assert session.step == 7


def test_a_stale_worker_that_was_given_up_commits_nothing(session: Session) -> None:
    session.fresh = False
    commit = operations.commit(session, [])
    next(commit)
    with pytest.raises(FencedError):
        commit.throw(FencedError("declared lost"))
    assert session.step == 7


def test_a_commit_that_fails_leaves_the_session_where_it_was(session: Session) -> None:
    session.state = "TRAINING"
    commit = operations.commit(session, [])
    next(commit)
    with pytest.raises(GenerationChangedError):
        commit.throw(GenerationChangedError("w2 joined"))
    assert (session.step, session.state) == (7, "TRAINING")


def test_a_meeting_that_is_over_is_not_waited_for_again(session: Session) -> None:
    """The same step of another generation is another meeting."""
    barrier = operations.barrier(session, "meet", 1)
    next(barrier)
    ends_with(barrier, wire.Released(name="meet", step=1, participants=[]))
    with pytest.raises(InvalidArgumentError, match="released already"):
        next(operations.barrier(session, "meet", 1))
    session.adopted = wire.Membership(generation=4, members=["w0"], rank=0)
    assert next(operations.barrier(session, "meet", 1)).request.generation == 4


def test_to_be_fenced_at_a_barrier_is_a_change_of_the_membership(session: Session) -> None:
    """The training loop has one error to expect there; it names who left: this worker."""
    barrier = operations.barrier(session, "meet", 1)
    next(barrier)
    with pytest.raises(GenerationChangedError) as changed:
        barrier.throw(FencedError("declared lost"))
    assert changed.value.left == ("w0",)


def test_who_was_fenced_while_it_waited_for_the_epoch_says_so_again_as_a_newcomer(session: Session) -> None:
    advance = operations.advance_epoch(session, timeout_s=10.0)
    assert next(advance).request.epoch == 1
    session.now += 4.0
    joining = advance.throw(FencedError("declared lost"))
    assert isinstance(joining.request, wire.AwaitGeneration)
    assert joining.timeout_s == 6.0
    again = advance.send(wire.Membership(generation=5, members=["w0"], rank=0, epoch=1, commit_index=9))
    assert (again.request.epoch, again.timeout_s) == (1, 6.0)
    assert ends_with(advance, wire.EpochAdvanced(epoch=2)) == 2
    assert (session.epoch, session.generation) == (2, 5)


def test_a_farewell_that_nobody_hears_is_no_error(session: Session) -> None:
    leave = operations.leave(session)
    assert isinstance(next(leave).request, wire.Deregister)
    with pytest.raises(StopIteration):
        leave.throw(UnavailableError("gone"))


def test_without_a_generation_there_is_no_rank() -> None:
    """What needs one says so."""
    session = SessionState("w0")
    assert session.generation == 0
    with pytest.raises(StaleGenerationError, match="join"):
        _ = session.membership


@pytest.mark.parametrize(
    "values", [{"x": 1.0}, {"x": ("mean",)}, {"x": ("mean", "high")}, {"x": ("mean", None)}, {"x": ("sum", 10**400)}]
)
def test_values_are_checked_before_they_are_sent(session: Session, values: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"values\['x'\]"):
        next(operations.barrier(session, "meet", 1, values=values))


def test_values_are_a_mapping(session: Session) -> None:
    with pytest.raises(InvalidArgumentError, match="values is"):
        next(operations.barrier(session, "meet", 1, values=[("loss", "mean", 1.0)]))  # type: ignore[arg-type]


def test_the_loop_moves_with_every_request(session: Session) -> None:
    """The heartbeat tells it, so that a hung loop shows."""
    before = session.report().progress
    next(operations.status(session))
    assert session.report().progress == before + 1
    session.reported_step = 50
    assert (session.report().step, session.report().generation) == (50, 3)


def test_a_loop_that_waits_for_the_coordinator_registers_with_more_progress_than_its_heartbeats_tell(session) -> None:
    """One that was taken for hung, because its answers were lost, comes back; one that really hangs asks nothing."""
    committing = operations.commit(session, [])
    next(committing)
    assert session.registered_progress == session.report().progress + 1
    with pytest.raises(StopIteration):
        committing.send(wire.Released(name="commit", step=8, participants=["w0", "w1"], commit_index=8))
    assert session.registered_progress == session.report().progress
