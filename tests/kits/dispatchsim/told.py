"""Effects as one line of text each, so that two runs can be compared to the letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strata_zmq.domain.task import Task
from strata_zmq.functions.dispatch.effects import Effects
from strata_zmq.functions.dispatch.records import Accepted, Begun, Requeued

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["tell"]


def tell(told: _Hash, effects: Effects) -> None:
    """Add a step's effects, in their order, to a digest."""
    lines = [repr(verdict) for verdict in effects.verdicts]
    for record in effects.records:
        if isinstance(record, Accepted):
            lines.append(f"accepted {record.task.task_id.hex()} {record.at}")
        elif isinstance(record, Begun | Requeued):
            lines.append(repr(record))
        else:
            lines.append(f"ended {record.task_id.hex()} {record.state} {record.at}")
    for session, tasks in effects.assigned.items():
        lines.append(f"to {session}: {_names(tasks)}")
    lines.append(f"begin {effects.may_begin}")
    lines += [f"recall {effects.recalled}", f"stop {effects.stopped}", f"lost {effects.lost}", *effects.notes]
    for client, tasks in effects.results.items():
        lines.append(f"for {client}: {_names(tasks)}")
    lines.append(f"forget {_names(effects.forgotten)}")
    told.update("\n".join(lines).encode())


def _names(tasks: list[Task]) -> str:
    return " ".join(f"{task.task_id.hex()}/{task.attempt}/{task.state}" for task in tasks)
