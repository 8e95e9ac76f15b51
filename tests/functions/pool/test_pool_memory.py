"""Large buffers are copied into shared memory once, used again, and never under somebody who still reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from poolkit import Owner, context
from poolkit.functions import add, mean

from strata_zmq.errors import UnavailableError
from strata_zmq.functions.codec import load_result
from strata_zmq.functions.pool import segments as module
from strata_zmq.functions.pool.segments import SegmentPool, SharedParts
from strata_zmq.functions.pool.starting import Descriptor, of_this_process

_KEPT: list[object] = []


def hold(array: object) -> int:
    """Keep an argument beyond the call."""
    _KEPT.append(array)
    return len(_KEPT)


def first_of(which: int) -> float:
    """Return the first element of an argument that was kept."""
    return float(_KEPT[which][0])  # type: ignore[index]


def views(*arrays: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[memoryview]:
    return [memoryview(array).cast("B") for array in arrays]


def inode(parts: SharedParts) -> int:
    return os.fstat(parts.fd).st_ino


def test_buffers_lie_in_one_segment_each_where_its_span_says() -> None:
    pool = SegmentPool()
    arrays = [np.arange(n, dtype=np.float64) for n in (5, 0, 70_000)]
    parts = pool.store(b"stream", views(*arrays))
    assert parts.stream == b"stream"
    assert parts.nbytes == 6 + sum(array.nbytes for array in arrays)
    for array, (offset, length), view in zip(arrays, parts.spans, parts.views(), strict=True):
        assert np.array_equal(np.frombuffer(os.pread(parts.fd, length, offset)), array)
        assert np.array_equal(np.frombuffer(view), array)
    pool.give_back(parts)
    with pytest.raises(UnavailableError):
        parts.views()
    pool.close()


def test_a_segment_is_used_again_unless_somebody_still_has_it() -> None:
    pool = SegmentPool()
    (buffer,) = views(np.zeros(50_000))
    first = pool.store(b"", [buffer])
    number = inode(first)
    pool.give_back(first)
    pool.give_back(first)
    second = pool.store(b"", [buffer])
    assert inode(second) == number
    third = pool.store(b"", [buffer])
    assert inode(third) != number
    second.kept = True
    pool.give_back(second)
    assert inode(pool.store(b"", [buffer])) != number
    pool.close()


def test_small_calls_do_not_take_large_segments() -> None:
    pool = SegmentPool()
    large = pool.store(b"", views(np.zeros(1_000_000)))
    number = inode(large)
    pool.give_back(large)
    assert inode(pool.store(b"", views(np.zeros(1000)))) != number
    pool.close()


def test_idle_segments_are_bounded_and_the_longest_unused_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_BYTES_MAX", 4 * 2**20)
    monkeypatch.setattr(module, "IDLE_SEGMENTS_MAX", 3)
    pool = SegmentPool()
    stored = [pool.store(b"", views(np.zeros(100_000))) for _ in range(6)]
    numbers = [inode(parts) for parts in stored]
    for parts in stored:
        pool.give_back(parts)
    again = [pool.store(b"", views(np.zeros(100_000))) for _ in range(3)]
    assert sorted(map(inode, again)) == sorted(numbers[3:])
    huge = pool.store(b"", views(np.zeros(2**20)))
    number = inode(huge)
    pool.give_back(huge)
    assert inode(pool.store(b"", views(np.zeros(2**20)))) != number
    pool.close()


def test_a_closed_pool_of_segments_stores_nothing_and_takes_the_rest_back() -> None:
    pool = SegmentPool()
    parts = pool.store(b"", views(np.zeros(10)))
    pool.close()
    with pytest.raises(UnavailableError):
        pool.store(b"", views(np.zeros(10)))
    descriptor = parts.fd
    pool.give_back(parts)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_callers_store_from_many_threads_and_no_two_share_a_segment() -> None:
    pool = SegmentPool()
    wrong: list[float] = []

    def caller(value: float) -> None:
        for _ in range(60):
            parts = pool.store(b"", views(np.full(20_000, value)))
            if not (np.frombuffer(parts.views()[0]) == value).all():
                wrong.append(value)
            pool.give_back(parts)

    threads = [threading.Thread(target=caller, args=(float(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    pool.close()


def test_a_callers_segment_is_marked_where_the_call_kept_its_buffer() -> None:
    callers = SegmentPool()
    with Owner(1) as owner:

        def shared(fn: object, array: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[SharedParts, object]:
            task = owner.task(fn, array)  # type: ignore[arg-type]
            assert isinstance(task.body, tuple)
            parts = task.body = callers.store(bytes(task.body[0]), [memoryview(part) for part in task.body[1:]])
            return parts, load_result(owner.outcome(owner.offer(task)[0]))

        parts, result = shared(mean, np.full(50_000, 2.0))
        assert result == 2.0
        assert not parts.kept
        parts, result = shared(hold, np.full(50_000, 5.0))
        assert parts.kept
        callers.give_back(parts)
        for _ in range(3):
            parts, _ = shared(mean, np.full(50_000, 9.0))
            callers.give_back(parts)
        assert owner.call(first_of, 0) == 5.0
    callers.close()


def test_the_pools_own_segments_are_not_used_again_under_who_kept_an_argument() -> None:
    with Owner(1) as owner:
        for value in (1.0, 2.0, 3.0):
            owner.call(hold, np.full(50_000, value))
            owner.call(mean, np.full(50_000, 9.0))
        assert [owner.call(first_of, n) for n in range(3)] == [1.0, 2.0, 3.0]


def test_the_pools_own_segments_are_used_again() -> None:
    with Owner(1) as owner:
        for _ in range(5):
            owner.call(mean, np.zeros(50_000))
        assert len(owner.pool._backlog.segments._idle) == 1


def test_a_large_value_is_kept_once_for_all_children() -> None:
    with Owner(2) as owner:
        text = "y" * 300_000
        task = owner.task(len, text)
        assert isinstance(task.body, bytes)
        owner.pool.keep(b"d" * 16, task.body)
        owner.pool.drop(b"d" * 16)
        assert load_result(owner.outcome(owner.offer(task)[0])) == 300_000


def test_no_descriptor_is_left_behind_by_a_pool() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only

    with Owner(1) as owner:
        owner.call(add, 1, 1)
    before = count()
    for _ in range(3):
        with Owner(2) as owner:
            owner.call(mean, np.zeros(100_000))
            assert owner.call(np.ones, 200_000).sum() == 200_000
            task = owner.task(hold, np.zeros(100_000))
            owner.offer(task)
            owner.turn()
            owner.turn()
        owner.outcomes.clear()  # a large result is a view of memory
    assert count() == before


def test_a_forked_process_keeps_none_of_the_pools_descriptors() -> None:
    """Else a process that somebody forks would keep the children of a dead parent alive."""
    read, write = os.pipe()
    end = Descriptor(write)
    of_this_process(end)
    process = context("fork").Process(target=os.write, args=(write, b"x"))
    process.start()
    process.join()
    of_this_process(end, closed=True)
    end.close()
    assert process.exitcode == 1
    assert os.read(read, 1) == b""
    os.close(read)


_NESTED = """
import sys
sys.path[:0] = {path!r}
from poolkit import Owner
from poolkit.functions import add

def nested(n):
    with Owner(1) as owner:
        return owner.call(add, n, n)

if __name__ == "__main__":
    with Owner(2) as owner:
        keys = [owner.submit(nested, n) for n in range(6)]
        print([outcome.kind for outcome in owner.ended(keys)])
"""


def test_a_call_may_have_a_pool_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "nested.py"
    program.write_text(_NESTED.format(path=[path for path in sys.path if path.endswith("kits")]))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(["ok"] * 6), done.stderr
