"""The rules of membership: the table of states is what the document says, and ranks follow from who was there first."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strata_zmq.protocol
from strata_zmq.domain.membership import (
    STATES,
    STIMULI,
    TRANSITIONS,
    Quorum,
    QuorumPending,
    Transition,
    membership_digest,
    next_state,
    quorum,
)
from strata_zmq.errors import InvalidArgumentError

DOCUMENT = Path(strata_zmq.protocol.__file__).parent / "PROTOCOL.md"
NAMES = st.lists(st.sampled_from([f"w{number}" for number in range(12)]), unique=True)


def written_table() -> dict[tuple[str, str], str]:
    """The table of states as the document gives it, with the reported states spelt out."""
    body = DOCUMENT.read_text().split("**Worker states.**", 1)[1].split("\n### ", 1)[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in body.splitlines() if line[:1] == "|"]
    head, table = rows[0][1:], rows[2:]
    found: dict[tuple[str, str], str] = {}
    assert [row[0] for row in table] == list(STATES)
    for state, *cells in table:
        for stimulus, cell in zip(head, cells, strict=True):
            if stimulus == "a reported state":
                active = [one for one in STATES if one not in {"UNKNOWN", "FAILED"}] if cell == "that one" else []
                found |= {(state, reported): reported for reported in active}
            elif cell.isascii():
                found[state, stimulus] = cell
    return found


def test_the_document_shows_the_table_that_the_code_goes_by() -> None:
    assert written_table() == TRANSITIONS


@pytest.mark.parametrize("stimulus", STIMULI)
@pytest.mark.parametrize("state", STATES)
def test_a_cell_leads_to_its_state_and_a_missing_one_is_an_error_with_the_story(state: str, stimulus: str) -> None:
    story = [Transition(4.0, "register", "INITIALIZING"), Transition(9.5, "TRAINING", "TRAINING")]
    if (state, stimulus) in TRANSITIONS:
        assert next_state("w0", state, stimulus, story=story, now=10.0) == TRANSITIONS[state, stimulus]
        return
    with pytest.raises(InvalidArgumentError) as caught:
        next_state("w0", state, stimulus, story=story, now=10.0)
    for word in ("'w0'", state, repr(stimulus), "6.0 s ago register -> INITIALIZING", "0.5 s ago TRAINING -> TRAINING"):
        assert word in str(caught.value)


def test_a_worker_without_a_past_is_refused_without_a_story() -> None:
    with pytest.raises(InvalidArgumentError, match="nothing yet"):
        next_state("w0", "UNKNOWN", "leave")


def test_every_state_that_is_active_can_be_left_and_lost() -> None:
    for state in {after for (_, stimulus), after in TRANSITIONS.items() if stimulus in STATES}:
        assert (TRANSITIONS[state, "leave"], TRANSITIONS[state, "lost"]) == ("UNKNOWN", "FAILED")


@given(previous=NAMES, live=NAMES, need=st.integers(0, 13))
def test_who_was_there_keeps_the_order_and_the_difference_is_told(
    previous: list[str], live: list[str], need: int
) -> None:
    decision = quorum(previous, dict.fromkeys(live), need=need)
    if len(live) < max(need, 1):
        assert decision == QuorumPending(need=max(need, 1), have=len(live))
        assert str(decision) == f"{len(live)} of {max(need, 1)} workers are registered"
        return
    assert isinstance(decision, Quorum)
    kept = [name for name in previous if name in live]
    assert list(decision.members) == [*kept, *decision.joined]
    assert set(decision.members) == set(live)
    assert list(decision.left) == [name for name in previous if name not in live]
    assert list(decision.joined) == sorted(decision.joined, key=lambda name: int(name[1:]))


def test_a_digest_tells_states_apart() -> None:
    states = [(1, 0, True, ["a"]), (2, 0, True, ["a"]), (1, 1, True, ["a"]), (1, 0, False, ["a"]), (1, 0, True, ["b"])]
    digests = {membership_digest(*state) for state in states}
    assert len(digests) == len(states)
    assert all(0 <= digest < 2**62 for digest in digests)
