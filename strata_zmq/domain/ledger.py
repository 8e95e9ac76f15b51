"""What has been seen of one epoch of one dataset, in committed history; never who owns what, or what is in flight.

Every shard has a cursor: the samples before it are committed, those from it on are not. A range is committed only at
its shard's cursor, so no sample can be committed twice or skipped. Beside the cursors the ledger adds up the checksums
that come with the ranges (see `strata_zmq.domain.checksum`): they prove that what was seen are the dataset's samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from strata_zmq.domain.names import SAMPLES_MAX, SHARDS_MAX, check_not_negative, check_positive
from strata_zmq.errors import InvalidArgumentError, StaleGenerationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Certificate", "EpochLedger", "Share"]

_CHECKSUM_MAX = 2**64 - 1


class Share(NamedTuple):
    """How many samples were committed, and the sum of their mixed ids modulo 2**64."""

    samples: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one epoch's committed history adds up to, in all and for each worker.

    Every sample was seen once exactly when `samples` is `total_samples` and `checksum` the dataset's.
    """

    total_samples: int
    samples: int
    checksum: int
    by_worker: dict[str, Share]


_NOTHING = Share(0, 0)


class EpochLedger:
    """The cursors and checksums of one epoch over `total_samples` samples in shards of `shard_size`."""

    def __init__(self, total_samples: int, shard_size: int) -> None:
        self.total_samples = check_positive("total_samples", total_samples, SAMPLES_MAX)
        self.shard_size = check_positive("shard_size", shard_size, SAMPLES_MAX)
        shards = check_positive("the number of shards", -(-total_samples // shard_size), SHARDS_MAX)
        self._sizes = np.full(shards, shard_size, dtype=np.int64)
        self._sizes[-1] = total_samples - (shards - 1) * shard_size
        self._cursors = np.zeros(shards, dtype=np.int64)
        self._shares: dict[str, Share] = {}
        self._committed = 0

    @property
    def num_shards(self) -> int:
        """How many shards the epoch has."""
        return self._sizes.size

    @property
    def committed(self) -> int:
        """How many samples are committed."""
        return self._committed

    @property
    def complete(self) -> bool:
        """Whether every sample is committed."""
        return self._committed == self.total_samples

    @property
    def open_shards(self) -> NDArray[np.bool_]:
        """A mask over the shards: True where samples are left."""
        return self._cursors < self._sizes

    def cursor(self, shard: int) -> int:
        """Return the offset within `shard` from which samples are left."""
        return self._cursors.item(self._existing(shard))

    def cursors(self, shards: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the offset from which samples are left, of each of `shards`, which exist."""
        cursors: NDArray[np.int64] = self._cursors[shards]
        return cursors

    def remaining(self) -> NDArray[np.int64]:
        """Return how many samples are left in each shard."""
        return self._sizes - self._cursors

    def check(self, shard: int, start: int, stop: int, checksum: int, worker: str) -> None:
        """Raise what `advance` would raise, and change nothing."""
        cursor, size = self.cursor(shard), self._sizes.item(shard)
        if not 0 <= start < stop <= size:
            raise InvalidArgumentError(
                f"worker {worker!r} sent samples [{start}, {stop}) of shard {shard}, which has {size}: "
                f"need 0 <= start < stop <= {size}"
            )
        check_not_negative("checksum", checksum, _CHECKSUM_MAX)
        sent = f"worker {worker!r} sent samples [{start}, {stop}) of shard {shard}, committed up to {cursor}"
        if start < cursor:
            raise StaleGenerationError(f"{sent}: go back to the last commit point and ask for the shard again")
        if start > cursor:
            raise InvalidArgumentError(f"{sent}: nothing may be skipped, start at {cursor}")

    def advance(self, shard: int, start: int, stop: int, checksum: int, worker: str) -> None:
        """Commit samples [start, stop) of `shard`, whose mixed ids add up to `checksum`, as seen by `worker`.

        Raises StaleGenerationError if some of them are committed already, InvalidArgumentError if they are empty,
        outside the shard or leave a gap behind the cursor. The ledger is then as it was.
        """
        self.check(shard, start, stop, checksum, worker)
        self._cursors[shard] = stop
        samples, seen = self._shares.get(worker, _NOTHING)
        self._shares[worker] = Share(samples + stop - start, (seen + checksum) % 2**64)
        self._committed += stop - start

    def certificate(self) -> Certificate:
        """Return what is committed so far, in all and for each worker."""
        checksum = sum(share.checksum for share in self._shares.values()) % 2**64
        return Certificate(self.total_samples, self._committed, checksum, dict(self._shares))

    def to_state(self) -> dict[str, Any]:
        """Return the ledger as plain values for JSON or MessagePack; checksums need unsigned 64-bit integers.

        `cursors` is run-length encoded as [shards, cursor, shards, cursor, ...]: shards that are untouched or done
        fall into long runs, so that tens of thousands of shards take a few kilobytes.
        """
        starts = np.flatnonzero(np.diff(self._cursors, prepend=-1))
        lengths = np.diff(starts, append=self._cursors.size)
        runs = np.stack([lengths, self._cursors[starts]], axis=1)
        return {
            "total_samples": self.total_samples,
            "shard_size": self.shard_size,
            "cursors": runs.ravel().tolist(),
            "workers": {worker: list(share) for worker, share in self._shares.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> EpochLedger:
        """Return the ledger that `to_state` described; InvalidArgumentError if the values contradict one another."""
        missing = {"total_samples", "shard_size", "cursors", "workers"} - state.keys()
        if missing:
            raise InvalidArgumentError(f"a ledger's state lacks {', '.join(sorted(missing))}: take it from to_state()")
        ledger = cls(state["total_samples"], state["shard_size"])
        ledger._cursors = _expanded(state["cursors"], ledger._sizes)
        ledger._committed = int(ledger._cursors.sum())
        ledger._shares = {
            str(worker): Share(
                check_not_negative(f"samples of worker {worker!r}", samples, ledger.total_samples),
                check_not_negative(f"checksum of worker {worker!r}", checksum, _CHECKSUM_MAX),
            )
            for worker, (samples, checksum) in state["workers"].items()
        }
        by_worker = sum(share.samples for share in ledger._shares.values())
        if by_worker != ledger._committed:
            raise InvalidArgumentError(
                f"a ledger's cursors add up to {ledger._committed} samples and its workers' shares to {by_worker}: "
                "the state is damaged, restore an older one"
            )
        return ledger

    def _existing(self, shard: int) -> int:
        if not 0 <= shard < self._sizes.size:
            raise InvalidArgumentError(
                f"shard is {shard}, this epoch has shards 0 to {self.num_shards - 1}: send one of those"
            )
        return shard


def _expanded(runs: list[int], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one cursor a shard from [shards, cursor, ...]; InvalidArgumentError if they do not fit the shards."""
    lengths, values = runs[::2], runs[1::2]
    whole = all(type(number) is int and 0 <= number <= SAMPLES_MAX for number in runs)
    if not whole or len(lengths) != len(values) or sum(lengths) != sizes.size:
        raise InvalidArgumentError(
            f"cursors are not runs over {sizes.size} shards: the state is damaged, restore an older one"
        )
    cursors = np.repeat(np.array(values, dtype=np.int64), lengths)
    if (cursors > sizes).any():
        raise InvalidArgumentError("cursors lie beyond their shards: the state is damaged, restore an older one")
    return cursors
