"""Tasks as rows of messages, with the results that lie in the store; it decides nothing about them."""

from __future__ import annotations

from typing import cast

from strata_zmq.domain.task import Outcome, Payload, Task
from strata_zmq.functions.dispatch.records import RecordStore
from strata_zmq.functions.wire import Buffer, Weight, outcome_row, outcome_weight, payload_weight
from strata_zmq.protocol.functions import TaskRow

__all__ = ["Rows", "assigned_weight", "row_weight"]

_ROW: Weight = (256, 0, 0)


class Rows:
    """Makes task rows. `wall_offset_s` turns the loop's clock into seconds since the epoch."""

    def __init__(self, store: RecordStore, wall_offset_s: float) -> None:
        self._store = store
        self._offset = wall_offset_s

    def outcome(self, task: Task, *, bodies: bool) -> Outcome | None:
        """Return what a task came to, if it has ended: with its result, be it in the store alone, or without."""
        outcome = task.outcome
        if bodies and task.state == "EXPIRED":
            return None
        if outcome is None or (outcome.body is None) is not bodies or outcome.kind == "failure":
            return outcome
        body = self._store.result(task.task_id) if bodies else None
        return Outcome(outcome.task_id, outcome.attempt, outcome.kind, body, outcome.service_s, report=outcome.report)

    def row(self, task: Task, outcome: Outcome | None, frames: list[Buffer]) -> TaskRow:
        """Return a task's row with this outcome, whose body goes into it or behind it."""
        offset = self._offset
        return TaskRow(
            task.task_id,
            task.state,
            task.attempt,
            None if outcome is None else outcome_row(outcome, frames),
            task.submitted_at + offset if task.submitted_at else 0.0,
            task.started_at + offset if task.started_at else 0.0,
            task.ended_at + offset if task.ended_at else 0.0,
            task.ended_as,
        )

    def head(self, task: Task) -> TaskRow:
        """Return a task's row without its result."""
        return self.row(task, self.outcome(task, bodies=False), [])


def row_weight(outcome: Outcome | None) -> Weight:
    """Return what a task's row with this outcome adds to a message."""
    if outcome is None:
        return _ROW
    inline, frames, nbytes = outcome_weight(outcome)
    return inline + _ROW[0], frames, nbytes


def assigned_weight(task: Task) -> Weight:
    """Return what a task adds to an ASSIGN."""
    inline, frames, nbytes = payload_weight(cast("Payload", task.body))
    return inline + 18 * len(task.refs), frames, nbytes
