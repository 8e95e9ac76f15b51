"""What every test may rely on: an environment without outside influence, patience with a deadline, and no leftovers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from processkit.patience import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["s3kit.fixtures"]

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, never written
_OUTSIDE = ("AWS_", "STRATA_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_OUTSIDE_NAMES = {
    *("COORDINATOR_URL", "WORKER_ID", "GPU_COUNT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "DEMO_MODE"),
    *("STORAGE_BACKEND", "CHECKPOINT_BUCKET"),
}
_GRACE_S = 20.0
# The standard library's helpers, which live as long as the interpreter.
_AS_LONG_AS_PYTHON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
_PR_SET_CHILD_SUBREAPER = 36

# A shared machine stalls now and then: no test fails for being slow, and a failure prints how to replay it.
settings.register_profile("strata", deadline=None, print_blob=True)
settings.load_profile("strata")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --strict-skips and --screenshots."""
    parser.addoption("--strict-skips", action="store_true", help="fail when a test is skipped, but for want of a GPU")
    parser.addoption("--screenshots", metavar="DIR", help="where browser tests leave pictures")


def pytest_configure(config: pytest.Config) -> None:
    """Drop what would steer the code under test, and become the parent of whatever a dying process leaves behind."""
    for name in list(os.environ):
        if name.upper().startswith(_OUTSIDE) or name in _OUTSIDE_NAMES:
            del os.environ[name]
    os.environ["STRATA_API_PORT"] = "none"  # two jobs at once would share one port, and most tests look at no page
    # What was started in the background, or by nohup, ignores these, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    if config.getoption("--strict-skips"):
        config.pluginmanager.register(_StrictSkips(), "strict-skips")


class _StrictSkips:
    """Turns skipped tests into a failed run: a check that silently did not happen is no check."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # What is skipped while it is being collected is known only to the process that collects.
        found = getattr(node, "workeroutput", {}).get("skipped", [])
        self.skipped += [nodeid for nodeid in found if nodeid not in self.skipped]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["skipped"] = self.skipped
            return
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("skipped, which --strict-skips forbids", red=True)
            for nodeid in self.skipped:
                terminalreporter.line(nodeid)


@pytest.fixture
def eventually() -> Callable[..., object]:
    """`eventually(predicate, timeout_s=30, message="")` polls until `predicate()` is true and returns its value."""
    return until


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short folder, 0700: a Unix socket's path holds 107 bytes, which tmp_path may exceed."""
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a process or a file in shared memory behind; what it leaves is removed.

    Being a subreaper, this process is also the parent of grandchildren whose parent was killed.
    """
    children, files = _children(), _shared_files()
    yield
    deadline = time.monotonic() + _GRACE_S
    while True:
        left_children, left_files = _running(_children() - children), _unclaimed(_shared_files() - files)
        if not left_children and not left_files:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(0.01)
    names = {pid: _command(pid) for pid in left_children}
    for pid in left_children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for path in left_files:
        path.unlink(missing_ok=True)
    pytest.fail(f"left behind after {_GRACE_S} s: processes {names}, files {sorted(map(str, left_files))}")


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread may end while it is looked at
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _running(pids: set[int]) -> set[int]:
    """Return those that still run, and bury those that do not."""
    running = set()
    for pid in pids:
        try:
            if os.waitpid(pid, os.WNOHANG) == (0, 0) and not any(name in _command(pid) for name in _AS_LONG_AS_PYTHON):
                running.add(pid)
        except ChildProcessError:
            continue
    return running


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "gone"


def _shared_files() -> set[Path]:
    try:
        return set(_SHARED_MEMORY.iterdir())
    except OSError:
        return set()


def _unclaimed(files: set[Path]) -> set[Path]:
    """Return the files of this user that no other process has mapped: another program's are not the test's."""
    mine = set()
    for path in files:
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_uid == os.getuid():
                mine.add(path)
    if not mine:
        return mine
    for maps in Path("/proc").glob("[0-9]*/maps"):
        if maps.parent.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            text = maps.read_text()
            mine = {path for path in mine if str(path) not in text}
    return mine
