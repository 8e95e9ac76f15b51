"""A worker that meets the others once and then waits for them again, spins, or is stopped."""

from __future__ import annotations

import os
import signal
import sys

from strata_zmq.workers.identity import WorkerIdentity
from strata_zmq.workers.session import WorkerSession


def spin_for_ever() -> None:
    """Compute, and come back never."""
    number = 1
    while True:
        number = number * 7 % 1_000_003


def main(how: str) -> None:
    """Meet at step 1; then wait at step 2, or spin, or be stopped."""
    session = WorkerSession(WorkerIdentity(worker_id=os.environ["WORKER_ID"]))
    session.connect()
    session.join()
    session.barrier("meet", 1, timeout_s=60)
    print("met", flush=True)
    if how == "spin":
        spin_for_ever()
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    session.barrier("meet", 2, timeout_s=300)


if __name__ == "__main__":
    main(sys.argv[1])
