"""Runs CPython's own tests of executors and futures against StrataExecutor; scripts/cpython_suite starts it.

The suite is the interpreter's `test.test_concurrent_futures`, version 3.13. Its classes for process pools, under fork,
forkserver and spawn, get StrataExecutor for ProcessPoolExecutor, its tests of futures StrataFuture for Future. Where it
looks for names that are the stock pool's own, it finds what stands for them here. Every test that is left out is in
EXCLUDED, with the reason. Each start method has a process of its own, and all run at once: they wait most of the time.
"""

from __future__ import annotations

import concurrent.futures.process
import importlib
import re
import subprocess
import sys
import tempfile
import threading
import types
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from strata_zmq import StrataExecutor
from strata_zmq.functions.codec import RemoteTraceback
from strata_zmq.functions.future import StrataFuture

PACKAGE = "test.test_concurrent_futures"
MODULES = (
    "test_future",
    "test_as_completed",
    "test_deadlock",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_wait",
)

WAYS = ("spawn", "forkserver", "fork")
"""How children are started: classes of tests have it in their names. The longest comes first."""

EXCLUDED = {
    "test_killed_child": "it demands that one dead child breaks the whole pool; here it fails its own call alone, and"
    " the pool goes on (test_executor_ends: test_a_child_that_dies_fails_its_own_call_alone)",
    "test_max_workers_too_large": "a limit of Windows",
    "test_saturation": "its calls cannot be packed (a semaphore is inherited, never sent), and it counts the processes"
    " that the stock pool starts before it finds that out; here no child is started for such a call",
    "test_processes_terminate": "as test_saturation; that children end with their executor is shown by"
    " test_executor_ends: test_an_executor_that_is_dropped_ends_when_its_calls_have",
    "test_python_finalization_error": "it makes the start of the stock pool's second thread fail; here there is one",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "it fills the stock pool's wake-up pipe; here an eventfd"
    " is written only while the thread sleeps, and never blocks",
    "test_error_during_result_pickle_on_worker": "a result that cannot be pickled is a WorkerFailure that names its"
    " type and the reason, as a function service promises, and not the pickler's own PicklingError",
    "test_exit_during_result_pickle_on_worker": "as the test before: a result whose pickling exits is one that cannot"
    " be pickled, and not a SystemExit of the caller's",
}


class _NoQueue:
    """Stands for the stock pool's call queue, whose feeder thread a test joins: here there is none."""

    def join_thread(self) -> None:
        """Return at once."""


class SuiteExecutor(StrataExecutor):
    """StrataExecutor with the stock pool's own names for what the suite waits for."""

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:
        return self._local._thread if self._local is not None else None

    @property
    def _call_queue(self) -> _NoQueue:
        return _NoQueue()


class NamedByModule(SuiteExecutor):
    """What `futures.ProcessPoolExecutor` is in the tests that name it; one of them compares it with the executor's."""


class _Futures(types.ModuleType):
    """`concurrent.futures`, with StrataExecutor in the place of the pool of processes."""

    ProcessPoolExecutor = NamedByModule

    def __getattr__(self, name: str) -> Any:
        return getattr(concurrent.futures, name)


def in_scripts(assert_python_ok: Callable[..., Any]) -> Callable[..., Any]:
    """Let the scripts that the suite starts import the executor from where it is, and what else one of them forgets."""

    def run(option: str, script: str, *more: str) -> Any:
        for name in (SuiteExecutor.__name__, NamedByModule.__name__):
            script = script.replace(
                f"from concurrent.futures import {name}",
                f"import multiprocessing; from strata_zmq import StrataExecutor as {name}",
            )
        return assert_python_ok(option, script, *more)

    return run


