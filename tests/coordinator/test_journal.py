"""The journal on a real disk: what was acknowledged is there again, whatever ended the process before."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.journal import SCHEMA_VERSION, Journal
from strata_zmq.errors import AlreadyExistsError, StorageError
from strata_zmq.protocol import messages as wire

APPENDER = """
import sys
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.core.records import EpochBegan
from strata_zmq.coordinator.journal import Journal
from strata_zmq.errors import StrataError

path, batch, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
journal = Journal(path, snapshot_every=40)
history = journal.replay()
print("ready", history.epoch, flush=True)
while True:
    some = [EpochBegan(epoch=history.epoch + 1 + number) for number in range(batch)]
    for record in some:
        history.apply(record)
    try:
        journal.append(some, history)
    except StrataError as error:
        print("error", type(error).__name__, error, flush=True)
        raise SystemExit(3)
    print(history.epoch, flush=True)
"""


TERM = records.TermStarted(term=1)
DATASET = records.DatasetAdded(
    dataset_id="data", total_samples=10, shard_size=1, shuffle=True, seed=1, path="", format="", metadata={}, at=0.0
)


def append(journal: Journal, history: History, *some: records.Record) -> None:
    for record in some:
        history.apply(record)
    journal.append(some, history)


def replayed(path: Path) -> History:
    journal = Journal(path)
    try:
        return journal.replay()
    finally:
        journal.close()


def start_appender(path: Path, *, batch: int = 3, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPENDER, str(path), str(batch), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def eventful(make_job):
    """A job whose records are of every kind there is."""
    job = make_job(initial_workers=2, min_workers=2)
    w0, w1 = job.workers("w0", "w1")
    job.dataset(total=100, shard_size=10, metadata={"key": "value"})
    writer = job.writer()
    for worker in (w0, w1):
        worker.commit(job.seen(worker.shards().shards[0], 0, 7))
    for step, outcome in ((1, "taken"), (2, "failed")):
        for worker in (w0, w1):
            name = worker.begin(step).got(wire.CheckpointOpened).checkpoint_id
            worker.durable(name)
        if outcome == "taken":
            order = writer.asked_to_commit()
            writer.confirm(wire.CheckpointSummary(name, step, 0, 200, order.created_at, 2))
        else:
            writer.ask(wire.CheckpointFailed(checkpoint_id=name, code="storage", message="full"))
    for worker in (w0, w1):
        worker.advance()
    job.lose(w1)
    job.lose(w0)
    (n0, _) = job.workers("n0", "n1")
    n0.ask(wire.Restore(checkpoint_id=name, ledger=order.ledger)).got(wire.Restored)
    job.writer("other", wire.CheckpointSummary("elsewhere", 1, 0, 1, 1.0))
    assert {type(record) for record in job.records} == set(get_args(records.Record))
    return job


@pytest.mark.parametrize("snapshot_every", [1, 2, 7, 10_000])
def test_a_replay_of_the_file_is_the_live_history(tmp_path, eventful, snapshot_every: int) -> None:
    path = tmp_path / "journal.sqlite"
    journal, history = Journal(path, snapshot_every=snapshot_every), History()
    for at in range(0, len(eventful.records), 3):
        append(journal, history, *eventful.records[at : at + 3])
    journal.close()
    assert replayed(path).to_snapshot() == eventful.history.to_snapshot()


def test_an_empty_journal_gives_an_empty_history(tmp_path) -> None:
    assert replayed(tmp_path / "deep" / "folder" / "journal.sqlite").to_snapshot() == History().to_snapshot()


def test_snapshots_bound_the_file_and_what_has_to_be_replayed(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    journal, history = Journal(path, snapshot_every=50), History()
    sizes = []
    for number in range(3000):
        step = {"generation": 1, "name": "step", "step": number, "commit": False, "ranges": {}}
        append(journal, history, records.BarrierReleased(participants=["w0", "w1"], **step))
        if number in {999, 2999}:
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
    journal.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT COUNT(*) FROM record").fetchone()[0] < 50
        assert db.execute("SELECT COUNT(*) FROM snapshot").fetchone()[0] == 1
    db.close()
    assert sizes[1] <= sizes[0] * 1.2
    assert replayed(path).releases == 3000


def test_what_a_restart_finds_counts_towards_the_next_snapshot(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    for _ in range(5):
        journal = Journal(path, snapshot_every=4)
        history = journal.replay()
        append(journal, history, records.TermStarted(term=history.term + 1))
        journal.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT COUNT(*) FROM record").fetchone()[0] == 1
    db.close()
    assert replayed(path).term == 5


def test_kill_9_in_the_middle_of_appends_loses_nothing_that_was_acknowledged(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    acknowledged = 0
    for lines in (1, 4, 17, 40):
        process = start_appender(path)
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        assert ready[0] == "ready"
        assert int(ready[1]) >= acknowledged
        for _ in range(lines):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        acknowledged = max([acknowledged, *map(int, rest)])
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    history = replayed(path)
    assert history.epoch in {acknowledged, acknowledged + 3}, "whole batches only, and every acknowledged one"


def test_a_full_disk_is_an_error_and_no_acknowledgement(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    process = start_appender(path, limit=100_000)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    *acknowledged, last = out.splitlines()
    assert last.startswith("error StorageError")
    assert str(path) in last
    assert replayed(path).epoch == int(acknowledged[-1])


def test_a_second_process_on_one_file_is_refused_by_name(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    process = start_appender(path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready")
    with pytest.raises(AlreadyExistsError, match=r"in use by another coordinator.*--journal"):
        Journal(path)
    process.kill()
    process.communicate()
    assert replayed(path).term == 0


def test_a_second_journal_in_one_process_is_refused_by_name(tmp_path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    with pytest.raises(AlreadyExistsError, match="in use"):
        Journal(tmp_path / "journal.sqlite")
    journal.close()


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_was(tmp_path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes\n" * 100)
    with pytest.raises(StorageError, match=r"notes\.txt.*no journal.*move it away"):
        Journal(path)
    assert path.read_text().startswith("not a database")


@pytest.mark.parametrize("at", [0, 24, 100])
def test_a_damaged_file_is_named_when_it_is_opened_or_replayed(tmp_path, at: int) -> None:
    path = tmp_path / "journal.sqlite"
    journal, history = Journal(path), History()
    append(journal, history, *(records.TermStarted(term=term) for term in range(1, 2000)))
    journal.close()
    body = bytearray(path.read_bytes())
    body[at : at + 40] = b"\xee" * 40
    path.write_bytes(body)
    with pytest.raises(StorageError, match="damaged"):
        replayed(path)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(["a tag of a later release", 1]),
        msgspec.msgpack.encode(["term"]),
        msgspec.msgpack.encode(["term", "one"]),
        msgspec.msgpack.encode(["rank_arrived", "never begun", [0, "w", "k", "d", 1]]),
        msgspec.msgpack.encode(["restored", "c", 1, 0, 0, {"data": 5}]),
    ],
)
def test_a_damaged_record_is_named_and_not_skipped(tmp_path, body: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    journal, history = Journal(path), History()
    append(journal, history, TERM, DATASET)
    journal.close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO record (body) VALUES (?)", (body,))
    db.close()
    with pytest.raises(StorageError, match=r"journal\.sqlite.*cannot be replayed.*restore a copy"):
        replayed(path)


@pytest.mark.parametrize("body", [b"", b"\xc1", msgspec.msgpack.encode({}), msgspec.msgpack.encode([1]), b"\x05"])
def test_a_damaged_snapshot_is_named(tmp_path, body: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    journal, history = Journal(path, snapshot_every=1), History()
    append(journal, history, TERM)
    journal.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE snapshot SET body = ?", (body,))
    db.close()
    with pytest.raises(StorageError, match=r"journal\.sqlite.*cannot be replayed"):
        replayed(path)


def test_a_journal_of_a_later_release_is_refused_with_both_versions(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StorageError, match=f"schema {SCHEMA_VERSION + 1}, this release reads {SCHEMA_VERSION}"):
        Journal(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:  # root may write anywhere
        for place in (tmp_path, *tmp_path.parents[:3]):
            place.chmod(0o755)
        os.seteuid(65_534)
    try:
        with pytest.raises(StorageError, match=r"read-only/journal\.sqlite.*--journal"):
            Journal(folder / "journal.sqlite")
        with pytest.raises(StorageError, match=r"read-only/deeper/journal\.sqlite.*Permission denied.*--journal"):
            Journal(folder / "deeper" / "journal.sqlite")
    finally:
        os.seteuid(user)


def test_a_path_that_is_a_folder_or_below_a_file_is_named(tmp_path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        Journal(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        Journal(tmp_path / "file" / "journal.sqlite")


def test_the_journals_folder_is_the_owners_alone(tmp_path) -> None:
    Journal(tmp_path / "new" / "journal.sqlite").close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
