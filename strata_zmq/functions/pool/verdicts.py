"""What is said of attempts that came to no result: outcomes for a child's death, a cancelled call, a broken pool."""

from __future__ import annotations

import signal
from dataclasses import replace

from strata_zmq.domain.task import Cause, Outcome, OutcomeReport
from strata_zmq.functions.pool.child_handle import Child
from strata_zmq.functions.pool.planner import PoolCall

__all__ = ["from_child", "of_death", "unstarted"]


def unstarted(call: PoolCall, cause: Cause, text: str, worker: str) -> Outcome:
    """Return the end of an attempt that never ran."""
    return _failure(call, cause, OutcomeReport(text=text, worker=worker), started=False)


def from_child(report: OutcomeReport | None, worker: str, pid: int) -> OutcomeReport | None:
    """Return a child's report with what only the parent knows."""
    return None if report is None else replace(report, worker=worker, pid=pid)


def of_death(child: Child, call: PoolCall, exit_code: int | None, worker: str, *, out_of_memory: bool) -> Outcome:
    """Return the end of the attempt in which `child` died. `exit_code` is multiprocessing's; None: it was not learned.

    `out_of_memory`: the kernel killed for memory since it was last asked.
    """
    doom = child.doom
    number = -exit_code if exit_code is not None and exit_code < 0 else 0
    cause: Cause
    if doom is not None and doom.call is call:
        cause, text = doom.cause, doom.text
    elif exit_code is None:
        cause, text = "killed", f"process {child.pid} ended in the middle of the call; how is not known"
    elif number == signal.SIGKILL and out_of_memory:
        cause, text = "out_of_memory", f"the system killed process {child.pid} for want of memory"
    elif number:
        cause, text = "killed", f"process {child.pid} was killed by signal {number} ({_name(number)})"
    else:
        cause, text = "exited", f"process {child.pid} ended with exit code {exit_code} in the middle of the call"
    report = OutcomeReport(
        text=text,
        traceback=child.box.fault_text(),
        worker=worker,
        pid=child.pid,
        signal=number,
        exit_code=exit_code if exit_code is not None and exit_code >= 0 else -1,
        rss_bytes=(doom.rss_bytes if doom is not None else 0) or child.box.rss_bytes,
        last_lines=child.box.last_lines(),
    )
    return _failure(call, cause, report, started=True)


def _failure(call: PoolCall, cause: Cause, report: OutcomeReport, *, started: bool) -> Outcome:
    task_id, attempt = call.key
    return Outcome(task_id, attempt, "failure", None, 0.0, cause, report, started=started)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "no name"
