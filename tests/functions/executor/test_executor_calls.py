"""A StrataExecutor is the standard library's executor: calls run in children, and their futures say how they ended."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from functionkit.errands import add, boom, pid, say, scribble, total

from strata_zmq import StrataExecutor
from strata_zmq.domain.task import TaskLimits
from strata_zmq.errors import InvalidArgumentError, WorkerFailure
from strata_zmq.functions.codec import RemoteTraceback
from strata_zmq.functions.refs import Ref

if TYPE_CHECKING:
    from concurrent.futures import Future

    from conftest import MakeExecutor

CONTEXTS = pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
LARGE = 300_000


class Account:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def plus(self, more: int) -> int:
        return self.cents + more


class Closed:
    """Packs, and cannot be loaded anywhere."""

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (boom, ("closed",))


@CONTEXTS
def test_a_call_runs_in_a_child_however_children_are_made(executor: MakeExecutor, context: str) -> None:
    pool = executor(1, context=context)
    assert pool.submit(add, 1, 2, three=3).result() == 6
    assert pool.submit(pid).result() != os.getpid()


def test_a_number_first_is_the_number_of_workers_as_in_the_stock_pool() -> None:
    with StrataExecutor(1) as pool:
        assert len({pool.submit(pid).result() for _ in range(5)}) == 1


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        StrataExecutor(workers)


def test_a_number_given_twice_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="given twice"):
        StrataExecutor(1, max_workers=2)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (TaskLimits(attempt_s=-1), "attempt_s is -1: Expected `float` >= 0.0"),
        (TaskLimits(attempt_s="5"), "attempt_s is '5': Expected `float`"),  # type: ignore[arg-type]
        (TaskLimits(total_s=float("nan")), "total_s is nan"),
        (TaskLimits(retries_lost=-1), "retries_lost is -1"),
        (TaskLimits(labels=3), "labels is 3: Expected `object`"),  # type: ignore[arg-type]
        (TaskLimits(durability="always"), "durability is 'always': it is one of 'none', 'commit'"),  # type: ignore[arg-type]
        (None, "limits is None: give a TaskLimits"),
    ],
)
def test_limits_that_nothing_can_keep_are_refused_at_once_and_cost_no_other_call(
    executor: MakeExecutor, limits: TaskLimits, told: str
) -> None:
    pool = executor(1)
    with pytest.raises(InvalidArgumentError, match=re.escape(told)) as refused:
        pool.submit_with(limits, add, 1, 2)
    assert "$[" not in str(refused.value)
    assert pool.submit(add, 1, 2).result() == 3
    with pytest.raises(InvalidArgumentError, match=re.escape(told)):
        StrataExecutor(1, limits=limits)


@pytest.mark.parametrize("workers", [2.5, "4", b"tcp://127.0.0.1:1"])
def test_what_is_no_number_of_workers_is_refused_by_its_name(workers: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"max_workers is {workers!r}: give a whole number"):
        StrataExecutor(max_workers=workers)
    if not isinstance(workers, str):  # first, a text is an address
        with pytest.raises(InvalidArgumentError, match=f"max_workers is {workers!r}: .* address in the first place"):
            StrataExecutor(workers)


def test_workers_are_counted_by_what_stands_for_a_number_too() -> None:
    with StrataExecutor(np.int64(1)) as pool:  # type: ignore[arg-type]
        assert len({pool.submit(pid).result() for _ in range(5)}) == 1
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        StrataExecutor(np.int64(0))  # type: ignore[arg-type]


def test_no_workers_are_refused_at_a_dispatcher_too() -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        StrataExecutor("tcp://127.0.0.1:1", max_workers=-1)


def test_the_name_of_a_context_is_refused_with_how_to_get_it() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"mp_context is 'spawn': give multiprocessing\.get_context\('spawn'\)"
    ):
        StrataExecutor(1, mp_context="spawn")  # type: ignore[arg-type]


def test_what_makes_children_is_refused_where_a_dispatcher_has_them() -> None:
    with pytest.raises(InvalidArgumentError, match=r"give them to the workers of tcp://127\.0\.0\.1:1"):
        StrataExecutor("tcp://127.0.0.1:1", initializer=print)


def test_lambdas_closures_and_methods_run(executor: MakeExecutor) -> None:
    pool, base = executor(), 10
    assert pool.submit(lambda x: x + base, 5).result() == 15
    assert pool.submit(Account(3).plus, 4).result() == 7


def test_an_exception_comes_back_as_its_own_type_with_the_childs_traceback(executor: MakeExecutor) -> None:
    error = executor().submit(boom, "not here").exception()
    assert isinstance(error, LookupError)
    assert error.args == ("not here",)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise LookupError(text)" in str(error.__cause__)


def test_a_call_that_cannot_be_packed_fails_in_its_future_and_harms_no_other(executor: MakeExecutor) -> None:
    pool = executor()
    bad = pool.submit(len, threading.Lock())
    assert isinstance(bad.exception(), TypeError)
    assert bad.task_id == ""
    assert pool.submit(add, 1, 1).result() == 2


def test_a_call_that_cannot_be_loaded_in_the_child_harms_no_other(executor: MakeExecutor) -> None:
    pool = executor(1)
    bad, good = pool.submit(len, Closed()), pool.submit(add, 1, 1)
    with pytest.raises(WorkerFailure, match="cannot be loaded"):
        bad.result()
    assert good.result() == 2


def test_a_result_that_cannot_be_loaded_here_harms_no_other(executor: MakeExecutor) -> None:
    pool = executor(1)
    bad, good = pool.submit(Closed), pool.submit(add, 1, 1)
    with pytest.raises(WorkerFailure, match="its result cannot be loaded here: LookupError: closed"):
        bad.result()
    assert good.result() == 2


@CONTEXTS
def test_a_large_array_arrives_and_is_the_childs_own(executor: MakeExecutor, context: str) -> None:
    """The child may write into its argument; the caller's array stays as it is, and may change after submit."""
    pool, array = executor(1, context=context), np.ones(LARGE)
    first = pool.submit(total, array, array)
    array[:] = 2
    assert first.result() == 2 * LARGE
    assert (pool.submit(scribble, array).result() == 7).all()
    assert (array == 2).all()


