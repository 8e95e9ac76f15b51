"""The process at the other end of shared memory: its death is noticed while waiting for it, and every wait ends.

Knows nothing about what is waited for. A pidfd is polled together with the awaited descriptors, so a death is known
in well under a millisecond, and a reused process id cannot deceive.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Self

from strata_zmq.errors import DeadlineExceededError, PeerLostError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Peer"]

_POLL_MS_MAX = 2**31 - 1


class Peer:
    """A process named by its role, such as "loader process", with the pidfd that tells of its end.

    The object owns `pidfd`. `of` opens one for a child or any other process that is known to be alive; a process
    that is not a child safely gets the pidfd from its peer, inherited or over a socket.
    """

    def __init__(self, role: str, pid: int, pidfd: int) -> None:
        self.role = role
        self.pid = pid
        self._pidfd = pidfd

    @classmethod
    def of(cls, role: str, pid: int) -> Self:
        """Watch the process `pid`; PeerLostError if there is none."""
        try:
            return cls(role, pid, os.pidfd_open(pid))
        except ProcessLookupError as error:
            raise PeerLostError(f"{role} {pid} does not exist") from error

    def __str__(self) -> str:
        return f"{self.role} {self.pid}"

    @property
    def alive(self) -> bool:
        """Whether the process still runs; a zombie does not."""
        return self._pidfd >= 0 and not select.select([self._pidfd], [], [], 0)[0]

    def wait(
        self, awaited: Sequence[tuple[int, int]], what: str, *, deadline: float | None, timeout_s: float = 0.0
    ) -> None:
        """Return when one of the (descriptor, poll events) is ready.

        Raises PeerLostError when the process has ended and none is ready, DeadlineExceededError once the monotonic
        clock passes `deadline`; `what` and `timeout_s` go into the messages. Without a deadline the wait ends with
        the peer at the latest.
        """
        poll = select.poll()
        for fd, events in awaited:
            poll.register(fd, events)
        poll.register(self._pidfd, select.POLLIN)
        left_ms = None if deadline is None else min(max(0.0, deadline - time.monotonic()) * 1000, _POLL_MS_MAX)
        ready = {fd for fd, _ in poll.poll(left_ms)}
        if ready - {self._pidfd}:
            return
        if ready:
            raise PeerLostError(f"{self} died while {what} was awaited")
        raise DeadlineExceededError(
            f"{self} did not deliver {what} within {timeout_s} s; it is alive, so it is slow or stuck",
            missing=(str(self),),
        )

    def close(self) -> None:
        """Give the pidfd back; calling again is harmless."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
