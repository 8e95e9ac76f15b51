"""Cancelling, shutting down and dying: who is ended, who is not, and that every future comes to an end."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import multiprocessing.util
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from functionkit.errands import add, boom, gate, kill_self, pid

from strata_zmq import StrataExecutor
from strata_zmq.domain.task import TaskLimits
from strata_zmq.errors import ResourceExhaustedError, WorkerFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeExecutor

    Eventually = Callable[..., object]


def running(folder: Path, *names: str) -> Callable[[], bool]:
    return lambda: all((folder / name).exists() and (folder / name).read_text() for name in names)


def test_a_call_that_waits_is_cancelled_and_never_runs(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually
) -> None:
    pool = executor(1)
    first = pool.submit(gate, str(run_dir), "first")
    eventually(running(run_dir, "first"))
    waiting = [pool.submit(gate, str(run_dir), f"waiting{n}") for n in range(20)]
    assert all(call.cancel() for call in waiting)
    assert all(call.cancelled() for call in waiting)
    (run_dir / "open").touch()
    first.result()
    assert pool.submit(add, 1, 1).result() == 2
    assert not any((run_dir / f"waiting{n}").exists() for n in range(20))


def test_a_call_that_runs_is_not_cancelled_unless_asked(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually
) -> None:
    call = executor(1).submit(gate, str(run_dir), "it")
    eventually(running(run_dir, "it"))
    assert not call.cancel()
    assert call.running()
    (run_dir / "open").touch()
    assert call.result() > 0
    assert not call.cancel(running=True)


def test_a_running_call_is_killed_with_its_child_and_nobody_else(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually
) -> None:
    pool = executor(2)
    doomed, other = pool.submit(gate, str(run_dir), "doomed"), pool.submit(gate, str(run_dir), "other")
    eventually(running(run_dir, "doomed", "other"))
    child = int((run_dir / "doomed").read_text())
    assert doomed.cancel(running=True)
    assert doomed.cancelled()
    with pytest.raises(CancelledError):
        doomed.result()
    eventually(lambda: not Path(f"/proc/{child}").exists())
    (run_dir / "open").touch()
    assert other.result() == int((run_dir / "other").read_text())
    assert pool.submit(add, 1, 1).result() == 2


def test_short_calls_that_are_handed_over_already_can_be_taken_back(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually
) -> None:
    """Children hold short calls ahead; one that nobody has begun is still the caller's to cancel."""
    pool = executor(1)
    assert list(pool.map(add, range(500), chunksize=1)) == list(range(500))
    first = pool.submit(gate, str(run_dir), "first")
    eventually(running(run_dir, "first"))
    behind = [pool.submit(add, n) for n in range(10)]
    assert all(call.cancel() for call in behind)
    (run_dir / "open").touch()
    first.result()
    assert pool.submit(add, 5).result() == 5


def test_cancelling_from_a_callback_waits_for_nobody(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually
) -> None:
    pool = executor(2)
    doomed = pool.submit(gate, str(run_dir), "doomed")
    eventually(running(run_dir, "doomed"))
    answers: list[bool] = []
    pool.submit(add, 1).add_done_callback(lambda _: answers.append(doomed.cancel(running=True)))
    eventually(lambda: answers == [True])
    assert doomed.cancelled()


def test_a_cancelled_task_of_an_event_loop_ends_its_call(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually
) -> None:
    pool = executor(1)
    blocker = pool.submit(gate, str(run_dir), "blocker")
    eventually(running(run_dir, "blocker"))

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(pool, gate, str(run_dir), "late"), 0.05)

    asyncio.run(give_up())
    (run_dir / "open").touch()
    blocker.result()
    assert pool.submit(add, 1).result() == 1
    assert not (run_dir / "late").exists()


