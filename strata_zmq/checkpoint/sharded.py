"""Sharded: an array that is one rank's part of a larger one, with its place in it; knows no ranks and no storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strata_zmq.errors import InvalidArgumentError

__all__ = ["Sharded"]


@dataclass(frozen=True, slots=True, eq=False)
class Sharded:
    """`array` is elements [offsets, offsets + array.shape) of an array of `global_shape`, which all ranks share.

    Saved as such, it can be loaded by another number of ranks: each gets its part of the whole.
    """

    array: Any
    global_shape: tuple[int, ...]
    offsets: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = tuple(getattr(self.array, "shape", ()))
        object.__setattr__(self, "global_shape", tuple(map(int, self.global_shape)))
        object.__setattr__(self, "offsets", tuple(map(int, self.offsets)))
        if not len(shape) == len(self.global_shape) == len(self.offsets):
            raise InvalidArgumentError(
                f"Sharded: an array of shape {shape} with global_shape {self.global_shape} and offsets {self.offsets}: "
                "give them as many axes each"
            )
        for begin, length, limit in zip(self.offsets, shape, self.global_shape, strict=True):
            if begin < 0 or begin + length > limit:
                raise InvalidArgumentError(
                    f"Sharded: an array of shape {shape} at {self.offsets} does not lie within {self.global_shape}"
                )
