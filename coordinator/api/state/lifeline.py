"""The end of this process with another's: whoever started it may be killed, and then nothing is to be left of it.

It owns that and knows nothing of what the process does.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
import time

from strata_zmq.errors import InvalidArgumentError

__all__ = ["GRACE_S", "end_with"]

GRACE_S = 3.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(pid: int) -> None:
    """Have this process end as if by SIGTERM when process `pid` does, and after GRACE_S at once.

    Where that is the parent, the kernel kills this process with it, stopped or stuck as it may be. InvalidArgumentError
    where there is no such process.
    """
    try:
        other = os.pidfd_open(pid)
    except (OSError, OverflowError, ValueError):
        raise InvalidArgumentError(f"--parent {pid}: there is no such process; leave it out to run alone") from None
    if os.getppid() == pid:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_wait, args=(other,), name="lifeline", daemon=True).start()


def _wait(other: int) -> None:
    poll = select.poll()
    poll.register(other, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
