"""An order-free checksum of sample ids, and the mixing function below it; knows nothing of shards or epochs.

Two multisets of sample ids with equal counts and equal sums of mixed ids are equal but for one chance in 2**64: a sum
does not care who saw a sample, or when, and a sample seen twice instead of another shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["checksum", "dataset_checksum", "mix"]

_BLOCK = 1 << 16
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(sample_ids: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return splitmix64's output for each id as its state: a bijection of 64-bit integers, element by element.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014); the constants are those of
    Vigna's reference splitmix64.c. Negative ids stand for their value modulo 2**64.
    """
    # The sum is a new array, so what follows may work in place; array arithmetic wraps without a warning.
    mixed: NDArray[np.uint64] = np.atleast_1d(np.asarray(sample_ids).astype(np.uint64, copy=False)) + _GAMMA
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def checksum(sample_ids: NDArray[np.int64]) -> int:
    """Return the sum of the mixed ids modulo 2**64; 0 for none. Sums of parts add up to the sum of the whole."""
    return int(mix(sample_ids).sum(dtype=np.uint64))


def dataset_checksum(total: int) -> int:
    """Return the checksum of the ids 0 to `total` - 1, in constant memory; a few nanoseconds an id."""
    blocks = (np.arange(start, min(start + _BLOCK, total), dtype=np.int64) for start in range(0, total, _BLOCK))
    return sum(map(checksum, blocks)) % 2**64
