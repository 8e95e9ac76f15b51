"""Ends this process when its parent is gone, whatever this process is doing; knows nothing else about the parent.

The parent holds the write end of a pipe. When that closes, for whatever reason, the kernel sends this process SIGKILL:
no thread has to run for it, so a function that never gives up the interpreter ends, too. PR_SET_PDEATHSIG would not do:
it fires when the thread that started the process ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal

__all__ = ["hold"]


def hold(lifeline: int) -> None:
    """Tie this process to the read end of the parent's pipe, which stays open from now on."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    watched = select.poll()
    watched.register(lifeline, 0)  # hang-up is always told
    if watched.poll(0):
        os.kill(os.getpid(), signal.SIGKILL)  # it was gone before the kernel knew whom to tell
