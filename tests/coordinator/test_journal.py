"""The journal on a real disk: what was appended is there again, in a file of bounded size, owned by one process."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from strata_zmq.coordinator.core import records
from strata_zmq.coordinator.core.history import History
from strata_zmq.coordinator.journal import Journal
from strata_zmq.errors import AlreadyExistsError, StorageError
from strata_zmq.protocol import messages as wire

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


def released(number: int, *, participants: list[str]) -> records.BarrierReleased:
    return records.BarrierReleased(
        generation=1, name="step", step=number, participants=participants, commit=False, ranges={}
    )


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
            worker.staged(name)
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
    job.supervisor().ask(wire.SendCommand(command="drain")).got(wire.Done)
    of_the_past = {records.GenerationFormed}
    assert {type(record) for record in job.records} == set(get_args(records.Record)) - of_the_past
    return job


@pytest.mark.parametrize("snapshot_every", [1, 2, 7, 10_000])
def test_a_replay_of_the_file_is_the_live_history(tmp_path, eventful, snapshot_every: int) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, snapshot_every=snapshot_every)
    history = journal.replay()
    for at in range(0, len(eventful.records), 3):
        append(journal, history, *eventful.records[at : at + 3])
    journal.close()
    assert replayed(path).to_snapshot() == eventful.history.to_snapshot()


def test_an_empty_journal_gives_an_empty_history(tmp_path) -> None:
    assert replayed(tmp_path / "deep" / "folder" / "journal.sqlite").to_snapshot() == History().to_snapshot()


def test_a_batch_is_one_row_and_one_commit(tmp_path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    history = journal.replay()
    append(journal, history, TERM, DATASET)
    append(journal, history, *(released(number, participants=["w0"]) for number in range(100)))
    assert journal.position == 2
    journal.close()
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        assert db.execute("SELECT position, records FROM batch").fetchall() == [(1, 2), (2, 100)]


@pytest.mark.parametrize("by", ["records", "bytes"])
def test_the_file_holds_at_most_three_snapshots_and_the_batches_of_two_intervals(tmp_path, by: str) -> None:
    """Snapshots come by the number of records and by their bytes; neither the file nor its log grows with time."""
    path = tmp_path / "journal.sqlite"
    limits = {"snapshot_every": 300} if by == "records" else {"snapshot_bytes": 60_000}
    journal = Journal(path, **limits)
    history = journal.replay()
    names = [f"worker-{number}" for number in range(10)]
    batch = 3
    largest, log = 0, 0
    for number in range(0, 15_000, batch):
        append(journal, history, *(released(number + at, participants=names) for at in range(batch)))
        largest = max(largest, path.stat().st_size)
        log = max(log, path.with_name("journal.sqlite-wal").stat().st_size)
    journal.close()
    snapshot = len(history.to_snapshot())
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM snapshot").fetchone()[0] == 2
        rows, size = db.execute("SELECT SUM(records), SUM(LENGTH(body)) FROM batch").fetchone()
    interval = 300 * (size // rows) if by == "records" else 60_000
    one = batch * (size // rows)
    assert rows <= 2 * (300 + batch) if by == "records" else size <= 2 * (60_000 + one)
    page = 1.5  # a page is never quite full
    assert largest <= page * (3 * snapshot + 2 * (interval + one)) + 10 * 4096
    assert log <= 4 * 2**20 + 2 * (snapshot + 10 * 4096) + 1000 * 24
    assert replayed(path).releases == 15_000


def test_a_snapshot_larger_than_the_interval_is_not_written_after_every_batch(tmp_path) -> None:
    """A snapshot waits until as many bytes have come as the last one has: writing it at most doubles the bytes."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, snapshot_bytes=1)
    history = journal.replay()
    for number in range(2000):
        append(journal, history, released(number, participants=[f"worker-{one}" for one in range(20)]))
    journal.close()
    with closing(sqlite3.connect(path)) as db:
        older, newer = (row[0] for row in db.execute("SELECT position FROM snapshot ORDER BY position"))
        (between,) = db.execute(
            "SELECT SUM(LENGTH(body)) FROM batch WHERE position > ? AND position <= ?", (older, newer)
        ).fetchone()
        (size,) = db.execute("SELECT LENGTH(body) FROM snapshot WHERE position = ?", (older,)).fetchone()
    assert between >= size


def test_what_a_restart_finds_counts_towards_the_next_snapshot(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    for _ in range(9):
        journal = Journal(path, snapshot_every=4)
        history = journal.replay()
        append(journal, history, records.TermStarted(term=history.term + 1))
        journal.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT position FROM snapshot ORDER BY position").fetchall() == [(4,), (8,)]
        assert db.execute("SELECT MIN(position), MAX(position) FROM batch").fetchone() == (5, 9)
    assert replayed(path).term == 9


def test_a_log_that_was_given_its_size_at_once_reads_as_one_that_grew(tmp_path) -> None:
    """Also after kill -9, when what was reserved and never used lies behind the last commit."""
    path, log = tmp_path / "journal.sqlite", tmp_path / "journal.sqlite-wal"
    journal, history = Journal(path), History()
    append(journal, history, TERM)
    journal.reserve()
    reserved = log.stat().st_size
    for number in range(1, 100):
        append(journal, history, released(number, participants=["w0"]))
    assert log.stat().st_size == reserved == 4 * 2**20
    (tmp_path / "killed").mkdir()
    for file in (path, log):
        shutil.copy(file, tmp_path / "killed" / file.name)
    journal.close()
    assert replayed(tmp_path / "killed" / path.name).to_snapshot() == history.to_snapshot()


def test_the_story_says_how_long_the_replay_took_and_what_it_read(tmp_path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, snapshot_every=5)
    history = journal.replay()
    assert re.fullmatch(r"no snapshot and 0 records in 0 batches behind it, read in \d+ ms", journal.story)
    for number in range(4):
        append(journal, history, released(2 * number, participants=[]), released(2 * number + 1, participants=[]))
    journal.close()
    journal = Journal(path)
    journal.replay()
    journal.close()
    assert re.fullmatch(r"snapshot of batch 3 and 2 records in 1 batches behind it, read in \d+ ms", journal.story)


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


def test_somebody_elses_database_is_refused_and_left_as_it_was(tmp_path) -> None:
    path = tmp_path / "address-book.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE friend (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"address-book\.sqlite.* is a database, but no journal.*--journal"):
        Journal(path)
    assert path.read_bytes() == before


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
