"""Child processes of the supervisor and the warden over them: start, signal, reap, without a race on process ids.

Owns the system calls; never knows which role a process plays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from . import child as shim_program
from . import warden as warden_program

__all__ = ["Child", "Warden"]

_PYTHON = [sys.executable, "-I", "-S"]


class Warden:
    """The supervisor's end of the warden: what it has to end and remove if the supervisor dies.

    `hold_fds` are descriptors that the warden keeps open as long as it lives, such as a lock.
    """

    def __init__(self, grace_s: float = 3.0, hold_fds: tuple[int, ...] = ()) -> None:
        self._grace_s = grace_s
        self._hold_fds = hold_fds
        self._groups: set[int] = set()
        self._folders: list[Path] = []
        self._start()

    def _start(self) -> None:
        reading, self.fd = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*_PYTHON, warden_program.__file__, str(self._grace_s)],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                pass_fds=self._hold_fds,
            )
        finally:
            os.close(reading)
        self.pidfd = os.pidfd_open(self._process.pid)
        self.pid = self._process.pid

    def _tell(self, line: bytes) -> None:
        with suppress(BrokenPipeError):  # its pidfd wakes the supervisor, which calls `restart`
            os.write(self.fd, line + b"\n")

    def folder(self, path: Path) -> None:
        """Have `path` removed when the supervisor is gone."""
        self._folders.append(path)
        self._tell(b"folder " + os.fsencode(path))

    def spawned(self, pgid: int) -> None:
        """Remember a group that has registered itself, in case the warden has to be replaced."""
        self._groups.add(pgid)

    def forget(self, pgid: int) -> None:
        """A group has ended: its number may soon belong to a stranger."""
        self._groups.discard(pgid)
        self._tell(b"forget %d" % pgid)

    def restart(self) -> None:
        """Replace a warden that died with a new one that knows the same."""
        self._process.wait()
        os.close(self.pidfd)
        os.close(self.fd)
        self._start()
        for pgid in self._groups:
            self._tell(b"group %d" % pgid)
        for path in self._folders:
            self._tell(b"folder " + os.fsencode(path))

    def close(self, timeout_s: float) -> bool:
        """Let the warden clean up and wait for it; returns whether it was done in time."""
        os.close(self.fd)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.returncode = 0  # it is left to finish alone; Popen must not complain about that
            return False
        finally:
            os.close(self.pidfd)
        return True


class Child:
    """One child process, leader of its own session and process group.

    `out_fd` and `err_fd` are non-blocking reading ends of its output; so is `ready_fd`, of the pipe whose writing end
    the child knows as the number that replaced `READY_FD` in `argv`, or None. `pidfd` is readable once it has ended.
    Without `own_output` it writes where this process writes, and the first two are -1.
    """

    READY_FD = "{ready_fd}"

    def __init__(
        self,
        argv: list[str],
        *,
        env: dict[str, str],
        warden: Warden,
        death_signal: signal.Signals,
        own_output: bool = True,
    ) -> None:
        ready_fd, ready_writing = os.pipe() if self.READY_FD in argv else (None, None)
        argv = [str(ready_writing) if word == self.READY_FD else word for word in argv]
        shim = [*_PYTHON, shim_program.__file__, str(os.getpid()), str(warden.fd), str(int(death_signal))]
        passed = (warden.fd,) if ready_writing is None else (warden.fd, ready_writing)
        try:
            self._process = subprocess.Popen(
                [*shim, *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if own_output else None,
                stderr=subprocess.PIPE if own_output else None,
                bufsize=0,
                env=env,
                start_new_session=True,
                pass_fds=passed,
            )
        except OSError:
            if ready_fd is not None:
                os.close(ready_fd)
            raise
        finally:
            if ready_writing is not None:
                os.close(ready_writing)
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.ready_fd = ready_fd
        self._warden = warden
        warden.spawned(self.pid)
        self.out_fd, self.err_fd = (_taken(stream) for stream in (self._process.stdout, self._process.stderr))
        if ready_fd is not None:
            os.set_blocking(ready_fd, False)

    def ask(self, signum: signal.Signals) -> None:
        """Signal the leader alone, which ends its own children in its own order."""
        try:
            os.kill(self.pid, signum)
            os.kill(self.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it has ended; the pidfd tells

    def signal(self, signum: signal.Signals) -> None:
        """Signal the whole process group; the leader is not reaped yet, so that its number cannot be a stranger's."""
        try:
            os.killpg(self.pid, signum)
            if signum is not signal.SIGKILL:
                os.killpg(self.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # nobody is left in the group; the pidfd tells

    def reap(self) -> int:
        """Once `pidfd` is readable: end what the process left in its group, return its code (negative: a signal)."""
        self.signal(signal.SIGKILL)
        code = self._process.wait()
        self._warden.forget(self.pid)
        os.close(self.pidfd)
        return code


def _taken(stream: IO[bytes] | None) -> int:
    """Return a non-blocking descriptor of a pipe that Popen made, and close its file; -1 for none."""
    if stream is None:
        return -1
    fd = os.dup(stream.fileno())
    stream.close()
    os.set_blocking(fd, False)
    return fd
