"""The journal under kill -9 and failing disks: every acknowledged batch is there again, and no half of one."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.journal import Journal
from strata_zmq.errors import AlreadyExistsError, StorageError

APPENDER = """
import sys
from strata_zmq.coordinator.core.records import EpochBegan
from strata_zmq.coordinator.journal import Journal
from strata_zmq.errors import StrataError

path, limit, sizes = sys.argv[1], int(sys.argv[2]), [int(size) for size in sys.argv[3:]]
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
journal = Journal(path, snapshot_every=40)
history = journal.replay()
print("ready", history.epoch, journal.position, flush=True)
while True:
    size = sizes[(journal.position + 1) % len(sizes)]
    some = [EpochBegan(epoch=history.epoch + 1 + number) for number in range(size)]
    for record in some:
        history.apply(record)
    try:
        journal.append(some, history)
    except StrataError as error:
        print("error", type(error).__name__, error, flush=True)
        raise SystemExit(3)
    print(history.epoch, journal.position, flush=True)
"""


def epochs_after(sizes: list[int], position: int) -> int:
    """The epoch behind batch `position`, if batch p has sizes[p % len(sizes)] records."""
    return sum(sizes[number % len(sizes)] for number in range(1, position + 1))


def replayed(path: Path) -> tuple[History, int]:
    journal = Journal(path)
    try:
        return journal.replay(), journal.position
    finally:
        journal.close()


def start_appender(path: Path, *sizes: int, limit: int = 0, strace: list[str] | None = None) -> subprocess.Popen[str]:
    command = [*(strace or []), sys.executable, "-c", APPENDER, str(path), str(limit), *map(str, sizes or (3,))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    lives=st.lists(st.tuples(st.integers(0, 60), st.floats(0, 0.004)), min_size=1, max_size=3),
)
def test_kill_9_at_any_moment_loses_no_acknowledged_batch_and_leaves_no_half_one(
    tmp_path, sizes: list[int], lives: list[tuple[int, float]]
) -> None:
    path = tmp_path / "journal.sqlite"
    for leftover in tmp_path.iterdir():
        leftover.unlink()
    acknowledged = 0
    for lines, pause_s in lives:
        process = start_appender(path, *sizes)
        assert process.stdout is not None
        word, epoch, position = process.stdout.readline().split()
        assert word == "ready"
        assert int(position) >= acknowledged
        assert int(epoch) == epochs_after(sizes, int(position))
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(pause_s)  # not to wait for anything: it moves the kill within an append
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        acknowledged = max([acknowledged, int(position) + lines, *(int(line.split()[1]) for line in rest)])
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    history, position = replayed(path)
    assert acknowledged <= position <= acknowledged + 1
    assert history.epoch == epochs_after(sizes, position), "a half batch"


def test_a_full_disk_is_an_error_and_no_acknowledgement(tmp_path) -> None:
    """RLIMIT_FSIZE stands for the full disk: no file may grow beyond it."""
    path = tmp_path / "journal.sqlite"
    process = start_appender(path, limit=100_000)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    *acknowledged, last = out.splitlines()
    assert last.startswith("error StorageError")
    assert str(path) in last
    assert replayed(path)[0].epoch == int(acknowledged[-1].split()[0])


def test_after_a_failed_append_the_journal_takes_nothing_more(tmp_path) -> None:
    """Nobody knows what the disk holds then; only a replay does, and it has all that was acknowledged before."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    history = journal.replay()
    metadata = {"padding": "x" * 4000}
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages + 20}")

    def add(number: int) -> str:
        record = records.DatasetAdded(
            dataset_id=f"data-{number}",
            total_samples=1,
            shard_size=1,
            shuffle=False,
            seed=0,
            path="",
            format="",
            metadata=metadata,
            at=0.0,
        )
        history.apply(record)
        journal.append([record], history)
        return record.dataset_id

    acknowledged: list[str] = []
    with pytest.raises(StorageError, match=r"cannot be written: database or disk is full; make room"):
        acknowledged.extend(map(add, range(100)))
    assert 5 < len(acknowledged) < 100
    journal._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    with pytest.raises(StorageError, match="disk is full"):
        add(100)
    journal.close()
    again, position = replayed(path)
    assert list(again.datasets) == acknowledged
    assert position == len(acknowledged)


@pytest.fixture
def strace() -> str:
    found = shutil.which("strace")
    if found is None or subprocess.run([found, "-qqo", "/dev/null", "true"], capture_output=True).returncode:
        pytest.skip("strace is not installed, or may not trace here")
    return found


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("fdatasync", "error=EIO"),
        ("fdatasync", "error=ENOSPC"),
        ("pwrite64", "error=ENOSPC"),
        ("pwrite64", "error=EIO"),
        ("fdatasync", "signal=SIGKILL"),
        ("pwrite64", "signal=SIGKILL"),
    ],
)
def test_a_call_that_fails_in_the_middle_of_an_append_is_no_acknowledgement(
    tmp_path, strace: str, call: str, fault: str
) -> None:
    """EIO, ENOSPC or a kill at a random write or flush of the file or its log."""
    rng = random.Random(f"{call} {fault}")
    for case in range(3):
        path = tmp_path / f"journal-{case}.sqlite"
        when = rng.randrange(20, 300)
        options = ["-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={when}"]
        process = start_appender(path, 2, 5, strace=[strace, *options])
        out, _ = process.communicate(timeout=60)
        lines = out.splitlines()
        if "error=" in fault:
            assert process.returncode == 3
            assert lines.pop().startswith("error StorageError")
        else:
            assert process.returncode == -signal.SIGKILL
        acknowledged = int(lines[-1].split()[-1])
        assert acknowledged > 0
        history, position = replayed(path)
        assert acknowledged <= position <= acknowledged + 1, (when, lines)
        assert history.epoch == epochs_after([2, 5], position)


def test_a_second_process_on_one_file_is_refused_by_name(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    process = start_appender(path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready")
    with pytest.raises(AlreadyExistsError, match=r"in use by another coordinator.*--journal"):
        Journal(path)
    process.kill()
    process.communicate()
    assert replayed(path)[0].term == 0
