"""The last step before a child's own program: ties its life to the supervisor's, then becomes the program.

Run by path as `python -I -S child.py SUPERVISOR_PID WARDEN_FD DEATH_SIGNAL PROGRAM [ARGS...]`, in its own session. It
owns the order "die with the supervisor, be known to the warden, only then run foreign code", and never knows what it
runs. A shim instead of `preexec_fn`, because Python code between fork and exec can deadlock in a threaded parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> int:
    """Become PROGRAM; returns only when that is impossible (127: no such program, 1: the supervisor is gone)."""
    # Ignored signals survive exec: Python ignores the first two, a shell's `&` the third, which is forwarded.
    for signum in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL)
    supervisor, warden_fd, death_signal, program = int(argv[0]), int(argv[1]), int(argv[2]), argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.stderr.write(f"strata: prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}\n")
        return 1
    if os.getppid() != supervisor:  # it died before prctl took effect
        return 1
    # Below PIPE_BUF, so the line arrives whole whoever else writes. A lost warden is replaced by the supervisor, which
    # tells the new one of every group.
    with contextlib.suppress(BrokenPipeError):
        os.write(warden_fd, b"group %d\n" % os.getpid())
    os.set_inheritable(warden_fd, False)
    try:
        os.execvp(program[0], program)  # noqa: S606 - becoming another program is the purpose
    except OSError as error:
        sys.stderr.write(f"strata: cannot run {program[0]}: {error.strerror}\n")
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