def test_a_child_that_dies_fails_its_own_call_alone(executor: MakeExecutor) -> None:
    pool = executor(2)
    calls = [pool.submit(kill_self) if n == 5 else pool.submit(add, n) for n in range(13)]
    with pytest.raises(WorkerFailure) as caught:
        calls[5].result()
    assert isinstance(caught.value, BrokenExecutor)
    assert (caught.value.cause, caught.value.signal, caught.value.task_id) == ("killed", 9, calls[5].task_id)
    assert [call.result() for n, call in enumerate(calls) if n != 5] == [n for n in range(13) if n != 5]
    assert pool.submit(add, 1, 1).result() == 2


def test_an_initializer_that_fails_breaks_the_executor_and_says_so(
    executor: MakeExecutor, eventually: Eventually
) -> None:
    pool = executor(1, initializer=boom, initargs=("no licence",))
    with pytest.raises(BrokenExecutor):
        pool.submit(add, 1).result()
    eventually(lambda: pool._broken)
    with pytest.raises(BrokenExecutor, match="cannot be started"):
        pool.submit(add, 1)


def fail_with_last_words(path: str) -> None:
    def speak() -> None:
        time.sleep(0.2)  # as a log that goes over a wire
        Path(path).write_text("I had no licence")

    multiprocessing.util.Finalize(None, speak, exitpriority=1)
    raise LookupError("no licence")


def test_children_whose_initializer_fails_may_still_say_why(executor: MakeExecutor, run_dir: Path) -> None:
    """Whatever a child does at its end, sending a log among it, is done when the calls fail."""
    pool = executor(1, initializer=fail_with_last_words, initargs=(f"{run_dir}/words",))
    with pytest.raises(BrokenExecutor):
        pool.submit(add, 1).result()
    assert (run_dir / "words").read_text() == "I had no licence"


