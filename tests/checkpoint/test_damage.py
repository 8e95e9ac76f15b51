"""Damage is seen: a flipped bit or a missing byte never comes back as a state, and what is whole is loaded instead."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stepkit import Places, StepStorage

from strata_zmq import CheckpointManager
from strata_zmq.checkpoint.restore import CheckpointFallbackWarning
from strata_zmq.checkpoint.store import CheckpointStore
from strata_zmq.domain.manifest import Head, HeadEntry, RankIndex
from strata_zmq.domain.manifest_format import decode_head, decode_manifest, decode_rank_index
from strata_zmq.errors import CheckpointCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096


def state(step: int) -> dict[str, Any]:
    """160 KiB, of which `shared` is the same in every step."""
    rng = np.random.default_rng(step)
    return {
        "shared": np.arange(10_000, dtype=np.int32),
        "weights": rng.standard_normal((40, 331)),
        "small": [rng.standard_normal(3), step, "text"],
    }


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (
        one["shared"].tobytes() == other["shared"].tobytes()
        and one["weights"].tobytes() == other["weights"].tobytes()
        and one["small"][0].tobytes() == other["small"][0].tobytes()
        and one["small"][1:] == other["small"][1:]
    )


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """Two checkpoints, of which the second refers to chunks of the first."""
    places = Places()
    with CheckpointManager(StepStorage(places), chunk_bytes=16 * 1024) as manager:
        for step in (1, 2):
            manager.save(state(step), step, 0)
            manager.wait_pending()
    assert head_of(places.objects).retained[1].refs, "the second refers to the first"
    return places.objects


def head_of(objects: dict[str, bytes]) -> Head:
    return decode_head(objects["HEAD"], "HEAD")


def index_of(objects: dict[str, bytes], entry: HeadEntry) -> tuple[str, RankIndex]:
    key = decode_manifest(objects[entry.manifest_key], "").ranks[0].index_key
    return key, decode_rank_index(objects[key], "")


def damaged(objects: dict[str, bytes], key: str, data: bytes | None) -> Places:
    """A place in which one object is another, or is missing."""
    places = Places()
    places.objects = dict(objects)
    places.versions["HEAD"] = 1
    if data is None:
        del places.objects[key]
    else:
        places.objects[key] = data
    return places


def flipped(data: bytes, bit: int) -> bytes:
    found = bytearray(data)
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


def load(places: Places) -> tuple[dict[str, Any], list[str]]:
    """What the user gets, and the ids that the warning named as passed over."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with CheckpointManager(StepStorage(places)) as manager:
            data = manager.load()
            assert manager.last_restore is not None
            skipped = [name for name, _ in manager.last_restore.skipped]
    warned = [str(one.message) for one in seen if issubclass(one.category, CheckpointFallbackWarning)]
    assert bool(skipped) == bool(warned), "never silently"
    assert all(name in warned[0] for name in skipped)
    return data, skipped


def falls_back(places: Places) -> None:
    """The newest is damaged: the one before comes, and the user is told."""
    newest = head_of(places.objects).retained[1].checkpoint_id
    data, skipped = load(places)
    assert skipped == [newest]
    assert equal(data, state(1))


def cuts(data: bytes) -> Iterator[bytes]:
    yield from (data[:length] for length in range(len(data)))


def test_every_flipped_bit_and_every_missing_byte_of_head_is_seen(written: dict[str, bytes]) -> None:
    good = written["HEAD"]

    async def scenario() -> None:
        places = damaged(written, "HEAD", good)
        store = CheckpointStore(StepStorage(places))
        for bad in (*(flipped(good, bit) for bit in range(len(good) * 8)), *cuts(good)):
            places.objects["HEAD"] = bad
            with pytest.raises(CheckpointCorruptError, match="steps:/HEAD"):
                await store.entries()
        assert len(good) > 500

    asyncio.run(scenario())


