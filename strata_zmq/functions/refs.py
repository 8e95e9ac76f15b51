"""References to values that were put once and are named in many calls; never the values, nor where they are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from strata_zmq.errors import InvalidArgumentError

__all__ = ["Ref", "collected"]


class Ref:
    """Stands for a value that an executor has been given by `put`: in a call's arguments the function gets the value.

    `nbytes` is the size of the value as it was packed. A Ref is good for calls of the executor that made it, as long as
    that lives; it may stand anywhere in the arguments. It can be pickled nowhere else.
    """

    __slots__ = ("digest", "nbytes")

    def __init__(self, digest: bytes, nbytes: int) -> None:
        self.digest = digest
        self.nbytes = nbytes

    def __repr__(self) -> str:
        return f"Ref({self.digest.hex()}, {self.nbytes} bytes)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        names: dict[bytes, None] | None = getattr(_CALL, "names", None)
        if names is None:
            raise InvalidArgumentError(
                "a Ref stands for its value only in the arguments of a call: pass it to submit or map as it is,"
                " and put values that hold none"
            )
        names[self.digest] = None
        # The child's cache of values: here it is only a name, which pickle looks up.
        return import_module("strata_zmq.functions.child.values").resolve, (self.digest,)


_CALL = threading.local()
"""Which Refs the call that this thread is packing has met, in their order; nothing outside of a call."""


@contextmanager
def collected() -> Iterator[dict[bytes, None]]:
    """Collect the digests of the Refs that are packed in this block, by this thread; the dictionary's keys."""
    outer = getattr(_CALL, "names", None)
    names: dict[bytes, None] = {}
    _CALL.names = names
    try:
        yield names
    finally:
        _CALL.names = outer