def test_shutdown_waits_for_what_was_submitted_and_then_takes_nothing(executor: MakeExecutor) -> None:
    pool = executor(2)
    calls = [pool.submit(time.sleep, 0.05) for _ in range(4)]
    pool.shutdown()
    assert all(call.done() and call.exception() is None for call in calls)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(add, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.map(add, [1])
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.put(1)
    pool.shutdown()


def test_shutdown_may_drop_what_has_not_begun(executor: MakeExecutor, run_dir: Path, eventually: Eventually) -> None:
    pool = executor(2)
    begun = [pool.submit(gate, str(run_dir), name) for name in ("a", "b")]
    eventually(running(run_dir, "a", "b"))
    waiting = [pool.submit(add, n) for n in range(100)]
    pool.shutdown(wait=False, cancel_futures=True)
    eventually(lambda: all(call.cancelled() for call in waiting))
    (run_dir / "open").touch()
    assert all(call.result() for call in begun)


def test_an_executor_that_never_ran_anything_can_be_shut_down() -> None:
    pool = StrataExecutor(2)
    pool.shutdown()
    pool.shutdown(wait=False)


def test_an_executor_that_is_dropped_ends_when_its_calls_have(eventually: Eventually) -> None:
    threads = threading.active_count()
    pool = StrataExecutor(2, multiprocessing.get_context("fork"))
    calls = [pool.submit(time.sleep, 0.05) for _ in range(4)]
    children = list(pool._processes)
    del pool
    gc.collect()
    assert [call.result() for call in calls] == [None] * 4
    eventually(lambda: threading.active_count() == threads)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_forked_process_leaves_its_parents_executor_alone(executor: MakeExecutor, run_dir: Path) -> None:
    pool = executor(2)
    before = pool.submit(pid).result()

    def misuse() -> None:
        try:
            pool.submit(pid)
        except BrokenExecutor as error:
            (run_dir / "error").write_text(str(error))

    process = multiprocessing.get_context("fork").Process(target=misuse)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert "make another one here" in (run_dir / "error").read_text()
    assert pool.submit(pid).result() in pool._processes
    assert before in pool._processes


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_what_a_program_without_a_file_defines_can_be_called(context: str) -> None:
    program = f"""
        import multiprocessing
        from strata_zmq import StrataExecutor
        class Pair:
            left = 3
        def mirrored(pair):
            pair.left = -pair.left
            return pair
        with StrataExecutor(1, multiprocessing.get_context({context!r})) as pool:
            pair = pool.submit(mirrored, Pair()).result()
        print(pair.left, type(pair) is Pair)
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (shown.stdout, shown.stderr) == ("-3 True\n", "")


def test_what_forked_children_cannot_know_is_told_with_the_way_out() -> None:
    program = """
        import multiprocessing
        from strata_zmq import StrataExecutor
        with StrataExecutor(1, multiprocessing.get_context("fork")) as pool:
            pool.submit(abs, -1).result()
            def late():
                return 1
            print(pool.submit(late).exception())
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert "define it before the first call" in shown.stdout, shown.stderr
    assert "Can't get attribute 'late'" in shown.stdout


def test_more_calls_than_may_wait_are_refused(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strata_zmq.functions.local.CALLS_MAX", 3)
    pool = executor(1)
    calls = [pool.submit(gate, str(run_dir), name) for name in "abc"]
    with pytest.raises(ResourceExhaustedError, match="3 are waiting or running already; wait for some"):
        pool.submit(add, 1)
    (run_dir / "open").touch()
    assert all(call.result() for call in calls)
    assert pool.submit(add, 1).result() == 1


def test_forked_children_import_nothing_that_another_thread_may_be_importing() -> None:
    """A module's lock, held by a thread that is not in the forked process, is never given back there."""
    program = """
        import multiprocessing, sys
        from strata_zmq import StrataExecutor
        def new_modules(before):
            return sorted(set(sys.modules) - before)
        with StrataExecutor(1, multiprocessing.get_context("fork")) as pool:
            pool.submit(len, ()).result()
            print(pool.submit(new_modules, set(sys.modules)).result())
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (shown.stdout, shown.stderr) == ("[]\n", "")


@pytest.mark.parametrize("ending", ["", "pool.shutdown(wait=False)", "del pool"])
@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_the_interpreter_ends_after_the_calls(context: str, ending: str) -> None:
    program = f"""
        import multiprocessing, time
        from strata_zmq import StrataExecutor
        if __name__ == "__main__":
            pool = StrataExecutor(1, multiprocessing.get_context({context!r}))
            pool.submit(time.sleep, 0.2).add_done_callback(lambda call: print("ended", call.exception(), flush=True))
            {ending}
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (shown.stdout, shown.stderr, shown.returncode) == ("ended None\n", "", 0)


def test_a_killed_parent_takes_its_children_along(eventually: Eventually) -> None:
    program = """
        import os, time
        from strata_zmq import StrataExecutor
        pool = StrataExecutor(2)
        pool.submit(time.sleep, 600)
        pool.submit(os.getpid).result()
        print(*pool._processes, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        children = parent.stdout.readline().split()
        parent.kill()
    assert len(children) == 2
    eventually(lambda: not any(alive(child) for child in children))


def alive(child: str) -> bool:
    try:
        return Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_deadline_from_submission_ends_a_call_that_waits(
    executor: MakeExecutor, run_dir: Path, eventually: Eventually
) -> None:
    pool = executor(1)
    blocker = pool.submit(gate, str(run_dir), "blocker")
    eventually(running(run_dir, "blocker"))
    late = pool.submit_with(TaskLimits(queue_s=0.1), add, 1)
    total = pool.submit_with(TaskLimits(total_s=0.1), add, 1)
    with pytest.raises(WorkerFailure, match="waited longer"):
        late.result(timeout=10)
    with pytest.raises(WorkerFailure, match="exceeded deadline"):
        total.result(timeout=10)
    (run_dir / "open").touch()
    blocker.result()
    assert os.getpid() != pool.submit(pid).result()
