"""A client of an object store dies at any moment of any save: what was committed comes back, and nothing is half there.

The requests of a real run are written down; every state in which the store can be after any of them is made and opened:
what was answered was carried out, and of what was under way any part may have been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from crashkit.objects import RecordingObjects, deaths
from crashkit.runs import HISTORIES, expected_steps, run, trouble

from strata_zmq.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crashkit.objects import Event

pytestmark = pytest.mark.timeout(600)


def open_all(
    events: Sequence[Event], steps: Sequence[int], keep_count: int, *, enough: int = 10**9
) -> tuple[int, list[str]]:
    count = 0
    wrong: list[str] = []
    for death in deaths(events):
        count += 1
        expected = expected_steps(steps, keep_count, death.acked)
        found = trouble(RecordingObjects(death.objects), expected, keep_count)
        if found is not None:
            wrong.append(f"after event {death.after} (acknowledged: {death.acked}): {found}")
            if len(wrong) >= enough:
                break
    return count, wrong


@pytest.mark.parametrize(("steps", "keep_count", "references", "overlap"), HISTORIES.values(), ids=HISTORIES)
def test_a_death_at_any_request_loses_nothing_that_was_acknowledged(
    steps: list[int], keep_count: int, references: bool, overlap: bool
) -> None:
    storage = RecordingObjects()
    assert isinstance(storage, Storage)
    run(storage, steps, keep_count, storage.ack, references=references, overlap=overlap)
    count, wrong = open_all(storage.events, steps, keep_count)
    assert wrong == []
    assert count > 15


def test_an_acknowledgement_before_the_answer_is_found_out() -> None:
    """Were a step acknowledged when HEAD's replacement is sent, a state would not have it."""
    storage = RecordingObjects()
    run(storage, [1, 2], 1, storage.ack)
    events = [event for event in storage.events if event.kind != "ack"]
    acks = [event for event in storage.events if event.kind == "ack"]
    at = next(i for i, event in enumerate(events) if event.kind == "sent" and event.key == "HEAD")
    _, wrong = open_all([*events[: at + 1], acks[0], *events[at + 1 :]], [1, 2], 1, enough=1)
    assert wrong
