"""Packed callables and values by their digests: which are kept in memory, for whom, and until when. It loads none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from strata_zmq.domain.task import CALL_IN_PAYLOAD, Payload
from strata_zmq.errors import AlreadyExistsError, InvalidArgumentError, ResourceExhaustedError
from strata_zmq.functions.calls import payload_bytes, payload_digest
from strata_zmq.functions.dispatch.records import FunctionRow, RecordStore

__all__ = ["AWAY_S", "Blobs"]

AWAY_S = 3600.0
"""How long what a client has put is kept after it went."""
_CACHED_BYTES_MAX = 128 * 2**20
"""What is read back from the store is kept up to this size beside."""


class _Blob:
    __slots__ = ("away_since", "nbytes", "owners", "payload")

    def __init__(self, payload: Payload, nbytes: int) -> None:
        self.payload = payload
        self.nbytes = nbytes
        self.owners: set[str] = set()
        self.away_since = 0.0


class Blobs:
    """What clients have put is theirs: it stays while one of them is attached, and a while longer if there is room.

    Registered functions, and whatever a task of durability `commit` needs, lie in the store.
    """

    def __init__(self, store: RecordStore, functions: Sequence[FunctionRow], bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._put: dict[bytes, _Blob] = {}
        self._of: dict[str, set[bytes]] = {}
        self._nbytes = 0
        self._stored = {row.digest for row in functions}
        self._cache: dict[bytes, Payload] = {}
        self._cache_bytes = 0
        self._functions = {row.function_id: row for row in functions}

    def register(self, function_id: bytes, name: str, payload: Payload) -> None:
        """Keep a callable under an id, durably; again the same is nothing, another one an AlreadyExistsError."""
        digest = payload_digest(payload)
        known = self._functions.get(function_id)
        if known is not None:
            if known.digest == digest:
                return
            raise AlreadyExistsError(
                f"function {function_id.hex()} is registered with another payload: choose a new id"
            )
        row = FunctionRow(function_id, name, digest)
        if digest not in self._stored:
            self._store.keep([(digest, payload)])
            self._stored.add(digest)
        self._store.put_function(row)
        self._functions[function_id] = row
        self._remember(digest, payload)

    def put(self, client: str, blobs: Iterable[tuple[bytes, Payload]], now: float) -> None:
        """Keep what a client brings; InvalidArgumentError for a wrong digest, ResourceExhaustedError without room."""
        for digest, payload in blobs:
            if payload_digest(payload) != digest:
                raise InvalidArgumentError(
                    f"a blob's digest is not {digest.hex()}: BLAKE3 over its parts, 16 bytes of it"
                )
            found = self._put.get(digest)
            if found is None:
                nbytes = payload_bytes(payload)
                self._make_room(nbytes, now)
                found = self._put[digest] = _Blob(payload, nbytes)
                self._nbytes += nbytes
            found.owners.add(client)
            self._of.setdefault(client, set()).add(digest)

    def resolve(self, function: bytes) -> bytes | None:
        """Return the digest that a task's function stands for (a registered id is resolved), None if it is not kept."""
        if function == CALL_IN_PAYLOAD or function in self._put:
            return function
        row = self._functions.get(function)
        if row is not None:
            return row.digest
        return function if self.has(function) else None

    def has(self, digest: bytes) -> bool:
        """Tell whether it is kept, in memory or in the store."""
        return digest in self._put or digest in self._stored or self.get(digest) is not None

    def get(self, digest: bytes) -> Payload | None:
        """Return it, None if it is not kept."""
        found = self._put.get(digest)
        if found is not None:
            return found.payload
        payload = self._cache.get(digest)
        if payload is None:
            payload = self._store.payload(digest)
            if payload is not None:
                self._stored.add(digest)
                self._remember(digest, payload)
        return payload

    def make_durable(self, digests: Iterable[bytes]) -> None:
        """Write down those that are in memory alone, before a record needs them."""
        new = {one for one in digests if one not in self._stored and one != CALL_IN_PAYLOAD}
        kept = [(digest, blob.payload) for digest in sorted(new) if (blob := self._put.get(digest)) is not None]
        if kept:
            self._store.keep(kept)
            self._stored.update(digest for digest, _ in kept)

    def leave(self, client: str, now: float) -> None:
        """A client has gone: what nobody else has put, too, may go when its time or the room is out."""
        for digest in self._of.pop(client, ()):
            blob = self._put[digest]
            blob.owners.discard(client)
            if not blob.owners:
                blob.away_since = now

    def expire(self, now: float) -> None:
        """Drop what has been nobody's for AWAY_S."""
        old = [digest for digest, one in self._put.items() if not one.owners and now - one.away_since >= AWAY_S]
        for digest in old:
            self._drop(digest)

    def _make_room(self, nbytes: int, now: float) -> None:
        if self._nbytes + nbytes <= self._bytes_max:
            return
        self.expire(now)
        nobodys = sorted((one.away_since, digest) for digest, one in self._put.items() if not one.owners)
        for _, digest in nobodys:
            if self._nbytes + nbytes <= self._bytes_max:
                return
            self._drop(digest)
        if self._nbytes + nbytes > self._bytes_max:
            raise ResourceExhaustedError(
                f"the dispatcher keeps {self._nbytes} bytes of callables and values for its clients, and {nbytes} more "
                f"exceed the limit of {self._bytes_max}: put less, end clients that are done, or raise --blob-bytes"
            )

    def _drop(self, digest: bytes) -> None:
        self._nbytes -= self._put.pop(digest).nbytes

    def _remember(self, digest: bytes, payload: Payload) -> None:
        if digest in self._cache:
            return
        nbytes = payload_bytes(payload)
        while self._cache and self._cache_bytes + nbytes > _CACHED_BYTES_MAX:
            oldest = next(iter(self._cache))
            self._cache_bytes -= payload_bytes(self._cache.pop(oldest))
        self._cache[digest] = payload
        self._cache_bytes += nbytes
