"""A committed checkpoint back into a state tree, whole or in part, for as many ranks as there are now.

It owns what a load means: which arrays are made or filled, and which checkpoint stands in for a damaged one. Every
digest is checked, and what is not exactly what was asked for is an error or a warning, never silence.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from strata_zmq.checkpoint.arrays import restored
from strata_zmq.checkpoint.choosing import Choice, choose
from strata_zmq.checkpoint.filling import place_of
from strata_zmq.checkpoint.gathering import Gathering, box_of, read_indexes, whole_of
from strata_zmq.checkpoint.reading import MEMORY_BUDGET_BYTES, Budget
from strata_zmq.checkpoint.reshard import split
from strata_zmq.checkpoint.selecting import chosen, first_difference, match_into, names_of
from strata_zmq.checkpoint.sharded import Sharded
from strata_zmq.checkpoint.tree import rebuild
from strata_zmq.checkpoint.verify import note_whole
from strata_zmq.errors import CheckpointCorruptError, InvalidArgumentError, NotFoundError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from strata_zmq.checkpoint.filling import Place
    from strata_zmq.checkpoint.reshard import Box
    from strata_zmq.checkpoint.store import CheckpointStore
    from strata_zmq.domain.manifest import HeadEntry, Manifest, RankIndex, TensorRecord

__all__ = [
    "CheckpointFallbackWarning",
    "Choice",
    "RestoreReport",
    "Restored",
    "Wanted",
    "restore",
    "restore_choice",
    "warn_of_fallback",
]

_ATTEMPTS = 8


class CheckpointFallbackWarning(UserWarning):
    """The checkpoint of choice is damaged and another one was loaded in its place."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a checkpoint is wanted: the part of `rank` among `world` ranks (None: as many as saved it).

    `names` are patterns that choose arrays and values, `into` a tree of arrays to fill. With `rng` the state of the
    random number generators is wanted, too.
    """

    rank: int = 0
    world: int | None = None
    as_numpy: bool = False
    into: Any = None
    names: Sequence[str] | None = None
    rng: bool = False
    memory_budget_bytes: int = MEMORY_BUDGET_BYTES


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """Which checkpoint was loaded, and those that were skipped for damage before it, as (id, reason).

    `bytes_checked` counts what was read and compared with its digest; `whole` says whether that was all of it.
    """

    manifest: Manifest
    skipped: tuple[tuple[str, str], ...] = ()
    bytes_checked: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """A rank's state and where it came from; `rng` as it was saved, where it was wanted."""

    data: Any
    report: RestoreReport
    rng: Any = None


async def restore(store: CheckpointStore, entry: HeadEntry, wanted: Wanted | None = None) -> Restored:
    """Load what is wanted of one checkpoint.

    Raises CheckpointCorruptError that names the object that is missing or damaged, and InvalidArgumentError for what
    cannot be had exactly. After an error the arrays of `into` hold parts of what was to be loaded.
    """
    wanted = wanted or Wanted()
    budget = Budget(wanted.memory_budget_bytes)
    manifest = await store.read_manifest(entry)
    load = _Load(manifest, wanted)
    own = await store.read_rank_index(manifest, load.rank)
    rng = load.rng(own)
    needed = await read_indexes(store, manifest) if load.look(own) else [own]
    gathering = Gathering({index.rank: index for index in needed})
    build = load.ask(own, gathering)
    done = await gathering.read(store, budget)
    whole = len(needed) == manifest.world_size and gathering.asked_for_all
    return Restored(build(), RestoreReport(manifest, (), done, whole), rng)


