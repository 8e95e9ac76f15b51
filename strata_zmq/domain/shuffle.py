"""Which samples make up a shard: the cutting of an epoch's order, and that order itself; never who reads them.

Shard k of an epoch is the positions [k * shard_size, (k + 1) * shard_size) of that epoch's order, and the order maps
positions to sample ids. A shuffled order is a keyed permutation that is computed, not stored: any position of a
billion samples is found in the same time, so a resumed job needs nothing but (seed, epoch, position).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.domain.checksum import checksum, dataset_checksum, mix
from strata_zmq.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["checksum", "dataset_checksum", "mix", "num_shards", "permute", "sample_ids", "shard_bounds"]

_ROUNDS = 6  # Luby and Rackoff need 4 for a strong permutation; two more for the few bits of small datasets
_MASK64 = 2**64 - 1


def num_shards(total: int, shard_size: int) -> int:
    """Return how many shards `total` samples make; the last may be short."""
    return -(-total // shard_size)


def shard_bounds(shard: int, shard_size: int, total: int) -> tuple[int, int]:
    """Return the positions [start, stop) of `shard`; InvalidArgumentError if there is no such shard."""
    shards = num_shards(total, shard_size)
    if not 0 <= shard < shards:
        raise InvalidArgumentError(f"shard is {shard}, the dataset has shards 0 to {shards - 1}: ask for one of those")
    return shard * shard_size, min((shard + 1) * shard_size, total)


def sample_ids(start: int, stop: int, total: int, *, shuffle: bool, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the ids of the samples at positions [start, stop) of the epoch's order, in that order.

    Without `shuffle` the order is the dataset's own, whatever seed and epoch are.
    """
    if not 0 <= start <= stop <= total:
        raise InvalidArgumentError(
            f"positions [{start}, {stop}) are not within the {total} samples: need 0 <= start <= stop <= {total}"
        )
    positions = np.arange(start, stop, dtype=np.int64)
    return permute(positions, total, seed=seed, epoch=epoch) if shuffle else positions


def permute(positions: NDArray[np.int64], total: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the sample id at each of `positions`: a bijection of 0 to `total` - 1, keyed by (seed, epoch).

    A Feistel network on the next power of two (Luby and Rackoff, "How to construct pseudorandom permutations from
    pseudorandom functions", 1988), with cycle walking for what lands outside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", 2002): under two passes a position on average. Fit for statistics, not for secrets.
    """
    chosen = np.asarray(positions, dtype=np.int64)
    if chosen.size == 0:
        return chosen.copy()
    if chosen.min() < 0 or chosen.max() >= total:
        raise InvalidArgumentError(f"positions hold values outside 0 to {total - 1}: they index one epoch's order")
    bits = max(2, (total - 1).bit_length())
    keys = _round_keys(seed, epoch)
    limit = np.uint64(total)
    ids = _feistel(chosen.astype(np.uint64), bits, keys)
    # A permutation's cycle through a valid position comes back to a valid one, so the walk ends.
    outside = np.flatnonzero(ids >= limit)
    while outside.size:
        walked = _feistel(ids[outside], bits, keys)
        ids[outside] = walked
        outside = outside[walked >= limit]
    return ids.astype(np.int64)


def _feistel(values: NDArray[np.uint64], bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Permute [0, 2**bits): halves of (almost) equal width, changed in turn by a keyed function of the other."""
    low_bits = bits // 2
    high_bits = bits - low_bits
    shift = np.uint64(low_bits)
    low = values & np.uint64((1 << low_bits) - 1)
    high = values >> shift
    for number, key in enumerate(keys):
        if number % 2:
            high ^= mix(low ^ key) >> np.uint64(64 - high_bits)
        else:
            low ^= mix(high ^ key) >> np.uint64(64 - low_bits)
    high <<= shift
    high |= low
    return high


def _round_keys(seed: int, epoch: int) -> NDArray[np.uint64]:
    """Return one key a round; every bit of seed and epoch reaches every key."""
    state = mix(np.array([seed & _MASK64], dtype=np.uint64))
    state = mix(state ^ np.uint64(epoch & _MASK64))
    return mix(np.arange(_ROUNDS, dtype=np.uint64) + state[0])
