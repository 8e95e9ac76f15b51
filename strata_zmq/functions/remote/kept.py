"""The packed callables and values that a client may have to give its dispatcher again; never what they mean."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from strata_zmq.domain.task import ID_BYTES, Payload
from strata_zmq.errors import InvalidArgumentError
from strata_zmq.functions.calls import payload_bytes
from strata_zmq.functions.wire import Buffer, batches, payload_weight, put_body
from strata_zmq.protocol.functions import BLOB_BYTES_MAX, FRAMES_MAX, Blob, PutBlobs

__all__ = ["KEPT_BYTES_MAX", "KeptPayloads", "check_payload", "put_requests"]

KEPT_BYTES_MAX = 2**30
_SMALL_BYTES = 64 * 1024


class KeptPayloads:
    """Payloads by their digests. Beyond `bytes_max` large ones go, those first that were not asked for the longest.

    A dispatcher drops what it has not used for long, and forgets all of it when it ends. What is no longer here either
    cannot be given again: calls that refer to it are refused then. Thread-safe.
    """

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._payloads: OrderedDict[bytes, Payload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, digest: bytes, payload: Payload) -> bool:
        """Keep a payload; False if it is here already."""
        if len(digest) != ID_BYTES:
            raise InvalidArgumentError(f"digest has {len(digest)} bytes; it is BLAKE3's first {ID_BYTES}")
        check_payload(payload, "a callable or value to keep")
        with self._lock:
            if digest in self._payloads:
                self._payloads.move_to_end(digest)
                return False
            self._payloads[digest] = payload
            self._bytes += payload_bytes(payload)
            while self._bytes > self._bytes_max and (oldest := self._oldest_large(digest)) is not None:
                self._bytes -= payload_bytes(self._payloads.pop(oldest))
            return True

    def _oldest_large(self, spared: bytes) -> bytes | None:
        """Callables are small and stay: without its function no call can be repeated."""
        large = (one for one, payload in self._payloads.items() if payload_bytes(payload) > _SMALL_BYTES)
        return next((one for one in large if one != spared), None)

    def of(self, digests: Iterable[bytes]) -> list[tuple[bytes, Payload]]:
        """Return those of `digests` that are here, with their payloads."""
        with self._lock:
            found = [digest for digest in digests if digest in self._payloads]
            for digest in found:
                self._payloads.move_to_end(digest)
            return [(digest, self._payloads[digest]) for digest in found]


def check_payload(payload: Payload, what: str) -> int:
    """Return how many bytes a payload has; InvalidArgumentError for one that no message can carry."""
    if type(payload) is bytes:
        nbytes = len(payload)
    else:
        nbytes = payload_bytes(payload)
        if len(payload) > FRAMES_MAX:
            raise InvalidArgumentError(
                f"{what} has {len(payload)} buffers, and a message carries at most {FRAMES_MAX}: "
                "join small arrays, or put() some of them first"
            )
    if nbytes > BLOB_BYTES_MAX:
        raise InvalidArgumentError(
            f"{what} has {nbytes} bytes packed, and a message carries at most {BLOB_BYTES_MAX}: "
            "put() parts of it first, or hand over where it is stored"
        )
    return nbytes


def put_requests(kept: Iterable[tuple[bytes, Payload]]) -> list[tuple[PutBlobs, list[Buffer]]]:
    """Return the messages that give payloads to a dispatcher, each with its frames."""
    requests = []
    for batch in batches(kept, lambda one: payload_weight(one[1]), rows_max=FRAMES_MAX):
        frames: list[Buffer] = []
        blobs = [Blob(digest, put_body(payload, frames)) for digest, payload in batch]
        requests.append((PutBlobs(0, blobs), frames))
    return requests