async def restore_choice(store: CheckpointStore, choice: Choice, wanted: Wanted | None = None) -> Restored:
    """Load the checkpoint of choice; where another may stand in, damaged ones are skipped and listed in the report.

    One of which every byte was read is noted in HEAD, as after a verification: retention keeps it.
    """
    skipped: dict[str, str] = {}
    for _ in range(_ATTEMPTS):
        for entry in await choose(store, choice):
            if entry.checkpoint_id in skipped:
                continue
            try:
                found = await restore(store, entry, wanted)
            except CheckpointCorruptError as error:
                if not choice.may_fall_back:
                    raise
                if (await store.head()).find(entry.checkpoint_id) is None:
                    break  # It was not damaged but retired while it was read: choose again from what there is now.
                skipped[entry.checkpoint_id] = str(error)
                continue
            if found.report.whole:
                await note_whole(store, entry.checkpoint_id)
            return replace(found, report=replace(found.report, skipped=tuple(skipped.items())))
        else:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
            raise CheckpointCorruptError(
                f"none of the {len(skipped)} checkpoints in {store.storage.url} is whole: {reasons}"
            )
    raise NotFoundError(
        f"{_ATTEMPTS} checkpoints in {store.storage.url} were retired while they were being loaded: "
        "raise keep_count, or pin the one to load"
    )


def warn_of_fallback(found: RestoreReport, choice: Choice, *, stacklevel: int = 2) -> None:
    """Warn, in the caller's name, if checkpoints were passed over for the one that was loaded."""
    if found.skipped:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.skipped)
        warnings.warn(
            f"loaded {found.manifest.checkpoint_id} (step {found.manifest.step}) because "
            f"{'better' if choice.step == 'best' else 'newer'} checkpoints are damaged: {reasons}",
            CheckpointFallbackWarning,
            stacklevel=stacklevel + 1,
        )


