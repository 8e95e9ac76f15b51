"""Who owns which shard: an exactly balanced assignment that moves as little as any can; never what a shard holds.

`assign` starts from nothing, `reassign` goes on from the assignment before. Both keep the largest and smallest number
of open shards a worker holds at most one apart. The result of `reassign` depends on its predecessor, so the ownership
at any time is a function of the seed and the ordered log of memberships: persist it, or replay that log. The order in
which one membership lists its workers is of no account; they are kept sorted by name.

Balance, least movement and independence of history do not go together: an assignment computed from the membership
alone moves several times as many shards as one that may look at its predecessor.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from strata_zmq.domain.checksum import mix
from strata_zmq.errors import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["UNOWNED", "Assignment", "Movement", "assign", "reassign"]

UNOWNED = -1

_MASK64 = 2**64 - 1


@dataclass(frozen=True, eq=False)
class Assignment:
    """The owner of every shard: `owners` is an int32 array of indices into `workers`, or UNOWNED.

    `workers` is sorted by name and free of duplicates; `owners` is read-only.
    """

    workers: tuple[str, ...]
    owners: NDArray[np.int32]

    def __post_init__(self) -> None:
        self.owners.flags.writeable = False

    def shards_of(self, worker: str) -> NDArray[np.int64]:
        """Return the shards that `worker` owns, ascending; NotFoundError for somebody who is not a member."""
        index = bisect_left(self.workers, worker)
        if index == len(self.workers) or self.workers[index] != worker:
            raise NotFoundError(
                f"worker {worker!r} is not among the {len(self.workers)} workers of this assignment: "
                "register it, then ask again"
            )
        shards, ends = self._grouped
        return shards[ends[index] : ends[index + 1]].astype(np.int64)

    @cached_property
    def _grouped(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The shards by owner, the unowned first and each group ascending, and where each group ends.

        Made once, when somebody asks: a thousand workers who ask for their shards would visit all of them each.
        """
        shards = np.argsort(self.owners, kind="stable").astype(np.int32)
        return shards, np.cumsum(np.bincount(self.owners + 1, minlength=len(self.workers) + 1))

    def owner_of(self, shard: int) -> str | None:
        """Return the worker that owns `shard`, None if nobody does; NotFoundError if there is no such shard."""
        if not 0 <= shard < self.owners.size:
            raise NotFoundError(f"shard {shard} does not exist: there are {self.owners.size} shards, counted from 0")
        owner = int(self.owners[shard])
        return None if owner == UNOWNED else self.workers[owner]

    def counts(self) -> NDArray[np.int64]:
        """Return how many shards each worker owns, in the order of `workers`."""
        return np.bincount(self.owners[self.owners != UNOWNED], minlength=len(self.workers))


@dataclass(frozen=True, slots=True)
class Movement:
    """How many open shards got a new owner, and the fewest that any exactly balanced assignment must move."""

    moved: int
    lower_bound: int


def assign(num_shards: int, workers: Sequence[str], *, seed: int) -> Assignment:
    """Return a balanced assignment of shards 0 to `num_shards` - 1 that looks at no history.

    Slots after Dong and Wang, "DxHash: a scalable consistent hash based on the pseudo-random sequence" (2021): workers
    sit in a table of at least twice as many slots, and a shard takes the first occupied one in its own pseudo-random
    sequence of slots. That alone leaves some workers with twice the mean; the fix-up of `reassign` makes counts exact.
    """
    members = _members(workers)
    if not members:
        return Assignment((), np.full(num_shards, UNOWNED, dtype=np.int32))
    hashes = _hashes(num_shards, seed)
    wanted = _first_occupied(hashes, _slot_table(members, seed))
    return Assignment(members, _rebalanced(wanted, len(members), hashes))


def reassign(
    previous: Assignment, workers: Sequence[str], *, seed: int, open_shards: NDArray[np.bool_] | None = None
) -> tuple[Assignment, Movement]:
    """Return the assignment to `workers` that follows `previous`, and what it moved.

    Balance and least movement hold over the shards that are open: `open_shards` is a mask over all of them, None for
    all open. A shard that is not open has been seen in this epoch: it stays with its owner, and becomes UNOWNED when
    its owner has left. An open shard moves when it gets an owner that it did not have; orphans and unowned shards do.
    """
    members = _members(workers)
    if open_shards is not None and (open_shards.dtype != np.bool_ or open_shards.shape != previous.owners.shape):
        raise InvalidArgumentError(
            f"open_shards is {open_shards.dtype} of shape {open_shards.shape}: "
            f"give one bool for each of the {previous.owners.size} shards"
        )
    places = {worker: place for place, worker in enumerate(members)}
    # The last entry is UNOWNED's: -1 indexes it.
    translation = np.array([places.get(worker, UNOWNED) for worker in previous.workers] + [UNOWNED], dtype=np.int32)
    owners = translation[previous.owners]
    if not members:
        return Assignment((), owners), Movement(moved=0, lower_bound=0)
    chosen = np.arange(owners.size) if open_shards is None else np.flatnonzero(open_shards)
    before = owners[chosen]
    after = _rebalanced(before, len(members), _hashes(owners.size, seed)[chosen])
    owners[chosen] = after
    moved = int(np.count_nonzero(after != before))
    return Assignment(members, owners), Movement(moved, _lower_bound(before, len(members)))


