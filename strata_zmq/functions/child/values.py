"""Callables and values that calls refer to by digest: kept packed, loaded when first used, forgotten on demand."""

from __future__ import annotations

import pickle
from typing import Any

from strata_zmq.errors import MissingPayloadError, ProtocolError
from strata_zmq.functions.child.mapping import Mapping
from strata_zmq.functions.pool.packets import Keep

__all__ = ["VALUES", "Values", "load", "resolve"]


def load(body: bytes | memoryview, buffers: list[memoryview], *, dill: bool) -> Any:
    """Return what is packed; raises whatever its own code raises."""
    if dill:
        import dill as loader

        return loader.loads(bytes(body))
    if buffers:
        return pickle.loads(body, buffers=buffers)
    return pickle.loads(body)


class Values:
    """All that this process has been given to keep. Each is loaded once; arrays in them cannot be written to.

    How many there are is up to who sends them.
    """

    def __init__(self) -> None:
        self._packed: dict[bytes, tuple[bytes | memoryview, list[memoryview]] | Exception] = {}
        self.loaded: dict[bytes, Any] = {}

    def keep(self, keep: Keep, descriptors: list[int]) -> None:
        """Keep a packed callable or value; its descriptors may be closed afterwards."""
        mapping = Mapping(descriptors, writable=False)
        self.loaded.pop(keep.digest, None)
        try:
            self._packed[keep.digest] = mapping.part(keep.body), [mapping.view(place) for place in keep.buffers]
        except (OSError, ProtocolError) as error:  # for the calls that need it
            self._packed[keep.digest] = error

    def forget(self, digests: list[bytes]) -> None:
        """Let go what these digests name."""
        for digest in digests:
            self._packed.pop(digest, None)
            self.loaded.pop(digest, None)

    def get(self, digest: bytes, *, dill: bool = False) -> Any:
        """Return the callable or value; MissingPayloadError where there is none, and whatever loading it raises."""
        try:
            return self.loaded[digest]
        except KeyError:
            pass
        packed = self._packed.get(digest)
        if packed is None:
            raise MissingPayloadError(
                f"the callable or value {digest.hex()} was not sent to this process: put it again"
            )
        if isinstance(packed, Exception):
            raise packed
        value = self.loaded[digest] = load(*packed, dill=dill)
        del self._packed[digest]
        return value


VALUES = Values()
"""This process's."""


def resolve(digest: bytes) -> Any:
    """Return the value that was put under `digest`: what a reference in a call's arguments is loaded as."""
    return VALUES.get(digest)