def test_with_a_damaged_head_nothing_is_loaded_saved_or_deleted(written: dict[str, bytes]) -> None:
    places = damaged(written, "HEAD", flipped(written["HEAD"], 4321))
    before = dict(places.objects)
    with CheckpointManager(StepStorage(places)) as manager:
        with pytest.raises(CheckpointCorruptError, match="put a copy of steps:/HEAD back, or save into another folder"):
            manager.load()
        manager.save(state(3), 3, 0)
        with pytest.raises(CheckpointCorruptError):
            manager.wait_pending()
    assert before.items() <= places.objects.items(), "what was there is there"
    places.objects["HEAD"] = written["HEAD"]
    assert equal(load(places)[0], state(2))


def test_every_flipped_bit_and_every_missing_byte_of_a_manifest_is_seen(written: dict[str, bytes]) -> None:
    entry = head_of(written).retained[1]
    good = written[entry.manifest_key]

    async def scenario() -> None:
        places = damaged(written, entry.manifest_key, good)
        store = CheckpointStore(StepStorage(places))
        for bad in (*(flipped(good, bit) for bit in range(len(good) * 8)), *cuts(good)):
            places.objects[entry.manifest_key] = bad
            with pytest.raises(CheckpointCorruptError, match="manifest-"):
                await store.read_manifest(entry)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["manifest", "index"])
def test_where_a_record_of_the_newest_is_damaged_the_one_before_is_loaded(written: dict[str, bytes], kind: str) -> None:
    entry = head_of(written).retained[1]
    key = entry.manifest_key if kind == "manifest" else index_of(written, entry)[0]
    good = written[key]
    falls_back(damaged(written, key, None))
    for bit in range(0, len(good) * 8, 997):
        falls_back(damaged(written, key, flipped(good, bit)))
    for length in range(0, len(good), 101):
        falls_back(damaged(written, key, good[:length]))


def test_one_flipped_bit_in_each_4_kib_of_data_is_seen(written: dict[str, bytes]) -> None:
    """Damage in what only the newest needs costs the newest. In what both refer to, both: then nothing is loaded."""
    rng = np.random.default_rng(4)
    own, shared = index_of(written, head_of(written).retained[1])[1], index_of(written, head_of(written).retained[0])[1]
    both = {chunk.key for chunk in own.chunks} & {chunk.key for chunk in shared.chunks}
    outcomes = set()
    for key, good in sorted(written.items()):
        for begin in range(0, len(good), PAGE) if "/pack-" in key else ():
            where = begin + int(rng.integers(min(PAGE, len(good) - begin)))
            places = damaged(written, key, flipped(good, where * 8 + int(rng.integers(8))))
            outcomes.add(outcome(places, both, key))
    assert outcomes == {"older", "none", "newest"}


def test_data_that_is_cut_off_at_any_boundary_is_seen(written: dict[str, bytes]) -> None:
    index = index_of(written, head_of(written).retained[1])[1]
    mine = head_of(written).retained[1].checkpoint_id
    for key in sorted({chunk.key for chunk in index.chunks if mine in chunk.key}):
        good = written[key]
        edges = {edge for chunk in index.chunks if chunk.key == key for edge in (chunk.offset, chunk.offset + 1)}
        ends = {chunk.offset + chunk.stored_bytes - 1 for chunk in index.chunks if chunk.key == key}
        for length in sorted(edges | ends | set(range(0, len(good), PAGE))):
            falls_back(damaged(written, key, good[:length]))
        falls_back(damaged(written, key, None))


def outcome(places: Places, both: set[str], key: str) -> str:
    if key in both:
        with contextlib.suppress(CheckpointCorruptError):
            assert equal(load(places)[0], state(2)), "a bit between chunks"
            return "newest"
        return "none"
    data, skipped = load(places)
    if skipped:
        assert equal(data, state(1))
        return "older"
    assert equal(data, state(2)), "a bit between chunks, or of a checkpoint that was not asked for"
    return "newest"
