"""The callables and values that a function worker keeps for calls to come: the latest used, within a size."""

from __future__ import annotations

from collections.abc import Iterable

from strata_zmq.domain.task import Payload
from strata_zmq.functions.calls import payload_bytes
from strata_zmq.functions.pool.pool import ChildPool

__all__ = ["KeptBlobs"]


class KeptBlobs:
    """Fills a pool, and takes out again what was not used for longest. What is needed later is asked for again."""

    def __init__(self, pool: ChildPool, bytes_max: int) -> None:
        self._pool = pool
        self._bytes_max = bytes_max
        self._sizes: dict[bytes, int] = {}
        self._nbytes = 0

    def keep(self, digest: bytes, payload: Payload) -> None:
        """Keep one; others go where it is too much."""
        if digest in self._sizes:
            return
        nbytes = payload_bytes(payload)
        while self._sizes and self._nbytes + nbytes > self._bytes_max:
            oldest = next(iter(self._sizes))
            self._nbytes -= self._sizes.pop(oldest)
            self._pool.drop(oldest)
        self._sizes[digest] = nbytes
        self._nbytes += nbytes
        self._pool.keep(digest, payload)

    def touch(self, digests: Iterable[bytes]) -> None:
        """These are used now."""
        for digest in digests:
            size = self._sizes.pop(digest, None)
            if size is not None:
                self._sizes[digest] = size
