"""The API process beside a coordinator: started, started again a few times, ended with it. It knows no request.

It is a process of its own so that whoever looks at the job costs the coordinator nothing, and a thread looks after it,
so that its end does not, either. When it cannot be had, that is said once, and the job goes on.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

__all__ = ["RESTARTS_MAX", "ApiChild", "api_command"]

RESTARTS_MAX = 3
_END_S = 3.0
_EXIT_USAGE = 2
_MODULE = "strata_zmq.coordinator.api.state"
log = logging.getLogger("strata.coordinator")


def api_command(url: str, port: str, curve_keys: str) -> list[str]:
    """Return the command line of the API of the coordinator at `url`, at `port` (empty: the default one)."""
    argv = [sys.executable, "-m", _MODULE, "--coordinator", url, "--parent", str(os.getpid())]
    argv += ["--port", port] if port else []
    return argv + (["--curve-keys", curve_keys] if curve_keys else [])


class ApiChild:
    """Runs a command while the block runs. `wait_s` is the time before its first restart, which doubles with each."""

    def __init__(self, argv: Sequence[str], *, wait_s: float = 0.5) -> None:
        self._argv = argv
        self._wait_s = wait_s
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)

    def _run(self) -> None:
        for restarts in range(RESTARTS_MAX + 1):
            code = self._live()
            if code is None:
                return
            if code == _EXIT_USAGE or restarts == RESTARTS_MAX:
                after = f" after {restarts} restarts" if restarts else ""
                log.warning("the API ended with status %d%s; the job goes on without a dashboard", code, after)
                return
            wait_s = self._wait_s * 2**restarts
            log.warning("the API ended with status %d; starting it again in %g s", code, wait_s)
            if self._stopped(None, wait_s):
                return

    def _live(self) -> int | None:
        """Run it once; returns its status, or None when it was to end."""
        try:
            # A session of its own: Ctrl-C is for the coordinator, which ends it.
            process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            log.warning("the API cannot be started: %s", error.strerror)
            return _EXIT_USAGE
        pidfd = os.pidfd_open(process.pid)
        try:
            if not self._stopped(pidfd, None):
                return process.wait()
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return None
        finally:
            os.close(pidfd)

    def _stopped(self, pidfd: int | None, timeout_s: float | None) -> bool:
        """Wait for the end of the block, of the process, or of the time; returns whether it was the first."""
        poll = select.poll()
        for fd in (self._stop, pidfd):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        ready = poll.poll(None if timeout_s is None else timeout_s * 1000)
        return any(fd == self._stop for fd, _ in ready)
