"""Writes a hang down for people: who waits for whom, and what the threads of each were doing. It decides nothing."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path

from strata_zmq.coordinator.core.effects import HangReport
from strata_zmq.logs import printable

__all__ = ["FILES_MAX", "as_text", "write_hang"]

log = logging.getLogger("strata.flight")

FILES_MAX = 100
"""Hangs that are kept in one folder: the oldest goes."""
_NAME = "hang-*.txt"


def write_hang(folder: Path, report: HangReport) -> Path | None:
    """Write one file and return its path; None, and a line in the log, if it cannot be written."""
    number = round(report.found_at * 1000)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while (path := folder / f"hang-{number:013d}.txt").exists():
            number += 1
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(as_text(report))
        for old in sorted(folder.glob(_NAME))[:-FILES_MAX]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the stacks of %s could not be written, the job goes on: %s", printable(report.worker_id), error)
        return None
    log.warning("%s; the stacks of all of them are in %s", printable(report.told), path)
    return path


def as_text(report: HangReport) -> str:
    """Return the report as a text of lines."""
    found = datetime.fromtimestamp(report.found_at).astimezone()
    names = ", ".join(report.waiters)
    more = report.waiter_count - len(report.waiters)
    lines = [
        report.told,
        f"found at    {found.isoformat(timespec='milliseconds')}",
        f"waited for  {report.worker_id}, whose training loop has not moved for {report.still_s:.1f} s",
        f"where       {report.where}",
        f"who waits   {names}{f' and {more} more' if more > 0 else ''}",
    ]
    for stacks in report.stacks:
        role = "hangs" if stacks.worker_id == report.worker_id else "waits for it"
        lines += ["", f"---- {stacks.worker_id} {role}"]
        lines += stacks.text.splitlines() if stacks.text else [stacks.silence]
    if not report.stacks:
        lines += ["", "Nobody could be asked for stacks: too many commands wait for them."]
    return "".join(f"{printable(line)}\n" for line in lines)
