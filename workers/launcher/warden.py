"""The process that outlives the supervisor by seconds, so that even `kill -9` leaves nothing behind.

Run by path as `python -I -S warden.py GRACE_S`, in its own session, with a pipe from the supervisor as standard input.
It owns the list of process groups and folders to end with the supervisor, and never knows what they are for. Lines:
`group PGID`, `forget PGID`, `folder PATH`. At end of file it sends SIGTERM and, after GRACE_S seconds, SIGKILL to every
group that is left, removes the folders and exits.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

__all__ = ["main"]


def born(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot (proc(5), stat, field 22); None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - pathlib doubles this process's start-up time
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None


def _send(groups: dict[int, int | None], signum: int) -> dict[int, int | None]:
    """Signal every group that is still the one that was registered; returns those."""
    left = {}
    for pgid, leader_born in groups.items():
        now_born = born(pgid)
        # The kernel gives out no pid that is in use as a group id. So a living leader of another age means that the
        # group ended and its number went to a stranger.
        if None not in (now_born, leader_born) and now_born != leader_born:
            continue
        try:
            os.killpg(pgid, signum)
        except OSError:
            continue
        left[pgid] = leader_born
    return left


def end(groups: dict[int, int | None], grace_s: float) -> None:
    """End every process of the groups: SIGTERM, up to `grace_s` seconds, SIGKILL."""
    groups = _send(groups, signal.SIGTERM)
    _send(groups, signal.SIGCONT)  # a stopped process takes no SIGTERM
    deadline = time.monotonic() + grace_s
    while groups and time.monotonic() < deadline:
        time.sleep(0.02)
        groups = _send(groups, 0)
    _send(groups, signal.SIGKILL)


def main(argv: list[str]) -> int:
    """Serve until the supervisor's end of the pipe closes, then clean up."""
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)
    groups: dict[int, int | None] = {}
    folders: list[bytes] = []
    with open(0, "rb", buffering=0) as pipe:
        rest = b""
        while data := pipe.read(4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                word, _, value = line.partition(b" ")
                if word == b"group":
                    groups[int(value)] = born(int(value))
                elif word == b"forget":
                    groups.pop(int(value), None)
                elif word == b"folder":
                    folders.append(value)
    end(groups, float(argv[0]))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