def prepare() -> list[types.ModuleType]:
    """Import the suite with our names in the places of the stock ones."""
    util: Any = importlib.import_module(f"{PACKAGE}.util")
    future = type("Future", (StrataFuture,), {})  # the suite looks for this name in texts
    util.Future = future
    for name in [name for name in vars(util) if name.endswith("_FUTURE")]:
        stock = getattr(util, name)
        setattr(util, name, util.create_future(stock._state, stock._exception, stock._result))
    for name in ("ProcessPoolForkMixin", "ProcessPoolForkserverMixin", "ProcessPoolSpawnMixin"):
        getattr(util, name).executor_type = SuiteExecutor
    setattr(concurrent.futures.process, "_RemoteTraceback", RemoteTraceback)  # noqa: B010 - a name that is not ours
    modules: list[Any] = [importlib.import_module(f"{PACKAGE}.{name}") for name in MODULES]
    for module in modules:
        for name, ours in {
            "BrokenProcessPool": BrokenExecutor,
            "Future": future,
            "futures": _Futures("futures"),
        }.items():
            if hasattr(module, name):
                setattr(module, name, ours)
        if hasattr(module, "assert_python_ok"):
            module.assert_python_ok = in_scripts(module.assert_python_ok)
    return modules


def each(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Return the single tests of a suite."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


def way_of(test: unittest.TestCase) -> str:
    """Return how a test's children are started; tests without any run beside those of fork, which are the shortest."""
    name = type(test).__name__.lower()
    return next((way for way in WAYS if way in name), "fork")


def chosen(
    modules: list[types.ModuleType], wanted: Callable[[unittest.TestCase], bool]
) -> tuple[unittest.TestSuite, dict[str, int]]:
    """Return the tests to run, and how often each excluded one would have run. Thread pools are not our business."""
    suite, excluded = unittest.TestSuite(), dict.fromkeys(EXCLUDED, 0)
    for module in modules:
        for test in each(unittest.defaultTestLoader.loadTestsFromModule(module)):
            name = test.id().rsplit(".", 1)[1]
            if "ThreadPool" in type(test).__name__ or not wanted(test):
                continue
            if name in EXCLUDED:
                excluded[name] += 1
            else:
                suite.addTest(test)
    return suite, excluded


def run(title: str, wanted: Callable[[unittest.TestCase], bool], verbosity: int) -> int:
    """Run the wanted tests, print how many they were, and return the exit status."""
    suite, excluded = chosen(prepare(), wanted)
    result = unittest.TextTestRunner(verbosity=verbosity, buffer=False).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"\nCPython {sys.version.split()[0]}, {PACKAGE}, {title}, against StrataExecutor:")
    print(f"  run {result.testsRun}, failed {failed}, excluded {sum(excluded.values())}, skipped {len(result.skipped)}")
    for test, reason in result.skipped:
        print(f"  skipped by the suite itself: {test.id()}: {reason}")
    if not result.testsRun:
        print("  nothing matches")
    return int(failed > 0 or not result.testsRun)


def explain(excluded: dict[str, int]) -> None:
    """Print the table of what was left out."""
    for name, count in excluded.items():
        print(f"  excluded {count} x {name}: {EXCLUDED[name]}" if count else f"  no such test any more: {name}")


def everything() -> int:
    """Run the tests of every start method, each in a process of its own; what they print comes whole and in order."""
    with ExitStack() as stack:
        parts = [stack.enter_context(_part(way)) for way in WAYS]
        status = 0
        for process, told in parts:
            status |= int(process.wait() != 0)
            told.seek(0)
            print(told.read(), flush=True)
    _, excluded = chosen(prepare(), lambda _: True)
    explain(excluded)
    return int(status or not all(excluded.values()))


@contextmanager
def _part(way: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    # A file, and no pipe, whose end a forgotten child might keep open.
    with tempfile.TemporaryFile("w+") as told:
        command = [sys.executable, __file__, "--way", way]
        with subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT, text=True) as process:
            try:
                yield process, told
            finally:
                process.kill()


def main(*arguments: str) -> int:
    """Run everything, or what matches a pattern, or with `--way` what belongs to one start method."""
    match arguments:
        case ():
            return everything()
        case ("--way", way):
            return run(way, lambda test: way_of(test) == way, verbosity=1)
        case (pattern, *_):
            return run(repr(pattern), lambda test: re.search(pattern, test.id()) is not None, verbosity=2)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
