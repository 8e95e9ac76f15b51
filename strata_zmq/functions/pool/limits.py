"""What the kernel knows of a child: its memory, whether it stands still, and whether the system killed for memory.

Reads /proc and sends signals by pidfd; decides nothing.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

__all__ = ["OomCounter", "freeze", "kill", "memory_of", "thaw"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STILL = frozenset(b"TtZX")
_FREEZE_S_MAX = 0.05


def memory_of(pid: int) -> int:
    """Return the bytes of memory that are the process's own (not files, not shared memory); 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_bytes().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except (OSError, IndexError):
        return 0


def freeze(pid: int, pidfd: int) -> bool:
    """Stop a process and return when it stands still, which takes some microseconds; False where it has ended.

    What it was doing can now be read and acted on: it cannot go on to something else in between.
    """
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    deadline = time.monotonic() + _FREEZE_S_MAX
    while time.monotonic() < deadline:
        state = _state(pid)
        if state in _STILL:
            return state in b"Tt"
        os.sched_yield()
    # It is deep in the kernel, where no line of Python runs either.
    return True


def thaw(pidfd: int) -> None:
    """Let a frozen process go on."""
    _send(pidfd, signal.SIGCONT)


def kill(pidfd: int) -> None:
    """End a process at once; nothing where it has ended."""
    _send(pidfd, signal.SIGKILL)


def _send(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def _state(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ord("X")
    return text[text.rindex(b")") + 2]


class OomCounter:
    """How often the kernel has killed for memory in this process's cgroup, where children live, too."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = _counter(root)
        self._seen = self._read()

    def rose(self) -> bool:
        """Return whether the kernel has killed since the last question."""
        before, self._seen = self._seen, self._read()
        return self._seen > before

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            lines = self._path.read_text().splitlines()
        except OSError:
            return 0
        counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
        return int(counts[0]) if counts and counts[0].isdigit() else 0


def _counter(root: Path) -> Path | None:
    """Return the file with the counter; both cgroup versions are looked up, a container's mount point last."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (mount / "memory", "memory.oom_control") if controllers else (mount, "memory.events")
        for folder in (base / path.lstrip("/"), base):
            if (folder / name).is_file():
                return folder / name
    return None
