"""Large objects go to the disk past the page cache: the same bytes, and no copy of memory that lies well."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata_zmq.errors import InvalidArgumentError
from strata_zmq.storage import LocalStorage
from strata_zmq.storage.direct import BLOCK, DIRECT_BYTES_MIN, address_of, plan
from strata_zmq.storage.files import Files
from strata_zmq.storage.threads import SharedCalls

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture(scope="module")
def memory() -> memoryview:
    """24 MiB that begin at a multiple of 4096 and are nowhere alike."""
    room = mmap.mmap(-1, 24 * MIB)
    room[:] = os.urandom(24 * MIB)
    return memoryview(room)


class WatchedFiles(Files):
    """Remembers each write: where its pieces lie in memory, its offset and size, and whether it was direct."""

    def __init__(self) -> None:
        self.writes: list[tuple[list[int], int, int, bool]] = []
        self.lock = threading.Lock()
        self.directs = 0
        self.folder_syncs = 0

    def set_direct(self, descriptor: int, *, direct: bool) -> None:
        self.directs += direct
        super().set_direct(descriptor, direct=direct)

    def write(self, descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
        count = super().write(descriptor, pieces, offset)
        direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
        with self.lock:
            self.writes.append(([address_of(piece) for piece in pieces], offset, count, direct))
        return count

    def sync_folder(self, path: Path) -> None:
        with self.lock:
            self.folder_syncs += 1
        super().sync_folder(path)


def stored(storage: LocalStorage, parts: Sequence[memoryview]) -> bytes:
    async def scenario() -> bytes:
        await storage.put("a/k", parts)
        return await storage.get("a/k")

    return asyncio.run(scenario())


_PLACES = st.one_of(st.sampled_from([0, BLOCK, MIB, 3 * MIB + 1]), st.integers(0, 8 * MIB))
_SIZES = st.one_of(
    st.sampled_from([0, 1, BLOCK - 1, BLOCK, 256 << 10, MIB, 9 * MIB]), st.integers(0, 20_000), st.integers(0, 2 * MIB)
)


@pytest.mark.parametrize("direct", [True, False])
@settings(max_examples=12)
@given(cuts=st.lists(st.tuples(_PLACES, _SIZES), max_size=4))
def test_pieces_from_anywhere_become_one_object(
    tmp_path_factory: pytest.TempPathFactory, memory: memoryview, direct: bool, cuts: list[tuple[int, int]]
) -> None:
    """Whatever the places and sizes of the pieces, the object is all of them in order."""
    parts = [memory[at : at + size] for at, size in cuts]
    storage = LocalStorage(tmp_path_factory.mktemp("store"), direct=direct)
    assert stored(storage, parts) == b"".join(parts)


@given(cuts=st.lists(st.tuples(_PLACES, _SIZES), max_size=12))
def test_every_write_but_the_last_is_fit_for_the_disk(memory: memoryview, cuts: list[tuple[int, int]]) -> None:
    """Steps have whole blocks; what is written as it lies lies at multiples of a block; nothing is lost or doubled."""
    parts = [memory[at : at + size] for at, size in cuts if size]
    steps = list(plan(parts))
    assert all(step.nbytes % BLOCK == 0 for step in steps[:-1])
    assert all(
        address_of(piece) % BLOCK == 0 and piece.nbytes % BLOCK == 0
        for step in steps
        if step.as_it_lies
        for piece in step.pieces
    )
    flat = [(address_of(piece), piece.nbytes) for step in steps for piece in step.pieces]
    for part in parts:
        begin, end = address_of(part), address_of(part) + part.nbytes
        while begin < end:
            at, count = flat.pop(0)
            assert at == begin
            begin += count
    assert flat == []


def test_memory_that_lies_well_is_written_without_a_copy(tmp_path: Path, memory: memoryview) -> None:
    files = WatchedFiles()
    storage = LocalStorage(tmp_path, files=files)
    assert storage.traits.aligned == BLOCK
    parts = [memory[: 8 * MIB], memory[12 * MIB : 13 * MIB + 100]]
    assert stored(storage, parts) == b"".join(parts)
    (whole, tail) = files.writes
    assert whole == ([address_of(memory), address_of(memory) + 12 * MIB], 0, 9 * MIB, True)
    assert tail[1:] == (9 * MIB, 100, False)
    assert storage.traits.aligned == BLOCK, "nothing was refused"


def test_memory_that_lies_badly_is_written_past_the_page_cache_all_the_same(tmp_path: Path, memory: memoryview) -> None:
    files = WatchedFiles()
    assert stored(LocalStorage(tmp_path, files=files), [memory[1 : 20 * MIB]]) == memory[1 : 20 * MIB]
    assert [(offset, count, direct) for _, offset, count, direct in files.writes] == [
        (0, 8 * MIB, True),
        (8 * MIB, 8 * MIB, True),
        (16 * MIB, 4 * MIB - BLOCK, True),
        (20 * MIB - BLOCK, BLOCK - 1, False),
    ]


def test_small_objects_go_through_the_page_cache(tmp_path: Path, memory: memoryview) -> None:
    files = WatchedFiles()
    storage = LocalStorage(tmp_path, files=files)
    assert stored(storage, [memory[: DIRECT_BYTES_MIN - 1]]) == memory[: DIRECT_BYTES_MIN - 1]
    assert files.directs == 0


@pytest.mark.parametrize("refuses", ["set_direct", "write"])
def test_a_file_system_that_refuses_direct_writes_is_asked_once(
    tmp_path: Path, memory: memoryview, refuses: str
) -> None:
    """Some say so when the file is opened, others at the first write; objects are whole in either case."""

    class Refusing(WatchedFiles):
        def set_direct(self, descriptor: int, *, direct: bool) -> None:
            super().set_direct(descriptor, direct=direct)
            if direct and refuses == "set_direct":
                super().set_direct(descriptor, direct=False)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        def write(self, descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return super().write(descriptor, pieces, offset)

    files = Refusing()
    storage = LocalStorage(tmp_path, files=files)
    parts = [memory[: 2 * MIB + 5], memory[7 : 2 * MIB]]
    for _ in range(3):
        assert stored(storage, parts) == b"".join(parts)
    assert files.directs == 1
    assert storage.traits.aligned == 1


@pytest.mark.parametrize("taken", [BLOCK, 3 * BLOCK + 17, 1], ids=["blocks", "blocks and a bit", "one byte"])
@pytest.mark.parametrize("direct", [True, False])
def test_a_write_of_which_the_system_takes_a_part_goes_on(
    tmp_path: Path, memory: memoryview, taken: int, direct: bool
) -> None:
    class Reluctant(Files):
        def __init__(self) -> None:
            self.calls = 0

        def write(self, descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
            self.calls += 1
            if self.calls > 2:
                return super().write(descriptor, pieces, offset)
            was_direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
            self.set_direct(descriptor, direct=False)
            count = os.pwritev(descriptor, [pieces[0][:taken]], offset)
            self.set_direct(descriptor, direct=was_direct)
            return count

    parts = [memory[: 3 * MIB], memory[4 * MIB + 1 : 6 * MIB]]
    storage = LocalStorage(tmp_path, direct=direct, files=Reluctant())
    assert stored(storage, parts) == b"".join(parts)
    assert storage.traits.aligned == (BLOCK if direct else 1), "nothing was refused"


@pytest.mark.parametrize("at", ["write", "sync"])
def test_a_cancelled_put_ends_before_its_memory_is_used_again(tmp_path: Path, memory: memoryview, at: str) -> None:
    """The task ends only when the call under way has ended; nothing is published, nothing is left behind."""
    reached, go_on = threading.Event(), threading.Event()

    class Held(Files):
        def write(self, descriptor: int, pieces: Sequence[memoryview], offset: int) -> int:
            self._hold("write")
            return super().write(descriptor, pieces, offset)

        def sync(self, descriptor: int) -> None:
            self._hold("sync")
            super().sync(descriptor)

        @staticmethod
        def _hold(name: str) -> None:
            if name == at:
                reached.set()
                assert go_on.wait(60)

    async def scenario() -> None:
        storage = LocalStorage(tmp_path, files=Held())
        putting = asyncio.create_task(storage.put("a/k", [memory[: 2 * MIB], memory[3 * MIB + 1 : 5 * MIB]]))
        assert await asyncio.to_thread(reached.wait, 60)
        putting.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
            putting.cancel()
        assert not putting.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert list((tmp_path / "a").iterdir()) == []

    asyncio.run(scenario())


def test_memory_is_read_into_at_any_place(tmp_path: Path, memory: memoryview) -> None:
    async def scenario() -> None:
        storage = LocalStorage(tmp_path)
        await storage.put("k", memory[: 10 * MIB])
        for start, size in [(0, 10 * MIB), (5, MIB), (10 * MIB - 3, 10), (20 * MIB, 5), (0, 0)]:
            room = bytearray(size)
            count = await storage.get_into("k", start, memoryview(room))
            assert room[:count] == memory[start : min(start + size, 10 * MIB)]
            assert count == max(0, min(size, 10 * MIB - start))
        with pytest.raises(InvalidArgumentError, match="read-only"):
            await storage.get_into("k", 0, memoryview(b"text"))

    asyncio.run(scenario())


def test_puts_into_one_folder_share_its_sync(tmp_path: Path) -> None:
    """While one sync of the folder runs, those who come share the next, which begins after all of their renames."""
    running, go_on, renamed = threading.Event(), threading.Event(), threading.Semaphore(0)

    class Slow(WatchedFiles):
        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            renamed.release()

        def sync_folder(self, path: Path) -> None:
            super().sync_folder(path)
            if path.name == "a" and not running.is_set():
                running.set()
                assert go_on.wait(60)

    files = Slow()

    async def scenario() -> int:
        storage = LocalStorage(tmp_path, files=files)
        first = asyncio.create_task(storage.put("a/0", b"x"))
        assert await asyncio.to_thread(running.wait, 60)
        before = files.folder_syncs
        others = [asyncio.create_task(storage.put(f"a/{i}", b"x")) for i in range(1, 6)]
        for _ in range(6):
            assert await asyncio.to_thread(renamed.acquire, timeout=60)
        assert not any(other.done() for other in others)
        go_on.set()
        await asyncio.gather(first, *others)
        return files.folder_syncs - before

    # The last of them may have come after the next sync began.
    assert asyncio.run(scenario()) in {1, 2}


@settings(max_examples=30)
@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12))
def test_a_shared_call_covers_what_was_done_before_it_was_asked_for(keys: list[str]) -> None:
    lock = threading.Lock()
    done: dict[str, set[int]] = {"a": set(), "b": set()}
    covered: dict[str, set[int]] = {"a": set(), "b": set()}
    calls = 0

    def call(key: str) -> None:
        nonlocal calls
        with lock:
            calls += 1
            seen = set(done[key])
        with lock:
            covered[key] |= seen

    shared = SharedCalls(call)
    failed: list[int] = []

    def ask(number: int, key: str) -> None:
        with lock:
            done[key].add(number)
        shared(key)
        with lock:
            if number not in covered[key]:
                failed.append(number)

    threads = [threading.Thread(target=ask, args=(number, key)) for number, key in enumerate(keys)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert calls <= len(keys)


def test_a_folder_that_somebody_else_has_just_made_is_synced_before_anything_in_it_counts(tmp_path: Path) -> None:
    """Its maker may not have come to that yet; without it, a power cut would take the folder and all in it."""
    synced: list[str] = []

    class Watched(Files):
        def sync_folder(self, path: Path) -> None:
            synced.append(path.name)
            super().sync_folder(path)

    (tmp_path / "store" / "a" / "b").mkdir(parents=True)
    storage = LocalStorage(tmp_path / "store", files=Watched())
    asyncio.run(storage.put("a/b/k", b"x"))
    assert synced == [tmp_path.name, "store", "a", "b"]
    asyncio.run(storage.put("a/b/l", b"x"))
    assert synced[4:] == ["b"]


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """A storage that is in use gets over somebody who empties its folder."""
    storage = LocalStorage(tmp_path / "store")

    async def scenario() -> None:
        await storage.put("a/b/k", b"x")
        await storage.replace("HEAD", b"1", None)
        await storage.delete_many(["a/b/k", "HEAD"])
        (tmp_path / "store" / ".HEAD.lock").unlink()
        (tmp_path / "store").rmdir()
        await storage.put("a/b/k", b"y")
        assert await storage.get("a/b/k") == b"y"

    asyncio.run(scenario())
