"""`map` gives results in order, cuts long lists of short calls into chunks by itself, and each call has its own end."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from functionkit.errands import add, gate, kill_self, note, wait_for
from hypothesis import given
from hypothesis import strategies as st

from strata_zmq.errors import WorkerFailure
from strata_zmq.functions.codec import RemoteTraceback
from strata_zmq.functions.mapping import CHUNK_MAX, automatic_chunk, chunk_results, cut, run_chunk

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeExecutor


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number


class Unpicklable(Exception):  # noqa: N818
    def __reduce__(self) -> str:
        raise TypeError("never")


def awkward(number: int) -> int:
    if number == 3:
        raise Unpicklable("here")
    return number


@given(calls=st.integers(0, 100_000), workers=st.integers(1, 64))
def test_chunks_are_as_long_as_leaves_every_worker_many_of_them(calls: int, workers: int) -> None:
    size = automatic_chunk(calls, workers)
    assert 1 <= size <= CHUNK_MAX
    assert size == 1 or calls // size >= 32 * workers


@given(values=st.lists(st.integers(0, 20)), size=st.integers(1, 7))
def test_chunks_give_what_the_calls_one_by_one_would(values: list[int], size: int) -> None:
    """Results in order up to the first call that raises, whose exception is raised there."""
    calls: list[tuple[Any, ...]] = [(100, value) for value in values]
    results = chunk_results(run_chunk(divmod, chunk) for chunk in cut(calls, size))
    good = values[: values.index(0)] if 0 in values else values
    assert [next(results) for _ in good] == [divmod(100, value) for value in good]
    with pytest.raises(ZeroDivisionError if 0 in values else StopIteration) as caught:
        next(results)
    assert isinstance(caught.value.__cause__, RemoteTraceback) == (0 in values)


def test_results_come_in_order_however_many_there_are(executor: MakeExecutor) -> None:
    pool = executor()
    assert list(pool.map(add, range(5000), range(5000))) == [2 * n for n in range(5000)]
    assert list(pool.map(add, (n for n in range(10)), chunksize=3)) == list(range(10))
    assert list(pool.map(add, [], [])) == []
    assert list(pool.map(add, range(3), range(100))) == [0, 2, 4]


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_an_exception_is_raised_in_its_place_and_the_other_calls_still_run(
    executor: MakeExecutor, run_dir: Path, chunksize: int | None
) -> None:
    pool = executor()
    results = pool.map(note, [str(run_dir)] * 8, range(8), [5] * 8, chunksize=chunksize)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(LookupError, match="5 is the one"):
        next(results)
    pool.shutdown()
    assert {path.name for path in run_dir.iterdir()} >= {"0", "1", "2", "3", "4", "5"}
    if chunksize == 4:
        assert (run_dir / "7").exists()


def test_an_exception_that_cannot_travel_costs_the_others_in_its_chunk_nothing(executor: MakeExecutor) -> None:
    results = executor(1).map(awkward, range(6), chunksize=6)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(WorkerFailure, match="cannot be pickled and loaded again: TypeError: never") as caught:
        next(results)
    assert "Unpicklable: here" in str(caught.value)


def test_a_child_that_dies_costs_its_chunk_and_no_other(executor: MakeExecutor) -> None:
    pool = executor(1)
    with pytest.raises(WorkerFailure):
        list(pool.map(kill_self, range(4), chunksize=4))
    assert list(pool.map(add, range(4), chunksize=2)) == [0, 1, 2, 3]


def test_a_map_that_takes_too_long_cancels_what_has_not_begun(executor: MakeExecutor, run_dir: Path) -> None:
    pool = executor(1)
    results = pool.map(gate, [str(run_dir)] * 10, [f"call{n}" for n in range(10)], timeout=0.3)
    with pytest.raises(TimeoutError):
        list(results)
    (run_dir / "open").touch()
    pool.shutdown()
    assert not (run_dir / "call9").exists()


def test_a_result_that_was_handed_out_is_held_nowhere(executor: MakeExecutor) -> None:
    for chunksize in (1, 4):
        for thing in executor().map(Thing, range(10), chunksize=chunksize):
            watched = weakref.ref(thing)
            del thing
            gc.collect()
            assert watched() is None


def test_chunks_of_no_length_are_refused(executor: MakeExecutor) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor().map(add, [1], chunksize=0)
    with pytest.raises(TypeError, match="'chunk_size'"):
        executor().map(add, [1], chunk_size=2)


def test_a_map_begins_before_it_is_packed_to_the_end(executor: MakeExecutor, run_dir: Path) -> None:
    """Calls are handed over while later ones are still being packed."""
    pool = executor(1)

    class Watching:
        def __init__(self, number: int) -> None:
            self.number = number

        def __reduce__(self) -> tuple[Any, ...]:
            if self.number == 150:
                wait_for(f"{run_dir}/0")
            return (int, (self.number,))

    assert len(list(pool.map(note, [str(run_dir)] * 200, map(Watching, range(200)), chunksize=1))) == 200
