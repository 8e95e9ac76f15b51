"""Bounds the memory of this process by the system's own limit, so that an allocation fails instead of the machine.

The limit is RLIMIT_DATA, which counts private writable memory that is promised, not what is used. So it is set to what
is promised now and what is left of the allowance beyond what is used now. The parent looks at what is really used.
"""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["MemoryLimit"]

_STATM = Path("/proc/self/statm")
_RESIDENT, _DATA = 1, 5


class MemoryLimit:
    """The allowance of this process in bytes; 0 is none. It is set anew only where it changes, at two system calls."""

    def __init__(self, nbytes: int = 0) -> None:
        self._own = nbytes
        self._first = resource.getrlimit(resource.RLIMIT_DATA)
        self.nbytes = 0
        self.apply(0)

    def apply(self, nbytes: int) -> None:
        """Bound the process by `nbytes`, or by its own allowance where that is less; 0 asks for the latter alone."""
        if self._own and (nbytes == 0 or nbytes > self._own):
            nbytes = self._own
        if nbytes == self.nbytes:
            return
        soft, hard = self._first
        if nbytes:
            counts = _STATM.read_text("ascii").split()
            page = resource.getpagesize()
            room = int(counts[_DATA]) * page + max(0, nbytes - int(counts[_RESIDENT]) * page)
            soft = min([room, *(limit for limit in self._first if limit != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        self.nbytes = nbytes

    def lift(self) -> None:
        """Take the limit away until the next `apply`: what hit it has to be told."""
        resource.setrlimit(resource.RLIMIT_DATA, self._first)
        self.nbytes = 0
