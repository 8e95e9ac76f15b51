"""What a failure is called: the WorkerFailure that stands for an outcome which is neither a result nor an exception."""

from __future__ import annotations

from strata_zmq.domain.task import Cause, Outcome, OutcomeReport
from strata_zmq.errors import WorkerFailure

__all__ = ["failure_of"]

_WHAT: dict[Cause, str] = {
    "worker_lost": "its worker was lost while it ran",
    "deadline": "exceeded deadline",
    "out_of_memory": "its process ran out of memory",
    "killed": "its process was killed",
    "exited": "its process ended in the middle of it",
    "unpicklable_result": "its result cannot be pickled",
    "unpicklable_error": "its exception cannot be pickled and loaded again",
    "unloadable_call": "its call cannot be loaded in the worker",
    "result_too_large": "its result is larger than allowed",
    "cancelled": "it was cancelled",
    "queue_expired": "it waited longer than its queue_s",
    "quarantined": "its function kills the processes that run it, and is in quarantine",
    "initializer": "the initializer of its worker fails",
}


def failure_of(outcome: Outcome) -> WorkerFailure:
    """Return the error for an outcome of kind "failure"; its message begins with what happened."""
    report = outcome.report or OutcomeReport()
    what = _WHAT.get(outcome.cause, outcome.cause or "it failed")
    return WorkerFailure(
        f"{what}: {report.text}" if report.text and not report.text.startswith(what) else report.text or what,
        cause=outcome.cause,
        task_id=outcome.task_id.hex(),
        attempt=outcome.attempt,
        worker=report.worker,
        pid=report.pid,
        signal=report.signal,
        exit_code=report.exit_code,
        rss_bytes=report.rss_bytes,
        last_lines=report.last_lines,
        remote_traceback=report.traceback,
    )