class _Load:
    """One load: from records to arrays with their memory, and the reads that fill them."""

    def __init__(self, manifest: Manifest, wanted: Wanted) -> None:
        saved = manifest.world_size
        world = saved if wanted.world is None else wanted.world
        if type(world) is not int or world < 1:
            raise InvalidArgumentError(f"world is {ascii(world)[:48]}: give the number of ranks that load")
        if type(wanted.rank) is not int or not 0 <= wanted.rank < world:
            raise InvalidArgumentError(
                f"rank is {ascii(wanted.rank)[:48]}: "
                + (
                    f"{manifest.checkpoint_id} was saved by ranks 0 to {saved - 1}"
                    if world == saved
                    else f"of {world} ranks give one from 0 to {world - 1}"
                )
            )
        self._wanted = wanted
        self._world = world
        self._name = manifest.checkpoint_id
        self._places: dict[int, tuple[str, Any, Place]] = {}
        self.other_world = world != saved
        if wanted.rng and self.other_world:
            raise InvalidArgumentError(
                f"rng: the random state in {self._name} is that of {saved} ranks, not of {world}: seed anew"
            )

    @property
    def rank(self) -> int:
        """Whose tree is taken: with another number of ranks all have to have the same."""
        return 0 if self.other_world else self._wanted.rank

    def look(self, own: RankIndex) -> bool:
        """Look at what is to be filled; return whether the other ranks' indexes are needed for it."""
        rebuild(own.skeleton, [None] * len(own.tensors), self._place_of(own))  # it is a tree
        needed = self.other_world
        for number, (path, value) in match_into(own.skeleton, self._wanted.into).items():
            tensor = own.tensors[number]
            place = place_of(path, value, tensor, as_numpy=self._wanted.as_numpy)
            if place is None:
                continue
            if place.whole not in {None, whole_of(tensor)}:
                raise InvalidArgumentError(
                    f"{path} is a part of {place.whole}, the checkpoint has {tensor.path} of {whole_of(tensor)}"
                )
            self._places[number] = path, value, place
            needed = needed or place.part not in {None, box_of(tensor)}
        return needed

    def ask(self, own: RankIndex, gathering: Gathering) -> Callable[[], Any]:
        """Make the arrays and ask for their content; return what builds the tree once they are filled."""
        skeleton = self._skeleton(own)
        if self.other_world:
            self._require_one_tree(skeleton, own, gathering.indexes.values())
        arrays: dict[int, tuple[NDArray[Any], Box]] = {}
        cut: set[int] = set()
        for number in names_of(skeleton):
            tensor = own.tensors[number]
            if self._is_cut(tensor, gathering):
                cut.add(number)
            part = self._part(number, tensor, gathering)
            if number in self._places:
                path, _, place = self._places[number]
                array = place.memory
                if array.shape != part.shape:
                    raise InvalidArgumentError(
                        f"{path} has the shape {array.shape}, {tensor.path} has {part.shape} in the checkpoint"
                        + (" for this rank: give Sharded(array, global_shape, offsets)" if self.other_world else "")
                    )
            else:
                array = _allocate(tensor, part.shape)
            arrays[number] = array, part
            mine = not self.other_world and part == box_of(tensor)
            gathering.want(tensor.path, array, part, only=own.rank if mine else None)
        return lambda: self._build(own, skeleton, arrays, cut)

    def rng(self, own: RankIndex) -> Any:
        """Return the saved state of the random number generators, as it was captured."""
        if not self._wanted.rng:
            return None
        if own.rng is None:
            raise NotFoundError(f"{self._place_of(own)} was saved without random state: load without rng")
        return rebuild(own.rng, (), f"the random state of {self._place_of(own)}")

    def _build(
        self, own: RankIndex, skeleton: Any, arrays: Mapping[int, tuple[NDArray[Any], Box]], cut: set[int]
    ) -> Any:
        leaves: list[Any] = [None] * len(own.tensors)
        for number, (array, part) in arrays.items():
            tensor = own.tensors[number]
            if number in self._places:
                leaves[number] = self._places[number][1]
                continue
            leaf = restored(array, tensor.tag, tensor.path, as_numpy=self._wanted.as_numpy)
            leaves[number] = Sharded(leaf, whole_of(tensor), part.offsets) if number in cut else leaf
        return rebuild(skeleton, leaves, self._place_of(own))

    def _part(self, number: int, tensor: TensorRecord, gathering: Gathering) -> Box:
        """Return which part of the whole array is wanted here."""
        if number in self._places:
            part = self._places[number][2].part
            if part is not None:
                return part
        if not self.other_world or not self._is_cut(tensor, gathering):
            return box_of(tensor)
        have = [box_of(record) for _, record in gathering.tensors(tensor.path)]
        try:
            return split(whole_of(tensor), have, self._wanted.rank, self._world)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f"{tensor.path} {error}: give Sharded(array, global_shape, offsets) at its place in into"
            ) from None

    def _is_cut(self, tensor: TensorRecord, gathering: Gathering) -> bool:
        """Say whether an array was saved in parts. One of several ranks may have had all of it, and others nothing."""
        if not self.other_world:
            return tensor.global_shape is not None
        return any(record.global_shape is not None for _, record in gathering.tensors(tensor.path))

    def _skeleton(self, index: RankIndex) -> Any:
        names = self._wanted.names
        return index.skeleton if names is None else chosen(index.skeleton, names)

    def _require_one_tree(self, skeleton: Any, own: RankIndex, indexes: Iterable[RankIndex]) -> None:
        for index in indexes:
            rebuild(index.skeleton, [None] * len(index.tensors), self._place_of(index))
            differs = first_difference(skeleton, self._skeleton(index))
            if differs is not None:
                raise InvalidArgumentError(
                    f"{differs} differs between the ranks {own.rank} and {index.rank} of {self._name}, and "
                    f"{self._world} ranks cannot have what each of them had: leave it out by names, or load each "
                    "rank's own without world"
                )

    def _place_of(self, index: RankIndex) -> str:
        return f"rank {index.rank} of {self._name}"


def _allocate(tensor: TensorRecord, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return np.empty(shape, tensor.dtype)
    except MemoryError:
        nbytes = math.prod(shape) * np.dtype(tensor.dtype).itemsize
        raise ResourceExhaustedError(
            f"{tensor.path} needs {nbytes} bytes of memory and there are not so many: load on a larger machine, on "
            "more ranks, or a part of it by names"
        ) from None
