"""What every backend promises, whatever holds the bytes: each test runs on all of them."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import InvalidArgumentError, NotFoundError
from strata_zmq.storage import Storage, VersionConflictError
from strata_zmq.storage.base import check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def storage(storage_of: Callable[[Path], Storage], tmp_path: Path) -> Iterator[Storage]:
    """An empty place of each backend: local with and without O_DIRECT, moto, SeaweedFS, and the tests' own server."""
    opened = storage_of(tmp_path)
    yield opened
    asyncio.run(opened.close())


def test_a_backend_is_a_storage(storage: Storage) -> None:
    assert isinstance(storage, Storage)
    assert storage.url


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000], ids=["empty", "one byte", "1.2 MB"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_put_is_what_one_gets(storage: Storage, data: bytes, kind: type) -> None:
    async def scenario() -> bytes:
        await storage.put("a/b/c", kind(data))
        return await storage.get("a/b/c")

    assert asyncio.run(scenario()) == data


@pytest.mark.parametrize("nbytes", [10, 100_000, 9 << 20], ids=["small", "middling", "large"])
def test_several_parts_are_one_object(storage: Storage, nbytes: int) -> None:
    data = random.Random(nbytes).randbytes(nbytes)
    cuts = [0, 3, 4, 4, nbytes // 2, nbytes]
    parts = [memoryview(data)[start:stop] for start, stop in pairwise(cuts)]

    async def scenario() -> tuple[bytes, bytes]:
        await storage.put("parts", parts)
        await storage.put("none", [])
        return await storage.get("parts"), await storage.get("none")

    assert asyncio.run(scenario()) == (data, b"")


def test_reading_into_memory_fills_what_is_there(storage: Storage) -> None:
    """From any place, and no further than the object's end; 20 MiB is more than one request of any backend."""
    data = random.Random(1).randbytes(20 << 20)

    async def scenario() -> None:
        await storage.put("k", data)
        for start, nbytes in [
            (0, len(data)),
            (5, 1000),
            (len(data) - 10, 100),
            (len(data), 5),
            (len(data) + 7, 5),
            (3, 0),
        ]:
            into = bytearray(b"\xff" * nbytes)
            count = await storage.get_into("k", start, memoryview(into))
            assert count == len(data[start : start + nbytes])
            assert into[:count] == data[start : start + nbytes]
            assert into[count:] == b"\xff" * (nbytes - count), "what is behind it stays as it was"
        with pytest.raises(NotFoundError, match="nowhere"):
            await storage.get_into("nowhere", 0, memoryview(bytearray(1)))
        with pytest.raises(InvalidArgumentError, match="start"):
            await storage.get_into("k", -1, memoryview(bytearray(1)))

    asyncio.run(scenario())


def test_what_is_said_to_have_arrived_is_there(storage: Storage) -> None:
    """Whoever checks bytes while the rest is being read finds them in place; a backend may also tell nothing."""
    data = random.Random(2).randbytes(20 << 20)
    into = bytearray(len(data) + 5)
    told: list[int] = []

    def arrived(count: int) -> None:
        begin = told[-1] if told else 0
        told.append(count if into[begin:count] == data[begin:count] else -1)

    async def scenario() -> int:
        await storage.put("k", data)
        return await storage.get_into("k", 0, memoryview(into), arrived)

    assert asyncio.run(scenario()) == len(data)
    assert told == sorted({count for count in told if 0 < count <= len(data)}), "it rises, and each was true"


def test_many_objects_are_deleted_together(storage: Storage) -> None:
    async def scenario() -> list[str]:
        for number in range(5):
            await storage.put(f"a/{number}", b"x")
        await storage.delete_many([])
        await storage.delete_many(["a/1", "a/3", "a/never", "b"])
        return await storage.list()

    assert asyncio.run(scenario()) == ["a/0", "a/2", "a/4"]


def test_a_storage_that_was_closed_may_be_closed_again(storage: Storage) -> None:
    async def scenario() -> None:
        await storage.put("k", b"x")
        await storage.close()
        await storage.close()

    asyncio.run(scenario())


def test_it_says_how_it_likes_to_be_used(storage: Storage) -> None:
    traits = storage.traits
    assert traits.object_bytes_best >= 1 << 20
    assert traits.puts_at_once >= 1
    assert traits.aligned >= 1


def test_a_range_is_cut_off_at_the_end_of_the_object(storage: Storage) -> None:
    async def scenario() -> list[bytes]:
        await storage.put("k", b"0123456789")
        return [await storage.get("k", *range_) for range_ in [(2, 5), (8, 20), (20, 30), (3, 3), (4,), (0, 10)]]

    assert asyncio.run(scenario()) == [b"234", b"89", b"", b"", b"456789", b"0123456789"]


@pytest.mark.parametrize("bounds", [(-1, None), (5, 4)])
def test_a_range_that_cannot_be_is_refused(storage: Storage, bounds: tuple[int, int | None]) -> None:
    with pytest.raises(InvalidArgumentError, match="range"):
        asyncio.run(storage.get("k", *bounds))


def test_putting_again_replaces_the_object(storage: Storage) -> None:
    async def scenario() -> bytes:
        await storage.put("k", b"a long first version")
        await storage.put("k", b"short")
        return await storage.get("k")

    assert asyncio.run(scenario()) == b"short"


def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        asyncio.run(storage.get("nowhere"))
    assert not asyncio.run(storage.exists("nowhere"))


def test_deleting_removes_one_object_and_is_harmless_again(storage: Storage) -> None:
    async def scenario() -> list[str]:
        await storage.put("a/one", b"1")
        await storage.put("a/two", b"2")
        for _ in range(2):
            await storage.delete("a/one")
        assert not await storage.exists("a/one")
        return await storage.list()

    assert asyncio.run(scenario()) == ["a/two"]


def test_a_list_has_all_keys_of_a_prefix_in_order(storage: Storage) -> None:
    async def scenario() -> list[list[str]]:
        assert await storage.list() == []
        for key in ["b/2", "b/10", "a", "b/sub/x", "bb/1"]:
            await storage.put(key, b"")
        return [await storage.list(prefix) for prefix in ["", "b/", "b", "b/1", "nothing/"]]

    assert asyncio.run(scenario()) == [
        ["a", "b/10", "b/2", "b/sub/x", "bb/1"],
        ["b/10", "b/2", "b/sub/x"],
        ["b/10", "b/2", "b/sub/x", "bb/1"],
        ["b/10"],
        [],
    ]


def test_a_folder_can_be_filled_again_while_it_is_emptied(storage: Storage) -> None:
    """Deleting the last object of a folder never makes a put beside it fail."""

    async def churn(name: str) -> None:
        for _ in range(20):
            await storage.put(f"shared/folder/{name}", b"x")
            await storage.delete(f"shared/folder/{name}")

    async def scenario() -> None:
        await asyncio.gather(*(churn(str(i)) for i in range(4)))

    asyncio.run(scenario())


def test_replace_needs_the_version_that_was_read(storage: Storage) -> None:
    async def scenario() -> None:
        assert await storage.read_versioned("HEAD") == (None, None)
        first = await storage.replace("HEAD", b"one", None)
        assert await storage.read_versioned("HEAD") == (b"one", first)
        second = await storage.replace("HEAD", b"two", first)
        assert second != first
        for stale in (None, first):
            with pytest.raises(VersionConflictError):
                await storage.replace("HEAD", b"three", stale)
        assert await storage.read_versioned("HEAD") == (b"two", second)

    asyncio.run(scenario())


def test_replacing_what_was_deleted_is_a_conflict(storage: Storage) -> None:
    async def scenario() -> None:
        version = await storage.replace("HEAD", b"one", None)
        await storage.delete("HEAD")
        with pytest.raises(VersionConflictError):
            await storage.replace("HEAD", b"two", version)

    asyncio.run(scenario())


def test_of_racing_replacements_exactly_one_wins(storage: Storage) -> None:
    async def attempt(name: int, version: str) -> bool:
        try:
            await storage.replace("HEAD", b"winner %d" % name, version)
        except VersionConflictError:
            return False
        return True

    async def scenario() -> None:
        version = await storage.replace("HEAD", b"start", None)
        won = await asyncio.gather(*(attempt(i, version) for i in range(8)))
        assert sum(won) == 1
        assert (await storage.read_versioned("HEAD"))[0] == b"winner %d" % won.index(True)

    asyncio.run(scenario())


def test_sweeping_leaves_objects_alone(storage: Storage) -> None:
    async def scenario() -> None:
        await storage.put("a/b", b"kept")
        assert await storage.sweep(older_than_s=0.0) == 0
        assert await storage.get("a/b") == b"kept"

    asyncio.run(scenario())


def test_preparing_leaves_nothing_in_sight(storage: Storage) -> None:
    async def scenario() -> list[str]:
        await storage.prepare()
        return await storage.list()

    assert asyncio.run(scenario()) == []


_BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.tmp-1", "a\0b", "a b", "ä", "a\n", "a" * 4097, 7]


@pytest.mark.parametrize("key", _BAD_KEYS, ids=lambda key: ascii(key)[:12])
def test_a_key_outside_its_limits_is_refused_by_every_method(storage: Storage, key: str) -> None:
    calls = [
        storage.put(key, b""),
        storage.get(key),
        storage.exists(key),
        storage.delete(key),
        storage.read_versioned(key),
        storage.get_into(key, 0, memoryview(bytearray(1))),
        storage.delete_many([key]),
        storage.replace(key, b"", None),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match="key"):
            asyncio.run(call)


@given(st.text(max_size=30))
def test_no_accepted_key_leaves_its_folder(text: str) -> None:
    try:
        key = check_key(text)
    except InvalidArgumentError:
        return
    assert not any(part.startswith(".") or not part for part in key.split("/"))
    assert "\0" not in key