def test_a_large_result_can_be_written_and_outlives_the_next_ones(executor: MakeExecutor) -> None:
    pool = executor(1)
    first = pool.submit(np.full, LARGE, 1).result()
    second = pool.submit(np.full, LARGE, 2).result()
    first += 1
    assert (first == 2).all()
    assert (second == 2).all()
    assert not np.shares_memory(first, second)


@CONTEXTS
def test_a_value_is_put_once_and_named_in_many_calls(executor: MakeExecutor, context: str) -> None:
    pool = executor(2, context=context)
    array = np.ones(LARGE)
    ref = pool.put(array)
    array[:] = 5
    assert isinstance(ref, Ref)
    assert ref.nbytes >= LARGE * 8
    assert [call.result() for call in [pool.submit(total, ref, ref) for _ in range(20)]] == [2 * LARGE] * 20
    assert pool.submit(lambda table: total(*table["rows"]), {"rows": [ref]}).result() == LARGE
    assert pool.put(np.ones(LARGE)) == ref
    assert list(pool.map(add, [pool.put(3)] * 3, [1, 2, 3])) == [4, 5, 6]


def test_what_a_call_prints_is_in_its_report_where_that_is_asked_for(executor: MakeExecutor) -> None:
    call = executor(1, capture=True).submit(say, "hello")
    call.result()
    assert call.report is not None
    assert call.report.stdout == "hello\n"


def test_many_threads_may_submit_at_once(executor: MakeExecutor) -> None:
    pool = executor()
    found: list[list[int]] = []

    def ask(base: int) -> None:
        found.append([call.result() - base for call in [pool.submit(add, base, i) for i in range(200)]])

    threads = [threading.Thread(target=ask, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(200))] * 4


def test_a_callback_may_submit_and_what_it_raises_harms_nobody(executor: MakeExecutor) -> None:
    pool = executor()
    chained: list[Future[int]] = []
    ready = threading.Event()

    def go_on(done: Future[int]) -> None:
        chained.append(pool.submit(add, done.result(), 1))
        ready.set()
        raise LookupError("in a callback")

    pool.submit(add, 1, 1).add_done_callback(go_on)
    assert ready.wait(10)
    assert chained[0].result() == 3


def test_an_event_loop_can_await_its_calls(executor: MakeExecutor) -> None:
    pool = executor()

    async def gathered() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, add, i, i) for i in range(20)))

    assert asyncio.run(gathered()) == [2 * i for i in range(20)]


def test_limits_of_one_call_do_not_touch_the_next(executor: MakeExecutor, run_dir: os.PathLike[str]) -> None:
    pool = executor(1)
    slow = pool.submit_with(TaskLimits(attempt_s=0.2), __import__("time").sleep, 30)
    with pytest.raises(WorkerFailure, match="exceeded deadline") as caught:
        slow.result()
    assert caught.value.cause == "deadline"
    assert pool.submit(add, 1, 1).result() == 2


def test_a_call_may_be_tried_again_after_an_exception(executor: MakeExecutor, run_dir: os.PathLike[str]) -> None:
    pool = executor(1)
    counter = f"{run_dir}/tries"

    def flaky() -> int:
        with open(counter, "a+") as file:  # noqa: PTH123
            file.write("x")
            file.flush()
            file.seek(0)
            if len(file.read()) < 3:
                raise LookupError("not yet")
        return 1

    assert pool.submit_with(TaskLimits(retries_error=2), flaky).result() == 1
    assert isinstance(pool.submit_with(TaskLimits(retries_error=1), boom, "never").exception(), LookupError)


def test_the_same_key_and_call_are_one_task_and_another_call_is_refused(
    executor: MakeExecutor, run_dir: os.PathLike[str]
) -> None:
    pool = executor(1)
    first = pool.submit_with(TaskLimits(keep_s=60), pid, key="once")
    second = pool.submit_with(TaskLimits(keep_s=60), pid, key="once")
    other = pool.submit_with(TaskLimits(keep_s=60), add, 1, key="once")
    wait([first, second, other], timeout=10)
    assert first.result() == second.result()
    assert other.exception() is not None
    assert pool.submit_with(TaskLimits(keep_s=60), pid, key="once").result() == first.result()


def test_calls_that_must_outlive_the_process_are_refused_here(executor: MakeExecutor) -> None:
    with pytest.raises(InvalidArgumentError, match="give the address of a dispatcher"):
        executor(1).submit_with(TaskLimits(durability="commit"), add, 1)


def test_a_large_array_that_was_put_cannot_be_written_by_a_call(executor: MakeExecutor) -> None:
    pool = executor(1)
    ref = pool.put(np.ones(LARGE))
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(scribble, ref).result()
    assert pool.submit(total, ref).result() == LARGE


def test_the_memory_of_large_arguments_is_used_again(executor: MakeExecutor) -> None:
    pool, array = executor(1), np.ones(LARGE)

    def segments() -> int:
        return sum("strata-call" in target for target in map(linked, Path("/proc/self/fd").iterdir()))

    before = segments()
    for _ in range(20):
        assert pool.submit(total, array).result() == LARGE
    assert segments() - before <= 2


def linked(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # the one that lists the others
        return ""
