"""What all parts of one core share: its limits, the step's time and effects, the tasks by id, and the totals."""

from __future__ import annotations

from strata_zmq.domain.task import FINAL, Outcome, OutcomeReport, Task
from strata_zmq.functions.dispatch.config import CoreConfig
from strata_zmq.functions.dispatch.effects import Effects

__all__ = ["World", "bytes_of", "story"]

_REMEMBERED_MAX = 300
"""Characters of a failure's message that outlive its result."""


class World:
    """The state that has no owner of its own; each part changes only what its own job is."""

    __slots__ = (
        "accepted_total",
        "cancelled_total",
        "config",
        "effects",
        "ended",
        "ended_total",
        "failed_total",
        "late_results",
        "live",
        "now",
        "queued_bytes",
        "requeued_total",
        "result_bytes",
        "running",
        "spent",
        "tasks",
    )

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.now = 0.0
        self.effects = Effects()
        self.tasks: dict[bytes, Task] = {}
        """All that is known, in the order of acceptance; EXPIRED ones included."""
        self.live = 0
        """Tasks that have not ended."""
        self.running = 0
        """Those of them that have started."""
        self.queued_bytes = 0
        """Bytes of payload of tasks that have not ended."""
        self.result_bytes = 0
        self.accepted_total = 0
        self.ended_total = 0
        self.failed_total = 0
        self.cancelled_total = 0
        self.requeued_total = 0
        """How often a task that a worker had was put back to wait."""
        self.late_results = 0
        self.ended: list[Task] | None = None
        """The tasks that have ended in this step, while somebody wants to know of each."""
        self.spent: list[Task] = []
        """Tasks whose payload or result goes when the next step begins: effects may still refer to it."""

    def begin(self, now: float) -> Effects:
        """Begin a step."""
        if self.spent:
            for task in self.spent:
                task.body = None
                if task.state == "EXPIRED" and task.outcome is not None:
                    task.outcome = _epitaph(task.outcome)
            self.spent = []
        if self.ended:
            self.ended = []
        self.now = now
        self.effects = Effects()
        return self.effects

    def note(self, line: str) -> None:
        """Add a line for the log."""
        self.effects.notes.append(line)

    def is_live(self, task: Task) -> bool:
        """Whether the task has not ended."""
        return task.state not in FINAL


def _epitaph(outcome: Outcome) -> Outcome | None:
    """Return what is remembered of an end whose result is gone: why it failed, if it did."""
    if outcome.kind == "ok":
        return None
    report = outcome.report
    brief = OutcomeReport(report.text[:_REMEMBERED_MAX], report.type_name, worker=report.worker) if report else None
    return Outcome(
        outcome.task_id, outcome.attempt, outcome.kind, None, outcome.service_s, outcome.cause, brief, outcome.started
    )


def bytes_of(body: object) -> int:
    """Return how many bytes a packed result has; what is neither bytes nor a tuple of buffers counts by `nbytes`."""
    if body is None:
        return 0
    if isinstance(body, bytes):
        return len(body)
    if isinstance(body, tuple):
        return sum(memoryview(part).nbytes for part in body)
    return int(getattr(body, "nbytes", 0))


def story(task: Task) -> str:
    """Return a task's history in one line, for errors."""
    return f"task {task.task_id.hex()} of {task.client}, attempt {task.attempt}, at session {task.worker}"