def _rebalanced(owners: NDArray[np.int32], workers: int, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return `owners` with exactly balanced counts: over-full workers release, the released and the unowned are dealt.

    `hashes` holds one distinct number a shard: it decides which shards are released and who gets them.
    """
    held = np.bincount(owners[owners != UNOWNED], minlength=workers)
    capacity = _capacities(held, owners.size)
    # Shards grouped by owner (the unowned first), in hash order within a group; a shard's place in its group says
    # whether it fits. Of an over-full worker the shards that come last in hash order go.
    order = np.lexsort((hashes, owners))
    grouped = owners[order]
    first = np.concatenate(([0], np.cumsum(held))) + (owners.size - int(held.sum()))
    place = np.arange(owners.size) - first[grouped]
    loose = order[(grouped == UNOWNED) | (place >= capacity[grouped])]
    loose = loose[np.argsort(hashes[loose])]
    free = capacity - np.minimum(held, capacity)
    balanced = owners.copy()
    balanced[loose] = np.repeat(np.arange(workers, dtype=np.int32), free)
    return balanced


def _capacities(held: NDArray[np.int64], shards: int) -> NDArray[np.int64]:
    """Return how many shards each worker is to hold: floor or ceiling of the mean, the ceiling for those with most.

    A place above the floor saves a move only for a worker that already fills it, hence the order.
    """
    floor, extra = divmod(shards, held.size)
    capacity = np.full(held.size, floor, dtype=np.int64)
    capacity[np.argsort(-held, kind="stable")[:extra]] += 1
    return capacity


def _lower_bound(owners: NDArray[np.int32], workers: int) -> int:
    """Return the fewest shards that have to move for balance, from the counts alone.

    A worker keeps at most the floor of the mean, and as many as the remainder of the division keep one more.
    """
    held = np.bincount(owners[owners != UNOWNED], minlength=workers)
    floor, extra = divmod(owners.size, workers)
    kept = int(np.minimum(held, floor).sum()) + min(extra, int(np.count_nonzero(held > floor)))
    return owners.size - kept


def _members(workers: Sequence[str]) -> tuple[str, ...]:
    members = tuple(sorted(workers))
    for one, other in pairwise(members):
        if one == other:
            raise InvalidArgumentError(f"workers holds {one!r} twice: every member counts once, so list it once")
    return members


def _hashes(num_shards: int, seed: int) -> NDArray[np.uint64]:
    """Return one number a shard; distinct, because the mixing is a bijection."""
    key = mix(np.array([seed & _MASK64], dtype=np.uint64))[0]
    return mix(np.arange(num_shards, dtype=np.uint64) ^ key)


def _slot_table(members: tuple[str, ...], seed: int) -> NDArray[np.int32]:
    """Return a power-of-two table of at least twice as many slots as members, each member in one slot, else UNOWNED.

    A member tries the slots of its own sequence until one is free; of several that try for one at a time, the first
    by name gets it. So most members keep their slot when others come and go.
    """
    key = (seed & _MASK64).to_bytes(8, "little")
    digests = b"".join(blake2b(name.encode(), digest_size=8, key=key).digest() for name in members)
    states = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    table = np.full(1 << (2 * len(members) - 1).bit_length(), UNOWNED, dtype=np.int32)
    homeless = np.arange(len(members), dtype=np.int32)
    attempt = 0
    while homeless.size:
        tried = _slots(states[homeless], attempt, table.size)
        slots, first = np.unique(tried, return_index=True)
        won = first[table[slots] == UNOWNED]
        table[tried[won]] = homeless[won]
        homeless = np.delete(homeless, won)
        attempt += 1
    return table


def _first_occupied(states: NDArray[np.uint64], table: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the member in the first occupied slot of each shard's sequence: two to four tries on average."""
    found = np.full(states.size, UNOWNED, dtype=np.int32)
    missed = np.arange(states.size)
    attempt = 0
    while missed.size:
        found[missed] = table[_slots(states[missed], attempt, table.size)]
        missed = missed[found[missed] == UNOWNED]
        attempt += 1
    return found


def _slots(states: NDArray[np.uint64], attempt: int, size: int) -> NDArray[np.int64]:
    """Return the slot that each sequence names at `attempt`, counted from 0."""
    return (mix(states + np.uint64(attempt)) & np.uint64(size - 1)).astype(np.int64)
