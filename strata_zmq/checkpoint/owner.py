"""Who is writing a checkpoint, as a note that another process can judge; knows processes, not checkpoints.

A note names the process so exactly (boot, pid namespace, pid, start time) that a recycled pid is not taken for it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["FOREIGN_GRACE_S", "note_of_this_process", "writer_is_gone"]

FOREIGN_GRACE_S = 24 * 3600.0
"""A save by a process that cannot be looked at from here (another host or container) is given up after this long."""


def note_of_this_process() -> dict[str, str | int]:
    """Return the note to leave beside what this process is about to write."""
    return {**_place(), "pid": os.getpid(), "started": _started(os.getpid()) or 0, "noted_at": int(time.time())}


def writer_is_gone(note: dict[str, str | int]) -> bool:
    """Say whether the process that left `note` has certainly ended, or can be given up."""
    pid, noted_at = note.get("pid"), note.get("noted_at")
    if not isinstance(pid, int) or not isinstance(noted_at, int):
        return False
    if any(note.get(key) != value for key, value in _place().items()):
        return time.time() - noted_at > FOREIGN_GRACE_S
    return _started(pid) != note.get("started")


def _place() -> dict[str, str | int]:
    return {
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "pid_namespace": str(Path("/proc/self/ns/pid").readlink()),
    }


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything; state is the first field after it, start time the twentieth.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])
